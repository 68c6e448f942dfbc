"""Checks in words and as objects. Spans of time in a message are those of the moment when it was sent: `age` ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.cli.tasks.ps import key_object
from services.cli.tasks.texts import number_of, seconds, since
from services.cli.views.texts import printable
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from trivet.link.v1 import link_pb2

HEAD = ("TASK", "KIND", "TYPE", "RULE", "STATE", "LAST RESULT", "NEXT", "EXECUTOR")
# A column of the table; the whole reason is among the details.
_WHY_LIMIT = 40
_ID_LIMIT = 40


def row(check: health_pb2.Check, now: float, age: float = 0.0) -> tuple[str, ...]:
    """One check as columns.

    Args:
        check: as it was told.
        now: wall clock, seconds.
        age: seconds since it was told.
    """
    return (
        shortened(check.key.task_id),
        kind_name(check.kind),
        check.type,
        check.rule,
        state_words(check, age, why_limit=_WHY_LIMIT),
        last_words(check, now),
        next_words(check, age),
        shortened(check.key.executor.executor_id),
    )


def shortened(text: str) -> str:
    """An id of at most 40 characters, cut in the middle: what tells two ids apart is at their ends."""
    if len(text) <= _ID_LIMIT:
        return text
    kept = _ID_LIMIT - len("...")
    return f"{text[: kept // 2]}...{text[-(kept - kept // 2) :]}"


def kind_name(kind: int) -> str:
    """`health`; a number that this version does not know as it stands."""
    try:
        name: str = health_pb2.CheckKind.Name(health_pb2.CheckKind.ValueType(kind))
    except ValueError:
        return str(kind)
    return name.removeprefix("CHECK_KIND_").lower()


def phase_name(phase: int) -> str:
    """`PROBING`."""
    try:
        name: str = health_pb2.CheckPhase.Name(health_pb2.CheckPhase.ValueType(phase))
    except ValueError:
        return str(phase)
    return name.removeprefix("CHECK_PHASE_")


def state_words(check: health_pb2.Check, age: float = 0.0, why_limit: int = 0) -> str:
    """`STARTING`, `healthy, snoozed 5m00s`, `failing 2 of 3`, `healthy, unprobed 12s: the sandbox is gone`.

    While no driver is attached, `unattached 4m05s` is said instead of the verdict: the task may have ended meanwhile.

    Args:
        check: as it was told.
        age: seconds since it was told.
        why_limit: characters of a reason; 0: all.
    """
    away = away_words(check, age)
    return ", ".join(filter(None, (away or verdict_words(check), halt_words(check, age, why_limit))))


def away_words(check: health_pb2.Check, age: float = 0.0) -> str:
    """`unattached 4m05s`: the driver of a task that has begun, and is not known to be ending, is away; else empty."""
    if check.attached or check.phase != health_pb2.CHECK_PHASE_PROBING:
        return ""
    # An older service does not tell since when.
    return f"unattached {seconds(check.unattached_secs + age)}" if check.HasField("unattached_secs") else "unattached"


def verdict_words(check: health_pb2.Check) -> str:
    """What is thought of the task, whether it is probed now or not."""
    verdict = check.verdict
    if check.phase == health_pb2.CHECK_PHASE_STOPPED:
        return "unhealthy, stopped" if verdict.dead and check.kind != health_pb2.CHECK_KIND_CHECK else "stopped"
    if check.phase == health_pb2.CHECK_PHASE_IDLE:
        return "not begun"
    if check.kind == health_pb2.CHECK_KIND_CHECK:
        return value_words(verdict.check_result)
    failures, successes = verdict.consecutive_failures, verdict.consecutive_successes
    in_a_row = number_of(failures, "failure", "failures in a row") if failures else ""
    if not verdict.passed:
        row_words = in_a_row or (number_of(successes, "success", "successes in a row") if successes else "")
        return ", ".join(filter(None, ("STARTING", row_words)))
    if not verdict.HasField("healthy"):
        return "undecided"
    if verdict.healthy:
        return ", ".join(filter(None, ("healthy", in_a_row)))
    return f"failing {failures} of {check.fatal_failures}" if check.fatal_failures else in_a_row or "unhealthy"


def value_words(result: link_pb2.CheckResult) -> str:
    """What a check that is only told has found last."""
    match result.WhichOneof("value"):
        case "exit_code":
            return f"exit code {result.exit_code}"
        case "http_status":
            return f"status {result.http_status}"
        case "connected":
            return "connected" if result.connected else "not connected"
    return "no value"


def halt_words(check: health_pb2.Check, age: float = 0.0, why_limit: int = 0) -> str:
    """Why nothing is probed now; empty: it is."""
    if check.HasField("snoozed_for_secs") and check.snoozed_for_secs > age:
        return f"snoozed {seconds(check.snoozed_for_secs - age)}"
    if not check.attached:
        # Why nothing is probed is said, and whether the snooze file is still there is not known.
        return ""
    if check.snoozed:
        return "snoozed (file)" if not check.HasField("snoozed_for_secs") else "snoozed until the next probe"
    if check.HasField("unprobed_secs"):
        why = printable(check.unprobed_reason)
        if why_limit and len(why) > why_limit:
            why = f"{why[:why_limit]}..."
        return f"unprobed {seconds(check.unprobed_secs + age)}: {why}"
    return ""


def last_words(check: health_pb2.Check, now: float) -> str:
    """`success in 2 ms, 3.1s ago`; `-`: there was none yet."""
    if not check.HasField("last"):
        return "-"
    last = check.last
    took = f" in {milliseconds(last.latency_secs)}" if last.latency_secs and not last.snoozed else ""
    return f"{outcome(last, check.kind)}{took}, {since(last.at, now)} ago"


def next_words(check: health_pb2.Check, age: float = 0.0) -> str:
    """When the next probe starts: `4.2s`, `now` while one is under way, `-` when none is planned."""
    if check.HasField("next_probe_secs"):
        return seconds(check.next_probe_secs - age)
    return "now" if check.attached and check.phase == health_pb2.CHECK_PHASE_PROBING else "-"


def outcome(result: health_pb2.RecordedResult, kind: int = health_pb2.CHECK_KIND_HEALTH) -> str:
    """One word for a result."""
    if result.snoozed:
        return "snoozed"
    if result.transient:
        return "transient"
    if kind == health_pb2.CHECK_KIND_CHECK:
        return "value" if result.success else "no value"
    return "success" if result.success else "failure"


def milliseconds(secs: float) -> str:
    """`0.4 ms`, `12 ms`, `1,500 ms`."""
    value = secs * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def as_object(check: health_pb2.Check) -> dict[str, Any]:
    """A check for programs. Times in seconds; no command lines."""
    verdict = check.verdict
    is_health = check.kind != health_pb2.CHECK_KIND_CHECK
    value = verdict.check_result.WhichOneof("value")
    told: dict[str, Any] = {
        "message": verdict.check_result.message or None,
        "value": {value: getattr(verdict.check_result, value)} if value else None,
        "changes": verdict.check_result.changes,
    }
    if is_health:
        told = {
            "message": verdict.message or None,
            "passed": verdict.passed,
            "healthy": verdict.healthy if verdict.HasField("healthy") else None,
            "dead": verdict.dead,
            "consecutive_failures": verdict.consecutive_failures,
            "consecutive_successes": verdict.consecutive_successes,
            "fatal_failures": check.fatal_failures,
        }
    return {
        "type": "check",
        **key_object(check.key),
        "kind": kind_name(check.kind),
        "probe": check.type,
        "rule": check.rule,
        "phase": phase_name(check.phase),
        **told,
        "attached": check.attached,
        "snoozed": check.snoozed,
        "snoozed_for_secs": _optional(check, "snoozed_for_secs"),
        "unattached_secs": _optional(check, "unattached_secs"),
        "unprobed_secs": _optional(check, "unprobed_secs"),
        "unprobed_reason": check.unprobed_reason or None,
        "next_probe_secs": _optional(check, "next_probe_secs"),
        "probes": check.probes,
        "failures": check.failures,
        "transients": check.transients,
        "snoozes": check.snoozes,
        "last": result_object(check.last, check.kind) if check.HasField("last") else None,
    }


def result_object(result: health_pb2.RecordedResult, kind: int) -> dict[str, Any]:
    """A result for programs. `at`: wall clock, seconds."""
    return {
        "at": result.at,
        "outcome": outcome(result, kind),
        "detail": result.detail,
        "latency_secs": result.latency_secs,
    }


def _optional(check: health_pb2.Check, name: str) -> Any:
    return getattr(check, name) if check.HasField(name) else None
