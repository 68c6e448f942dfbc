from __future__ import annotations

import pytest

from executor_shim.coordinator.options import OptionError, Options


def test_everything_but_the_hidden_options_is_handed_on_verbatim() -> None:
    options = Options(
        ["--services=/a=b", "--beat-timeout", "2", "--linger", "0.5", "--driver-argv", '["x"]', "--service-deadline=9"]
    )
    assert options.handed_on == ["--services=/a=b", "--linger", "0.5", "--service-deadline=9"]
    assert options.beat_timeout == 2
    assert options.driver_argv == ["x"]
    assert options.values["--services"] == "/a=b"


def test_defaults() -> None:
    options = Options(["--services", "/x"])
    assert options.beat_timeout == 10
    assert options.driver_argv == []


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["--services", ""], "--services: must not be empty"),
        (["--services", "/x", "--linger", "-1"], "--linger: must be a number"),
        (["--services", "/x", "--linger", "nan"], "--linger: must be a number"),
        (["--services", "/x", "--linger", "inf"], "--linger: must be a number"),
        (["--services", "/x", "stray"], "stray: unknown option"),
        (["--help=yes"], "--help: unknown option"),
    ],
)
def test_wrong_ones_are_named(argv: list[str], error: str) -> None:
    with pytest.raises(OptionError, match=error):
        Options(argv)
