"""From the TaskInfo that Mesos delivers to a task that can be planned: form, ports, templates, rules, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.common.task.advice import advise, advise_lifecycle
from services.common.task.assigned import differs
from services.common.task.aurora_health import aurora_check
from services.common.task.findings import Findings, InvalidTask, at
from services.common.task.forms import Document, Form, read
from services.common.task.lifecycle import Lifecycle, config_of, lifecycle_of
from services.common.task.mesos_checks import GATE_LABEL, mesos_check, mesos_health
from services.common.task.ports import assigned_ports, resolve_ports
from services.common.task.rules import check
from services.common.task.templates import Resolver, Variables

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2
    from services.common.task.checks import HealthCheck, StatusCheck
    from trivet.task.v1 import task_pb2

_JOB_TEXTS = ("role", "environment", "cluster", "name")


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
    health: HealthCheck | None
    """What leads to a verdict; None when nothing does: its absence opens the gate at once."""
    check: StatusCheck | None
    """What is only told (Mesos: TaskInfo.check)."""
    kill_grace: float | None
    """Seconds from `TaskInfo.kill_policy`, None when it is not given."""
    lifecycle: Lifecycle | None = None
    """Who is asked to end before the task is signalled, None when nobody is."""


def load(info: mesos_pb2.TaskInfo, *, hostname: str) -> LoadedTask:
    """Reads, completes and checks the task in `info.data`. Pure: the same TaskInfo gives the same result.

    Args:
        info: as the agent delivered it.
        hostname: value of `{{mesos.hostname}}`, unless an AssignedTask says another.

    Raises:
        InvalidTask: with all violations that were found.
    """
    findings = Findings()
    return complete(read_data(info, findings), info, hostname, findings)


def read_data(info: mesos_pb2.TaskInfo, findings: Findings) -> Document:
    """The document in a TaskInfo.

    Raises:
        InvalidTask: there is none, or it is of no known form.
    """
    if not info.data:
        if info.HasField("command"):
            raise InvalidTask(["TaskInfo.command: is not supported, the task must be in TaskInfo.data"])
        raise InvalidTask(["TaskInfo.data: is empty, there is no task"])
    return read(info.data, findings)


def complete(document: Document, info: mesos_pb2.TaskInfo, hostname: str, findings: Findings) -> LoadedTask:
    """The rest of `load`, for a document that has been read; changes the document's task.

    Raises:
        InvalidTask: with all violations that were found, `findings` included.
    """
    task = document.task
    _warn_of_ignored(info, findings)
    kill_grace = _kill_grace(info, findings)
    assigned = document.assigned
    ports = resolve_ports(task, assigned_ports(info, findings, assigned.ports if assigned else None), findings)
    _resolve(document, info, hostname, ports, findings)
    check(task, document.prefix, findings)
    advise(task, document.prefix, findings, job=document.form is not Form.TASK, submitted=assigned is not None)
    health = _health(document, info, ports, findings)
    status_check = mesos_check(info, findings)
    lifecycle = lifecycle_of(task, ports, findings, by_default=document.form is Form.JOB)
    config = config_of(task, by_default=lifecycle is not None)
    if config is not None and kill_grace is not None:
        advise_lifecycle(config, kill_grace, "TaskInfo.kill_policy.grace_period", findings)
    elif config is not None:
        place = at(document.prefix, "finalization_wait")
        advise_lifecycle(config, float(task.task.finalization_wait), place, findings)
    if findings.violations:
        raise InvalidTask(findings.violations, document.aurora)
    return LoadedTask(
        task=task,
        ports=ports,
        warnings=findings.warnings,
        aurora=document.aurora,
        user=_user(task),
        name=task.task.name or task.task.processes[0].name,
        health=health,
        check=status_check,
        kill_grace=kill_grace,
        lifecycle=lifecycle,
    )


def _user(task: task_pb2.Task) -> str:
    return task.task.user or task.role


def _resolve(
    document: Document, info: mesos_pb2.TaskInfo, hostname: str, ports: dict[str, int], findings: Findings
) -> None:
    """Resolves every text of the task that an executor acts on."""
    task = document.task
    values = _values(document, info, hostname, findings)
    variables = Variables(ports, values)
    resolver = Resolver(variables, findings)
    # What the user and the role stand for has to be known before others refer to them.
    resolver.resolve_fields(task, "", _JOB_TEXTS)
    around = [] if document.form is Form.TASK else [(task, "")]
    resolver.resolve_fields(task.task, document.prefix, ("user",), around)
    values["mesos.role"] = task.role or None
    values["mesos.cluster"] = task.cluster or None
    values["thermos.user"] = _user(task) or info.executor.command.user or None
    resolver.resolve(task.task, document.prefix, around)
    if task.HasField("health_check_config"):
        resolver.resolve(task.health_check_config, "health_check_config", around)
    if task.HasField("lifecycle"):
        resolver.resolve(task.lifecycle, "lifecycle", around)


def _values(document: Document, info: mesos_pb2.TaskInfo, hostname: str, findings: Findings) -> dict[str, str | None]:
    task, assigned = document.task, document.assigned
    task_id = info.task_id.value
    if assigned is not None:
        if assigned.task_id:
            differs(findings, "taskId", assigned.task_id, task_id)
        task_id = assigned.task_id or task_id
        hostname = assigned.hostname or hostname
    return {
        "thermos.task_id": task_id,
        "thermos.user": None,
        "mesos.instance": str(task.instance) if task.HasField("instance") else None,
        "mesos.hostname": hostname,
        # Aurora's client fills these in when it submits; here they are known for jobs.
        "mesos.role": None,
        "mesos.cluster": None,
    }


def _health(
    document: Document, info: mesos_pb2.TaskInfo, ports: dict[str, int], findings: Findings
) -> HealthCheck | None:
    """Aurora's configuration wins over Mesos'."""
    by_default = document.form is not Form.TASK
    if (aurora := aurora_check(document.task, ports, findings, by_default=by_default)) is not None:
        if info.HasField("health_check"):
            findings.warning("TaskInfo.health_check", "not acted on: the task's own health check wins")
        return aurora
    health = mesos_health(info, findings)
    if not info.HasField("health_check") and any(label.key == GATE_LABEL for label in info.labels.labels):
        findings.warning(at("TaskInfo.labels", GATE_LABEL), "not acted on: there is no health check to wait for")
    return health


def _kill_grace(info: mesos_pb2.TaskInfo, findings: Findings) -> float | None:
    if not info.kill_policy.HasField("grace_period"):
        return None
    seconds = info.kill_policy.grace_period.nanoseconds / 1e9
    if seconds < 0:
        findings.violation("TaskInfo.kill_policy.grace_period", f"must not be negative, is {seconds} s")
    return seconds


def _warn_of_ignored(info: mesos_pb2.TaskInfo, findings: Findings) -> None:
    for name in ("command", "container"):
        if info.HasField(name):
            findings.warning(f"TaskInfo.{name}", "not acted on")
