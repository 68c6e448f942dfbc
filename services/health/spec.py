"""What is probed and how often: taken from the task once, then kept in the journal."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from services.common.task import HEALTH_PORT, InvalidTask, load
from services.health.rules import RULES, Limits
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.common.keys import TaskKey
    from services.common.task import LoadedTask
    from trivet.link.v1 import link_pb2

# A check that is due again at once would keep the container busy with nothing else.
SHORTEST_INTERVAL = 0.1
# `health_check_config.rule` -> name of the verdict rule.
RULE_NAMES = {"time": "aurora-time"}


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """GET on the task's loopback. Empty body, status 0: does not matter."""

    port: int
    path: str
    expected_body: str
    expected_status: int

    def describe(self) -> str:
        """One line for people."""
        return f"GET http://localhost:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class ShellTarget:
    """A command that has to exit with 0. `user` empty: the executor's own."""

    command: str
    user: str
    env: Mapping[str, str]

    def describe(self) -> str:
        """One line for people."""
        return f"shell command {self.command!r}"


@dataclass(frozen=True, slots=True)
class Spec:
    """A task's health check. `timeout` in seconds, 0: none."""

    target: HttpTarget | ShellTarget
    timeout: float
    limits: Limits
    rule: str

    def describe(self) -> str:
        """One line for people: what is probed and how often."""
        budget = f"timeout {self.timeout:g} s" if self.timeout else "no timeout"
        return f"{self.target.describe()} every {self.limits.interval:g} s, {budget}"

    def probe(self, key: TaskKey, probe_id: int) -> health_pb2.Probe:
        """One attempt, for the driver."""
        probe = health_pb2.Probe(key=key.to_pb(), id=probe_id, timeout_secs=self.timeout)
        if isinstance(self.target, HttpTarget):
            probe.http.port = self.target.port
            probe.http.path = self.target.path
        else:
            probe.command.argv[:] = ["/bin/bash", "-c", self.target.command]
            probe.command.env.update(self.target.env)
            probe.command.cwd = "sandbox"
            probe.command.user = self.target.user
        return probe

    def to_json(self) -> dict[str, object]:
        """For the journal; `spec_of_json` reads it."""
        kind = "http" if isinstance(self.target, HttpTarget) else "shell"
        return {**dataclasses.asdict(self), "kind": kind}


def spec_of_info(info: bytes, hello: link_pb2.Hello) -> Spec | None:
    """The health check of a serialised TaskInfo; None also for an invalid task, which the runner refuses.

    Args:
        info: As received.
        hello: The executor that runs it.
    """
    try:
        return spec_of_task(load(mesos_pb2.TaskInfo.FromString(info), hostname=hello.hostname), hello)
    except (InvalidTask, DecodeError):
        return None


def spec_of_task(loaded: LoadedTask, hello: link_pb2.Hello) -> Spec | None:
    """The task's health check; None: it has none.

    Shell wins over HTTP, and HTTP needs a port named `health` (Aurora: provider of health checks).

    Args:
        loaded: The task, valid.
        hello: The executor that runs it.
    """
    config = loaded.health
    if config is None:
        return None
    checker = config.health_checker
    target: HttpTarget | ShellTarget
    if checker.HasField("shell"):
        target = _shell_target(checker.shell.shell_command, loaded, hello)
    elif HEALTH_PORT in loaded.ports:
        http = checker.http
        target = HttpTarget(
            loaded.ports[HEALTH_PORT], http.endpoint, http.expected_response, http.expected_response_code
        )
    else:
        return None
    interval = max(_seconds(config.interval_secs), SHORTEST_INTERVAL)
    initial = 2 * interval if config.initial_interval_null else _seconds(config.initial_interval_secs)
    limits = Limits(
        initial, interval, max(config.max_consecutive_failures, 0), max(config.min_consecutive_successes, 1)
    )
    return Spec(target, _seconds(config.timeout_secs), limits, RULE_NAMES[config.rule])


def _shell_target(command: str, loaded: LoadedTask, hello: link_pb2.Hello) -> ShellTarget:
    # The same user as the task's processes: a role without root to switch with leaves the executor's own; a user that
    # the task names itself is asked for, so that the refusal is seen.
    user = loaded.user if hello.uid == 0 or loaded.task.task.user else ""
    env = {"HOME": f"{hello.sandbox}/sandbox"}
    if user:
        env["USER"] = env["LOGNAME"] = user
    return ShellTarget(command, user, env)


def _seconds(value: float) -> float:
    return value if math.isfinite(value) and value > 0 else 0.0


def spec_of_json(record: Mapping[str, object]) -> Spec:
    """What `Spec.to_json` wrote.

    Raises:
        ValueError: The record does not hold a check that this version knows.
    """
    match record:
        case {
            "kind": ("http" | "shell") as kind,
            "target": dict(target),
            "timeout": int() | float() as timeout,
            "limits": dict(limits),
            "rule": str(rule),
        } if rule in RULES:
            try:
                made = HttpTarget(**target) if kind == "http" else ShellTarget(**target)
                return Spec(made, timeout, Limits(**limits), rule)
            except TypeError as error:
                raise ValueError(f"not a health check: {error}") from error
    raise ValueError("not a health check that this version knows")
