"""Mesos' duration grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent.core import durations

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("15mins", 900 * SECOND),
        ("7500ms", 7_500_000_000),
        ("0.5secs", SECOND // 2),
        ("1.0625days", 91800 * SECOND),
        ("0ns", 0),
        (".5us", 500),
    ],
)
def test_a_number_and_a_unit_are_a_duration(text: str, nanoseconds: int) -> None:
    assert durations.parse(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "5", "5s", "5 secs", "-5secs", "+1secs", "1e3secs", "secs", "1m", "999999999weeks"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (90 * SECOND, "90secs"),
        (900 * SECOND, "15mins"),
        (7_500_000_000, "7500ms"),
        (36 * 3600 * SECOND, "36hrs"),
        (7 * 86400 * SECOND, "1weeks"),
        (91800 * SECOND, "1.0625days"),
        (5 * SECOND, "5secs"),
        (0, "0ns"),
    ],
)
def test_durations_are_printed_as_mesos_prints_them(nanoseconds: int, text: str) -> None:
    assert durations.render(nanoseconds) == text


@given(st.integers(0, 10**15))
def test_what_is_printed_can_be_read_again(nanoseconds: int) -> None:
    # 15 digits, as in Mesos.
    assert durations.parse(durations.render(nanoseconds)) == pytest.approx(nanoseconds, rel=1e-14, abs=1)
