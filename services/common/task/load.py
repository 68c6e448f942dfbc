"""From the TaskInfo that Mesos delivers to a task that can be planned: form, ports, templates, rules, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.common.task.findings import Findings, InvalidTask
from services.common.task.forms import Document, Form, read
from services.common.task.ports import HEALTH_PORT, assigned_ports, resolve_ports
from services.common.task.rules import check
from services.common.task.templates import Variables, resolve_message

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2
    from trivet.task.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """A valid task with everything filled in. Do not change the messages in it."""

    task: task_pb2.Task
    """Templates are resolved."""
    ports: dict[str, int]
    """All named ports, aliases included."""
    warnings: tuple[str, ...]
    """What was accepted but may surprise, one line each."""
    aurora: bool
    """The data was an Aurora job."""
    user: str
    """Who runs the processes: the task's user, else the role; empty: whoever the executor is."""
    name: str
    """The task's name, else that of its first process (Thermos: Task.name)."""
    health: task_pb2.HealthCheckConfig | None
    """The health check, None when there is none: its absence opens the gate at once."""
    kill_grace: float | None
    """Seconds from `TaskInfo.kill_policy`, None when it is not given."""


def load(info: mesos_pb2.TaskInfo, *, hostname: str) -> LoadedTask:
    """Reads, completes and checks the task in `info.data`. Pure: the same TaskInfo gives the same result.

    Args:
        info: as the agent delivered it.
        hostname: value of `{{mesos.hostname}}`.

    Raises:
        InvalidTask: with all violations that were found.
    """
    findings = Findings()
    if not info.data:
        if info.HasField("command"):
            raise InvalidTask(["TaskInfo.command: is not supported, the task must be in TaskInfo.data"])
        raise InvalidTask(["TaskInfo.data: is empty, there is no task"])
    document = read(info.data, findings)
    task = document.task
    _warn_of_ignored(info, findings)
    kill_grace = _kill_grace(info, findings)
    ports = resolve_ports(task, assigned_ports(info, findings), findings)
    user = task.task.user or task.role
    variables = Variables(ports, _values(document, info, user, hostname))
    resolve_message(task.task, variables, document.prefix, findings)
    if task.HasField("health_check_config"):
        resolve_message(task.health_check_config, variables, "health_check_config", findings)
    check(task, document.prefix, findings)
    health = _health(document, ports, findings)
    if findings.violations:
        raise InvalidTask(findings.violations, document.aurora)
    return LoadedTask(
        task=task,
        ports=ports,
        warnings=findings.warnings,
        aurora=document.aurora,
        user=user,
        name=task.task.name or task.task.processes[0].name,
        health=health,
        kill_grace=kill_grace,
    )


def _values(document: Document, info: mesos_pb2.TaskInfo, user: str, hostname: str) -> dict[str, str | None]:
    task = document.task
    return {
        "thermos.task_id": info.task_id.value,
        "thermos.user": user or info.executor.command.user or None,
        "mesos.instance": str(task.instance) if task.HasField("instance") else None,
        "mesos.hostname": hostname,
        # Aurora's client fills these in when it submits; here they are known for jobs.
        "mesos.role": task.role or None,
        "mesos.cluster": task.cluster or None,
    }


def _health(document: Document, ports: dict[str, int], findings: Findings) -> task_pb2.HealthCheckConfig | None:
    """Aurora: a shell check, else HTTP when there is a port named `health`, else none; jobs have defaults for it."""
    task = document.task
    given = task.HasField("health_check_config")
    config = task.health_check_config
    if given and config.min_consecutive_successes == 0:
        findings.warning("health_check_config.min_consecutive_successes", "0 is taken as 1")
        config.min_consecutive_successes = 1
    if config.health_checker.HasField("shell"):
        return config
    if not given and document.form is Form.TASK:
        return None
    if HEALTH_PORT in ports:
        return config
    if given:
        findings.warning("health_check_config", f"no port is named `{HEALTH_PORT}`: there is no health check")
    return None


def _kill_grace(info: mesos_pb2.TaskInfo, findings: Findings) -> float | None:
    if not info.kill_policy.HasField("grace_period"):
        return None
    seconds = info.kill_policy.grace_period.nanoseconds / 1e9
    if seconds < 0:
        findings.violation("TaskInfo.kill_policy.grace_period", f"must not be negative, is {seconds} s")
    return seconds


def _warn_of_ignored(info: mesos_pb2.TaskInfo, findings: Findings) -> None:
    for name in ("health_check", "check", "command", "container"):
        if info.HasField(name):
            findings.warning(f"TaskInfo.{name}", "not acted on")
