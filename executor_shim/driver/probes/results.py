"""What came of a probe, in the words of the contract."""

from __future__ import annotations

import math

from trivet.health.v1 import health_pb2


class NoAnswer(Exception):
    """The target gave no answer: refused, reset, not HTTP. The text is one line for people."""


class NotMade(Exception):
    """The probe could not be made, for a reason that is not the target's. The text is one line for people."""


def budget(probe: health_pb2.Probe) -> float | None:
    """Seconds for the whole probe; None: as long as it takes."""
    seconds = probe.timeout_secs
    return seconds if 0 < seconds < math.inf else None


def result_of(probe: health_pb2.Probe) -> health_pb2.ProbeResult:
    """A result that goes with a probe, still without an outcome."""
    return health_pb2.ProbeResult(key=probe.key, id=probe.id, check=probe.check)


def transient(probe: health_pb2.Probe, why: str) -> health_pb2.ProbeResult:
    """A probe that could not be made: neither success nor failure."""
    result = result_of(probe)
    result.outcome = health_pb2.PROBE_OUTCOME_TRANSIENT
    result.error = one_line(why)
    return result


def no_answer(probe: health_pb2.Probe, why: str) -> health_pb2.ProbeResult:
    """The target's failure, or that of who has configured the probe."""
    result = result_of(probe)
    result.outcome = health_pb2.PROBE_OUTCOME_NO_ANSWER
    result.error = one_line(why)
    return result


def timed_out(probe: health_pb2.Probe, what: str) -> health_pb2.ProbeResult:
    """No end within the budget; `what`: "answer", "connection", "end"."""
    result = result_of(probe)
    result.outcome = health_pb2.PROBE_OUTCOME_TIMEOUT
    result.error = f"no {what} within {probe.timeout_secs:g} s"
    return result


def snoozed(probe: health_pb2.Probe) -> health_pb2.ProbeResult:
    """The snooze file is there."""
    result = result_of(probe)
    result.outcome = health_pb2.PROBE_OUTCOME_SNOOZED
    return result


def one_line(text: str) -> str:
    """Printable, and short enough for a message."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]
