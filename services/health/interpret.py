"""What one probe result means, with a line for people.

Of a health check: success, failure or transient (Aurora: HTTP and shell health checkers; Mesos: checks, health
interpretation). Of a check that is not interpreted: a value or none (Mesos: CheckStatusInfo).
"""

from __future__ import annotations

import enum
import re
import signal
from dataclasses import dataclass

from services.common.task.checks import CommandTarget, Expected, HttpTarget, Target, TcpTarget
from services.health.hidden import hidden_of, masked
from services.health.model import Kind
from trivet.health.v1 import health_pb2

# A driver that does not say which check a result is of, does not say either that it has cut a body to this length.
OLD_BODY_LIMIT = 4096
# Characters of a body, an output, an error or an address that a reason quotes.
QUOTE_LIMIT = 128
# What is looked at for a quote: a long body costs no more than a short one.
_LOOK = 8 * QUOTE_LIMIT
FIRST_ERROR_STATUS = 400
_FAILED = " failed: "
_USER_INFO = re.compile(r"//[^/@]*@")


class Meaning(enum.Enum):
    """What a result counts as."""

    SUCCESS = "success"
    """Of a check that is not interpreted: the attempt has found a value."""
    FAILURE = "failure"
    """Of a check that is not interpreted: the attempt was made and has found none."""
    TRANSIENT = "transient"
    """The attempt could not be made: counts neither way."""
    SNOOZED = "snoozed"
    """The snooze file is there, so nothing was tried: counts neither way."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a check that is not interpreted has found: exactly one of these (Mesos: CheckStatusInfo)."""

    exit_code: int | None = None
    http_status: int | None = None
    connected: bool | None = None

    def __post_init__(self) -> None:
        if sum(found is not None for found in (self.exit_code, self.http_status, self.connected)) != 1:
            raise ValueError("not the value of a check: exactly one of exit_code, http_status, connected")

    def __str__(self) -> str:
        """For people."""
        if self.exit_code is not None:
            return f"exit code {self.exit_code}"
        if self.http_status is not None:
            return f"status {self.http_status}"
        return "connected" if self.connected else "not connected"

    def after(self, before: Value) -> str:
        """For people: what has changed, with the unit only once."""
        number = self.exit_code if self.http_status is None else self.http_status
        return f"{before} -> {self if number is None else number}"

    def to_json(self) -> dict[str, object]:
        """For the journal; `of_json` reads it."""
        if self.exit_code is not None:
            return {"exit_code": self.exit_code}
        if self.http_status is not None:
            return {"http_status": self.http_status}
        return {"connected": self.connected}

    @classmethod
    def of_json(cls, record: object) -> Value:
        """What `to_json` wrote.

        Raises:
            ValueError: The record does not hold a value.
        """
        match record:
            case {"connected": (True | False) as connected, **rest} if not rest:
                return cls(connected=connected)
            case {"exit_code": int(number), **rest} if not rest:
                return cls(exit_code=number)
            case {"http_status": int(number), **rest} if not rest:
                return cls(http_status=number)
        raise ValueError("not the value of a check")


@dataclass(frozen=True, slots=True)
class Reading:
    """An interpreted result. `detail` is one line for people."""

    meaning: Meaning
    detail: str
    value: Value | None = None
    """Only of a check that is not interpreted."""

    @property
    def success(self) -> bool:
        """It counts as a success; what does not count at all is none."""
        return self.meaning is Meaning.SUCCESS

    @property
    def counts(self) -> bool:
        """The attempt was made: a rule has to hear of it."""
        return self.meaning is Meaning.SUCCESS or self.meaning is Meaning.FAILURE


def read(target: Target, expected: Expected, timeout: float, result: health_pb2.ProbeResult, kind: Kind) -> Reading:
    """Interprets what the driver found. Never raises.

    Args:
        target: What was probed.
        expected: Of an HTTP answer; of no meaning for a check that is not interpreted.
        timeout: Its budget in seconds, for the text.
        result: From the driver.
        kind: Whether the result is judged or only told.
    """
    what = f"{_name(target)} {'health check' if kind is Kind.HEALTH else 'check'}"
    match result.outcome:
        case health_pb2.PROBE_OUTCOME_DONE if kind is Kind.HEALTH:
            return _judged(what, target, expected, result)
        case health_pb2.PROBE_OUTCOME_DONE:
            return _found(what, target, result)
        case health_pb2.PROBE_OUTCOME_TIMEOUT:
            cause = f"timed out after {timeout:g} s{_output(target, result)}"
            return _failed(what, cause) if kind is Kind.HEALTH else _unavailable(what, cause)
        case health_pb2.PROBE_OUTCOME_NO_ANSWER:
            cause = quote(masked(result.error, hidden_of(target))) or "no answer"
            if kind is Kind.HEALTH:
                return _failed(what, cause)
            if isinstance(target, TcpTarget):
                value = Value(connected=False)
                return Reading(Meaning.SUCCESS, f"{what}: {value}: {cause}", value)
            return _unavailable(what, cause)
        case health_pb2.PROBE_OUTCOME_TRANSIENT:
            cause = quote(masked(result.error, hidden_of(target))) or "no cause given"
            return Reading(Meaning.TRANSIENT, f"{what} could not be made: {cause}")
        case health_pb2.PROBE_OUTCOME_SNOOZED:
            return Reading(Meaning.SNOOZED, f"{what} snoozed: the snooze file is there")
    # A newer driver's word must not end a task that this version does not understand.
    return Reading(Meaning.TRANSIENT, f"{what}: outcome {result.outcome} is not known here")


