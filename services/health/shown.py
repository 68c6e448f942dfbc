"""Checks as operators see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common.task.checks import HttpTarget
from services.health.interpret import Meaning, describe
from services.health.model import Cause, Kind, Phase
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.health.entry import Entry
    from services.health.history import Recorded
    from services.health.model import Check
    from services.health.spec import Spec

KINDS = {Kind.HEALTH: health_pb2.CHECK_KIND_HEALTH, Kind.CHECK: health_pb2.CHECK_KIND_CHECK}
_NAMED = {number: kind for kind, number in KINDS.items()}
_PHASES = {
    Phase.IDLE: health_pb2.CHECK_PHASE_IDLE,
    Phase.PROBING: health_pb2.CHECK_PHASE_PROBING,
    Phase.STOPPED: health_pb2.CHECK_PHASE_STOPPED,
}


def kind_of(check: health_pb2.CheckKind) -> Kind | None:
    """The kind that a message names, unspecified being that of health; None: one that is not known here."""
    return Kind.HEALTH if check == health_pb2.CHECK_KIND_UNSPECIFIED else _NAMED.get(check)


def is_snoozed(check: Check, now: float) -> bool:
    """Nothing is probed now, on purpose: the file was there at the last attempt, or an operator has asked for it."""
    called = check.snoozed_until is not None and check.snoozed_until > now
    return called or (check.gap is not None and check.gap.cause is Cause.SNOOZED)


def check_of(entry: Entry, kind: Kind, now: float) -> health_pb2.Check:
    """One check as it is now.

    Args:
        entry: Its task.
        kind: Which of the task's checks.
        now: CLOCK_BOOTTIME, seconds.

    Raises:
        KeyError: The task has none of that kind.
    """
    check, spec = entry.check(kind), entry.checked[kind].spec
    shown = health_pb2.Check(
        key=entry.key.to_pb(),
        phase=_PHASES[check.phase],
        rule=spec.rule,
        description=spec.describe(),
        verdict=entry.verdict(),
        probes=check.probes,
        failures=check.failures,
        transients=check.transients,
        attached=entry.session is not None,
        kind=KINDS[kind],
        type=spec.type,
        snoozes=check.snoozes,
        snoozed=is_snoozed(check, now),
        fatal_failures=max(spec.limits.max_failures, 0) + 1 if kind is Kind.HEALTH else 0,
    )
    newest = entry.checked[kind].history.newest()
    if newest is not None:
        shown.last.CopyFrom(result_of(newest))
    if check.snoozed_until is not None and check.snoozed_until > now:
        shown.snoozed_for_secs = check.snoozed_until - now
    if entry.session is None:
        shown.unattached_secs = max(now - entry.alone_since, 0.0)
    if check.gap is not None:
        shown.unprobed_secs = max(now - check.gap.since, 0.0)
        shown.unprobed_reason = check.gap.detail
    if check.due is not None:
        shown.next_probe_secs = max(check.due - now, shown.snoozed_for_secs, 0.0)
    return shown


def config_of(spec: Spec) -> health_pb2.CheckConfig:
    """The configuration as it is acted on."""
    limits = spec.limits
    return health_pb2.CheckConfig(
        source=spec.source.value,
        gates=spec.gates,
        target=spec.describe_target(),
        delay_secs=limits.delay,
        interval_secs=limits.interval,
        timeout_secs=spec.timeout,
        grace_secs=limits.initial_interval,
        max_consecutive_failures=limits.max_failures,
        min_consecutive_successes=limits.min_successes,
        expected=describe(spec.expected) if isinstance(spec.target, HttpTarget) else "",
    )


def results_of(history: Iterable[Recorded]) -> list[health_pb2.RecordedResult]:
    """What a check has found, oldest first."""
    return [result_of(recorded) for recorded in history]


def result_of(recorded: Recorded) -> health_pb2.RecordedResult:
    """One result."""
    return health_pb2.RecordedResult(
        at=recorded.at,
        success=recorded.meaning is Meaning.SUCCESS,
        transient=recorded.meaning is Meaning.TRANSIENT,
        snoozed=recorded.meaning is Meaning.SNOOZED,
        detail=recorded.detail,
        latency_secs=recorded.latency,
    )
