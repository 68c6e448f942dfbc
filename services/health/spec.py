"""What is probed and how often: taken from the task once, then kept in the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from services.common.task import InvalidTask, load
from services.common.task.aurora_health import RULES as RULE_NAMES
from services.common.task.checks import (
    CommandTarget,
    Expected,
    HttpTarget,
    Loopback,
    Source,
    Target,
    describe,
    type_of,
)
from services.common.task.environment import PROFILE, SANDBOX, environment_of, user_of
from services.health.model import Kind
from services.health.rules import Limits
from services.health.spec_records import read_spec, write_spec
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.common.keys import TaskKey
    from services.common.task import HealthCheck, LoadedTask, StatusCheck
    from trivet.link.v1 import link_pb2

SNOOZE_FILE = f"{SANDBOX}/.healthchecksnooze"
"""Aurora: while it is there, the task's health is not checked."""

MAX_REDIRECTS = 10
"""Aurora: as many as its HTTP library follows."""

LEAST_BODY = 4096
"""Bytes of a body that are read where one is compared: enough to show what came instead."""

_KINDS = {Kind.HEALTH: health_pb2.CHECK_KIND_HEALTH, Kind.CHECK: health_pb2.CHECK_KIND_CHECK}
_LOOPBACKS = {
    Loopback.EITHER: health_pb2.LOOPBACK_UNSPECIFIED,
    Loopback.IPV4: health_pb2.LOOPBACK_IPV4,
    Loopback.IPV6: health_pb2.LOOPBACK_IPV6,
}


@dataclass(frozen=True, slots=True)
class Spec:
    """One check of a task. `timeout` in seconds, 0: none."""

    kind: Kind
    source: Source
    target: Target
    expected: Expected
    timeout: float
    limits: Limits
    rule: str
    """Name of the verdict rule; fixed when the task comes."""
    gates: bool
    """RUNNING waits for it."""
    user: str = ""
    """Who runs commands; empty: the executor's own user."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What commands have besides their own variables: what every process of the task has."""

    @property
    def type(self) -> str:
        """What is probed with: `http`, `https`, `tcp` or `command`."""
        return type_of(self.target)

    def describe_target(self) -> str:
        """What is probed, one line for people."""
        return describe(self.target)

    def describe(self) -> str:
        """One line for people: what is probed and how often."""
        budget = f"timeout {self.timeout:g} s" if self.timeout else "no timeout"
        return f"{self.describe_target()} every {self.limits.interval:g} s, {budget}"

    def probe(self, key: TaskKey, probe_id: int) -> health_pb2.Probe:
        """One attempt, for the driver."""
        probe = health_pb2.Probe(key=key.to_pb(), id=probe_id, timeout_secs=self.timeout, check=_KINDS[self.kind])
        if self.kind is Kind.HEALTH:
            probe.snooze_file = SNOOZE_FILE
        target = self.target
        if isinstance(target, HttpTarget):
            http = probe.http
            http.port, http.path, http.tls = target.port, target.path, target.tls
            for name in sorted(target.headers):
                http.headers.add(name=name, value=target.headers[name])
            http.loopback = _LOOPBACKS[target.loopback]
            http.max_redirects = MAX_REDIRECTS
            http.body_limit = _body_limit(self.expected.body)
        elif isinstance(target, CommandTarget):
            command = probe.command
            command.argv[:] = target.argv
            command.env.update({**self.env, **target.env})
            command.cwd = SANDBOX
            command.user = self.user
            command.profile = PROFILE
        else:
            probe.tcp.port, probe.tcp.loopback = target.port, _LOOPBACKS[target.loopback]
        return probe

    def to_json(self) -> dict[str, object]:
        """For the journal; `spec_of_json` reads it."""
        return write_spec(self)


def _body_limit(expected: str) -> int:
    # What is around the text does not count, and a letter may change its length with its case.
    wanted = expected.strip()
    return max(LEAST_BODY, 4 * len(wanted.encode())) if wanted else 0


def specs_of_info(info: bytes, hello: link_pb2.Hello, aurora_rule: str) -> tuple[Spec, ...]:
    """The checks of a serialised TaskInfo; none also for an invalid task, which the runner refuses.

    Args:
        info: As received.
        hello: The executor that runs it.
        aurora_rule: What an Aurora configuration that names no rule gets: `time` or `attempts`.
    """
    try:
        loaded = load(mesos_pb2.TaskInfo.FromString(info), hostname=hello.hostname)
    except (InvalidTask, DecodeError):
        return ()
    return specs_of_task(loaded, hello, aurora_rule)


def specs_of_task(loaded: LoadedTask, hello: link_pb2.Hello, aurora_rule: str) -> tuple[Spec, ...]:
    """The task's checks, that for its health first.

    Args:
        loaded: The task, valid.
        hello: The executor that runs it.
        aurora_rule: As in `specs_of_info`.
    """
    user = user_of(loaded, hello.uid)
    env = environment_of(hello.sandbox, user)
    specs = []
    if loaded.health is not None:
        specs.append(_health_spec(loaded.health, RULE_NAMES[aurora_rule], user, env))
    if loaded.check is not None:
        specs.append(_check_spec(loaded.check, user, env))
    return tuple(specs)


def _health_spec(check: HealthCheck, default_rule: str, user: str, env: Mapping[str, str]) -> Spec:
    limits = Limits(
        initial_interval=check.grace,
        interval=check.interval,
        max_failures=check.max_failures,
        min_successes=check.min_successes,
        delay=check.delay,
    )
    return Spec(
        kind=Kind.HEALTH,
        source=check.source,
        target=check.target,
        expected=check.expected,
        timeout=check.timeout,
        limits=limits,
        rule=check.rule or default_rule,
        gates=check.gates,
        user=user,
        env=env,
    )


def _check_spec(check: StatusCheck, user: str, env: Mapping[str, str]) -> Spec:
    return Spec(
        kind=Kind.CHECK,
        source=Source.MESOS,
        target=check.target,
        expected=Expected(),
        timeout=check.timeout,
        limits=Limits(0.0, check.interval, 0, 1, check.delay),
        rule="check",
        gates=False,
        user=user,
        env=env,
    )


def spec_of_json(record: Mapping[str, object]) -> Spec:
    """What `Spec.to_json` wrote, also what it wrote when a task had one check alone.

    Raises:
        ValueError: The record does not hold a check that this version knows.
    """
    return Spec(**read_spec(record))
