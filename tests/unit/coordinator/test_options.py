from __future__ import annotations

import pytest

from executor_shim.coordinator.options import OptionError, Options


def test_everything_but_the_hidden_options_is_handed_on_in_pairs() -> None:
    options = Options(
        ["--services=/a=b", "--beat-timeout", "2", "--linger", "0.5", "--driver-argv", '["x"]', "--service-deadline=9"]
    )
    assert options.handed_on == ["--services", "/a=b", "--linger", "0.5", "--service-deadline", "9"]
    assert options.beat_timeout == 2
    assert options.driver_argv == ["x"]
    assert options.values["--services"] == "/a=b"


def test_the_driver_reads_what_is_handed_on_to_it() -> None:
    from executor_shim.driver.options import Options as DriverOptions

    own = ["--fd", "3", "--state-fds", "4,5", "--generation", "1", "--incarnation", "i"]
    plain = DriverOptions([*own, *Options(["--services=/s"]).handed_on])
    assert (plain.services, plain.linger, plain.preserve_env) == ("/s", 0, False)
    assert (plain.log_destination, plain.log_mode) == ("file", "standard")
    assert (plain.log_size, plain.log_backups) == (100 << 20, 5)
    given = [
        "--preserve-env", "--linger=3", "--process-logger-destination=both", "--process-logger-mode", "rotate",
        "--rotate-log-size-mb=7", "--rotate-log-backups", "2", "--services", "/s", "--service-deadline", "9",
    ]  # fmt: skip
    options = DriverOptions([*own, *Options(given).handed_on])
    assert (options.services, options.linger, options.service_deadline, options.preserve_env) == ("/s", 3, 9, True)
    assert (options.log_destination, options.log_mode) == ("both", "rotate")
    assert (options.log_size, options.log_backups) == (7 << 20, 2)


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
        (["--preserve-env=no"], "--preserve-env: unknown option"),
        (["--preserve-env"], "--services: missing"),
        (["--process-logger-destination", "tape"], "--process-logger-destination: must be file or console or both or "),
        (["--process-logger-mode", "file"], "--process-logger-mode: must be standard or rotate"),
        (["--rotate-log-size-mb", "0"], "--rotate-log-size-mb: must be a whole number, 1 or more"),
        (["--rotate-log-backups", "0"], "--rotate-log-backups: must be a whole number, 1 or more"),
        (["--rotate-log-backups", "1.5"], "--rotate-log-backups: must be a whole number, 1 or more"),
    ],
)
def test_wrong_ones_are_named(argv: list[str], error: str) -> None:
    with pytest.raises(OptionError, match=error):
        Options(argv)
