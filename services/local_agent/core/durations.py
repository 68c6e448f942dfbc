"""Durations as Mesos writes them: `90secs`, `15mins`, `7500ms` (Mesos: environment contract, duration grammar)."""

from __future__ import annotations

import re
from decimal import Decimal

# Ascending; one unit's length in nanoseconds.
UNITS: tuple[tuple[str, int], ...] = (
    ("ns", 1),
    ("us", 10**3),
    ("ms", 10**6),
    ("secs", 10**9),
    ("mins", 60 * 10**9),
    ("hrs", 3600 * 10**9),
    ("days", 86400 * 10**9),
    ("weeks", 7 * 86400 * 10**9),
)
_LENGTH = dict(UNITS)
_SHORT = {"s": "secs", "m": "mins", "h": "hrs"}
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-z]+)")
MAX_NANOSECONDS = 2**63 - 1


def parse(text: str) -> int:
    """Nanoseconds of a Mesos duration.

    Raises:
        ValueError: Not a number followed by one of ns, us, ms, secs, mins, hrs, days, weeks; or more than 292 years.
    """
    match = _TEXT.fullmatch(text)
    if match is None or match[2] not in _LENGTH:
        units = ", ".join(name for name, _ in UNITS)
        raise ValueError(f"{text!r} is not a duration: a number and one of {units}, such as 15mins")
    nanoseconds = int(Decimal(match[1]) * _LENGTH[match[2]])
    if nanoseconds > MAX_NANOSECONDS:
        raise ValueError(f"{text!r} is too long a duration")
    return nanoseconds


def parse_flag(text: str) -> int:
    """The same for people: `s`, `m` and `h` stand for secs, mins and hrs.

    Raises:
        ValueError: As of `parse`.
    """
    match = _TEXT.fullmatch(text)
    if match is not None and match[2] in _SHORT:
        return parse(match[1] + _SHORT[match[2]])
    return parse(text)


def render(nanoseconds: int) -> str:
    """The text that Mesos prints: a whole number of the largest unit or of the next smaller one, else a fraction."""
    index = max((i for i, (_, length) in enumerate(UNITS) if nanoseconds >= length), default=0)
    for candidate in (index, index - 1):
        if candidate >= 0 and nanoseconds % UNITS[candidate][1] == 0:
            return f"{nanoseconds // UNITS[candidate][1]}{UNITS[candidate][0]}"
    name, length = UNITS[index]
    return f"{Decimal(nanoseconds) / Decimal(length):.15g}{name}"


def seconds(nanoseconds: int) -> float:
    """For timers."""
    return nanoseconds / 1e9
