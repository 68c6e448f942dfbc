"""What one probe result means: success, failure or transient, with a line for people.

Source: Aurora's HTTP and shell health checkers.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.health.spec import HttpTarget, ShellTarget
from trivet.health.v1 import health_pb2

# The driver sends at most this much of a body, so a longer one arrives cut.
BODY_LIMIT = 4096
# Characters of a body or output that a reason quotes.
QUOTE_LIMIT = 128
FIRST_ERROR_STATUS = 400


class Meaning(enum.Enum):
    """What a result counts as."""

    SUCCESS = "success"
    FAILURE = "failure"
    TRANSIENT = "transient"
    """The attempt could not be made: counts neither way."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An interpreted result. `detail` is one line for people."""

    meaning: Meaning
    detail: str


def read(target: HttpTarget | ShellTarget, timeout: float, result: health_pb2.ProbeResult) -> Reading:
    """Interprets what the driver found.

    Args:
        target: What was probed.
        timeout: Its budget in seconds, for the text.
        result: From the driver.
    """
    what = "HTTP health check" if isinstance(target, HttpTarget) else "shell health check"
    match result.outcome:
        case health_pb2.PROBE_OUTCOME_DONE if isinstance(target, HttpTarget):
            return _read_http(what, target, result)
        case health_pb2.PROBE_OUTCOME_DONE:
            return _read_shell(what, result)
        case health_pb2.PROBE_OUTCOME_TIMEOUT:
            return Reading(Meaning.FAILURE, f"{what} timed out after {timeout:g} s{_output(result)}")
        case health_pb2.PROBE_OUTCOME_NO_ANSWER:
            return Reading(Meaning.FAILURE, f"{what} failed: {quote(result.error) or 'no answer'}")
        case health_pb2.PROBE_OUTCOME_TRANSIENT:
            return Reading(Meaning.TRANSIENT, f"{what} could not be made: {quote(result.error) or 'no cause given'}")
    # A newer driver's word must not end a task that this version does not understand.
    return Reading(Meaning.TRANSIENT, f"{what}: outcome {result.outcome} is not known here")


def _read_http(what: str, target: HttpTarget, result: health_pb2.ProbeResult) -> Reading:
    status = result.http_status
    if not status:
        return Reading(Meaning.TRANSIENT, f"{what}: the driver named no status")
    complaints = []
    if target.expected_status and status != target.expected_status:
        complaints.append(f"expected status {target.expected_status}")
    expected = target.expected_body.strip().lower()
    if expected and not _body_matches(expected, status, result.body):
        complaints.append(f"expected body '{quote(expected)}', got '{quote(result.body)}'")
    if complaints:
        return Reading(Meaning.FAILURE, f"{what} failed: status {status}, {', '.join(complaints)}")
    return Reading(Meaning.SUCCESS, f"{what} passed")


def _body_matches(expected: str, status: int, body: bytes) -> bool:
    # An error's body counts as empty; of a cut one the rest is unknown; and what is not UTF-8 equals no text.
    if status >= FIRST_ERROR_STATUS or len(body) >= BODY_LIMIT:
        return False
    try:
        return body.decode().strip().lower() == expected
    except UnicodeDecodeError:
        return False


def _read_shell(what: str, result: health_pb2.ProbeResult) -> Reading:
    if result.exit.HasField("signal"):
        return Reading(Meaning.FAILURE, f"{what} failed: ended by signal {result.exit.signal}{_output(result)}")
    if not result.exit.HasField("code"):
        # A lost exit status is never 0, and not the task's fault either.
        return Reading(Meaning.TRANSIENT, f"{what}: the exit status was lost")
    if result.exit.code:
        return Reading(Meaning.FAILURE, f"{what} failed: exit status {result.exit.code}{_output(result)}")
    return Reading(Meaning.SUCCESS, f"{what} passed")


def _output(result: health_pb2.ProbeResult) -> str:
    text = quote(result.output, tail=True)
    return f", output '{text}'" if text else ""


def quote(raw: bytes | str, *, tail: bool = False) -> str:
    """Text of a stranger, fit for one line of a log or status: printable, no line breaks, bounded.

    Args:
        raw: Anything.
        tail: Keep the end instead of the beginning.
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    # Not printable are also the marks that turn the direction of a terminal's text round.
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) <= QUOTE_LIMIT:
        return text
    return f"...{text[-QUOTE_LIMIT:]}" if tail else f"{text[:QUOTE_LIMIT]}..."