def numbered(detail: str, number: int, limit: int) -> str:
    """The detail of a failure, with the place that it has in its row: `HTTP health check failed (2/3): ...`.

    Args:
        detail: Of a reading that is a failure.
        number: Which failure in a row it is.
        limit: How many in a row end the task.
    """
    return detail.replace(_FAILED, f" failed ({number}/{limit}): ", 1)


def _name(target: Target) -> str:
    match target:
        case HttpTarget():
            return "HTTPS" if target.tls else "HTTP"
        case TcpTarget():
            return "TCP"
        case CommandTarget():
            return "Command"


def _failed(what: str, cause: str) -> Reading:
    return Reading(Meaning.FAILURE, f"{what}{_FAILED}{cause}")


def _unavailable(what: str, cause: str) -> Reading:
    return Reading(Meaning.FAILURE, f"{what}: result unavailable: {cause}")


def _judged(what: str, target: Target, expected: Expected, result: health_pb2.ProbeResult) -> Reading:
    note = ""
    match target:
        case HttpTarget() if not result.http_status:
            return Reading(Meaning.TRANSIENT, f"{what}: the driver named no status")
        case HttpTarget():
            note = _redirect(target, result)
            cause = _complaint(target, expected, result)
        case CommandTarget() if not result.exit.HasField("signal") and not result.exit.HasField("code"):
            return _lost(what)
        case CommandTarget() if result.exit.HasField("signal"):
            cause = f"{_ended(result.exit.signal)}{_output(target, result)}"
        case CommandTarget():
            cause = (
                f"Command exited with status {result.exit.code}{_output(target, result)}" if result.exit.code else ""
            )
        case TcpTarget():
            cause = ""
    return _failed(what, cause + note) if cause else Reading(Meaning.SUCCESS, f"{what} passed{note}")


def _found(what: str, target: Target, result: health_pb2.ProbeResult) -> Reading:
    note = ""
    match target:
        case HttpTarget() if not result.http_status:
            return Reading(Meaning.TRANSIENT, f"{what}: the driver named no status")
        case HttpTarget():
            note = _redirect(target, result)
            value = Value(http_status=result.http_status)
        case CommandTarget() if result.exit.HasField("signal"):
            return _unavailable(what, f"{_ended(result.exit.signal)}{_output(target, result)}")
        case CommandTarget() if not result.exit.HasField("code"):
            return _lost(what)
        case CommandTarget():
            value = Value(exit_code=result.exit.code)
        case TcpTarget():
            value = Value(connected=True)
    return Reading(Meaning.SUCCESS, f"{what}: {value}{note}", value)


def _lost(what: str) -> Reading:
    # A lost exit status is never 0, and not the task's fault either.
    return Reading(Meaning.TRANSIENT, f"{what}: the exit status was lost")


def _complaint(target: Target, expected: Expected, result: health_pb2.ProbeResult) -> str:
    """What is wrong with an HTTP answer; empty: nothing."""
    status = result.http_status
    complaints = []
    if expected.statuses and not any(low <= status <= high for low, high in expected.statuses):
        complaints.append(f"expected status {_ranges(expected.statuses)}")
    body = expected.body.strip().lower()
    if body and not _body_matches(body, result):
        found = quote(masked(result.body, hidden_of(target)))
        complaints.append(f"expected body '{quote(body)}', got '{found}'")
    return f"status {status}, {', '.join(complaints)}" if complaints else ""


def describe(expected: Expected) -> str:
    """One line for people: what an answer must be; empty: any is good."""
    body = expected.body.strip()
    words = [f"status {_ranges(expected.statuses)}"] if expected.statuses else []
    return ", ".join(words + ([f"body '{quote(body)}'"] if body else []))


def _ranges(statuses: tuple[tuple[int, int], ...]) -> str:
    return " or ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in statuses)


def _body_matches(expected: str, result: health_pb2.ProbeResult) -> bool:
    cut = result.body_cut or (result.check == health_pb2.CHECK_KIND_UNSPECIFIED and len(result.body) >= OLD_BODY_LIMIT)
    # An error's body counts as empty; of a cut one the rest is unknown; and what is not UTF-8 equals no text.
    if result.http_status >= FIRST_ERROR_STATUS or cut:
        return False
    try:
        return result.body.decode().strip().lower() == expected
    except UnicodeDecodeError:
        return False


def _redirect(target: Target, result: health_pb2.ProbeResult) -> str:
    if not result.location:
        return ""
    # Queries and user names are where tokens travel.
    place = re.split(r"[?#]", _USER_INFO.sub("//", result.location), maxsplit=1)[0]
    return f" (redirect to '{quote(masked(place, hidden_of(target)))}' not followed)"


def _ended(number: int) -> str:
    try:
        name = signal.strsignal(number)
    except ValueError:
        name = None
    return f"Command terminated with signal {name or number}"


def _output(target: Target, result: health_pb2.ProbeResult) -> str:
    text = quote(masked(result.output, hidden_of(target)), tail=True)
    return f", output '{text}'" if text else ""


def quote(raw: bytes | str, *, tail: bool = False) -> str:
    """Text of a stranger, fit for one line of a log or status: printable, no line breaks, bounded.

    Args:
        raw: Anything.
        tail: Keep the end instead of the beginning.
    """
    cut = len(raw) > _LOOK
    if cut:
        raw = raw[-_LOOK:] if tail else raw[:_LOOK]
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    # Not printable are also the marks that turn the direction of a terminal's text round.
    if not text.isprintable():
        text = "".join([char if char.isprintable() else " " for char in text])
    text = " ".join(text.split())
    if len(text) <= QUOTE_LIMIT and not cut:
        return text
    return f"...{text[-QUOTE_LIMIT:]}" if tail else f"{text[:QUOTE_LIMIT]}..."
