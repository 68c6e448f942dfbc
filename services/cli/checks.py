"""A task's checks as `trivet validate` shows them: what is probed, how often, and what follows from it.

No command lines: they may hold secrets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from services.cli.views.texts import printable
from services.common.task.aurora_health import RULES
from services.common.task.checks import (
    CommandTarget,
    Expected,
    HealthCheck,
    HttpTarget,
    Source,
    StatusCheck,
    Target,
    describe,
    type_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.common.task.offline import Examined

_DEFAULT_RULE = "aurora-time, unless trivet-health --aurora-rule says otherwise"
_BY_PORT = "if the agent assigns a port `health`"


def facts(examined: Examined) -> Iterator[tuple[str, str]]:
    """Lines for people: what each is about, and its text. A line without the former belongs to the one before."""
    loaded = examined.loaded
    if loaded is None:
        return
    health = loaded.health
    if health is None:
        yield "health", f"HTTP {_BY_PORT}" if examined.health_by_port else "none"
    else:
        yield "health", _often(health, examined.health_port)
        if isinstance(health.target, HttpTarget):
            yield "", f"success: {_expected(health.expected)}"
        yield "", f"rule {health.rule or _DEFAULT_RULE}"
        yield "", _verdict(health)
        if examined.health_by_port:
            yield "", f"Aurora's HTTP check instead {_BY_PORT}"
    if loaded.check is not None:
        yield "check", _often(loaded.check, "")
        yield "", "its results are told, and decide nothing"


def _often(check: HealthCheck | StatusCheck, port: str) -> str:
    budget = f"timeout {check.timeout:g} s" if check.timeout else "no timeout"
    first = f", first after {check.delay:g} s" if check.delay else ""
    return f"{_target(check.target, port)} every {check.interval:g} s, {budget}{first}"


def _target(target: Target, port: str) -> str:
    if isinstance(target, CommandTarget):
        return "a " + describe(target).partition(' "')[0]
    return printable(describe(target, f"({port})" if port else ""))


def _expected(expected: Expected) -> str:
    ranges = [f"{first}" if first == last else f"{first}-{last}" for first, last in expected.statuses]
    words = [f"status {' or '.join(ranges)}"] if ranges else []
    if expected.body.strip():
        words.append(f"body '{printable(expected.body.strip()[:80])}'")
    return ", ".join(words) or "any answer"


def _verdict(health: HealthCheck) -> str:
    """When the task is RUNNING, and when it is ended."""
    successes, failures = health.min_successes, health.max_failures + 1
    passed = f"{successes} success{'es in a row' if successes > 1 else ''}"
    fatal = f"{failures} failure{'s in a row' if failures > 1 else ''}"
    if health.source is Source.MESOS:
        running = f"after {passed}" if health.gates else "at once"
        return f"RUNNING {running}; {fatal} after {health.grace:g} s or the first success: KILLED"
    if health.rule == RULES["attempts"]:
        forgiven = math.ceil(round(health.grace / health.interval, 9))
        attempts = forgiven + health.max_failures + successes
        return f"RUNNING after {passed} within {attempts} attempts; {fatal} after {forgiven} attempts: FAILED"
    return f"RUNNING after {passed} within {health.grace:g} s; {fatal} after that: FAILED"


def as_objects(examined: Examined) -> dict[str, Any]:
    """The same for programs. Times in seconds; a port that only the agent knows is null."""
    loaded = examined.loaded
    if loaded is None:
        return {}
    health, check = loaded.health, loaded.check
    said: dict[str, Any] = {"health": None, "check": None}
    if health is not None:
        said["health"] = {
            "source": health.source.value,
            "rule": health.rule,
            "gates": health.gates,
            **_object(health, examined.health_port),
            "grace_secs": health.grace,
            "max_consecutive_failures": health.max_failures,
            "min_consecutive_successes": health.min_successes,
        }
    if check is not None:
        said["check"] = _object(check, "")
    return said


def _object(check: HealthCheck | StatusCheck, port: str) -> dict[str, Any]:
    target = check.target
    said: dict[str, Any] = {"type": type_of(target)}
    if not isinstance(target, CommandTarget):
        said["port"] = None if port else target.port
    if isinstance(target, HttpTarget):
        said["path"] = target.path
    return said | {"delay_secs": check.delay, "interval_secs": check.interval, "timeout_secs": check.timeout}
