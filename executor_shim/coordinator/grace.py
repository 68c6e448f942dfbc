"""How long everything may take when Mesos ends the executor."""

from __future__ import annotations

DEFAULT = 5.0
"""Seconds. Mesos: `--executor_shutdown_grace_period`."""

_UNITS = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "secs": 1.0, "mins": 60.0, "hrs": 3600.0, "days": 86400.0, "weeks": 604800.0,
}  # fmt: skip


def parse_duration(text: str) -> float:
    """Seconds of a duration as Mesos writes it: digits and a point, then the unit, nothing between.

    Raises:
        ValueError: it is none.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(number) :]
    digits = number.replace(".", "", 1)
    if unit not in _UNITS or not digits.isdecimal() or not digits.isascii():
        raise ValueError("not a duration: digits and one of " + " ".join(_UNITS))
    return float(number) * _UNITS[unit]


def time_to_live(environment_value: str | None) -> float:
    """Seconds that task processes get of the grace period: all but 2 s for the last statuses; under 3 s nothing.

    A value that Mesos would not write counts as the default: a framework can set the variable.
    """
    try:
        grace = parse_duration(environment_value) if environment_value is not None else DEFAULT
    except ValueError:
        grace = DEFAULT
    return grace - 2.0 if grace >= 3.0 else 0.0
