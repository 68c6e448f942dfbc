from __future__ import annotations

import pytest

from executor_shim.coordinator.grace import parse_duration, time_to_live


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5secs", 5), ("90secs", 90), ("15mins", 900), ("36hrs", 129600), ("1weeks", 604800), ("1.0625days", 91800),
        ("250ms", 0.25), ("3us", 3e-6), ("7ns", 7e-9), ("0ns", 0), (".5secs", 0.5), ("5.secs", 5),
    ],
)  # fmt: skip
def test_duration_as_mesos_writes_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "secs", "5s", "5m", "5 secs", "-5secs", "+5secs", "1e3secs", "1.2.3secs", ".secs", "5Secs", "²secs"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, 3), ("5secs", 3), ("3secs", 1), ("2999ms", 0), ("0ns", 0), ("1mins", 58), ("junk", 3)]
)
def test_two_seconds_are_kept_for_the_last_statuses(value: str | None, seconds: float) -> None:
    assert time_to_live(value) == pytest.approx(seconds)
