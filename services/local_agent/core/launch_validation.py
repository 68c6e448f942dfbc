"""LaunchTask's request: what Mesos' master checks and fills in before a task reaches an agent."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.core.model import AgentState, Framework
from services.local_agent.core.tasks import OrderRefused

if TYPE_CHECKING:
    from trivet.agent.v1 import agent_pb2

_Capability = mesos_pb2.FrameworkInfo.Capability
MAX_ID_BYTES = 255


def normalise(request: agent_pb2.LaunchTaskRequest, state: AgentState) -> tuple[Framework, mesos_pb2.TaskInfo]:
    """Checks the request; returns framework and task with all that master and agent fill in.

    Raises:
        OrderRefused: Names the field.
    """
    if not request.HasField("task"):
        raise OrderRefused("task", "missing")
    missing = _missing_required(request)
    if missing:
        raise OrderRefused(missing, "missing")
    task = mesos_pb2.TaskInfo()
    task.CopyFrom(request.task)
    check_id("task.task_id", task.task_id.value)
    _check_task(task)
    framework = _framework(request, state)
    role = framework.info.roles[0] if framework.info.roles else "*"
    task.agent_id.value = state.agent_id
    task.executor.framework_id.value = framework.framework_id
    for resource in (*task.resources, *task.executor.resources):
        if not resource.HasField("allocation_info"):
            resource.allocation_info.role = role
    return framework, task


def check_id(field: str, value: str) -> None:
    """Ids become names of directories (Mesos: ids).

    Raises:
        OrderRefused: Empty, too long, `.`, `..`, a slash or a control character.
    """
    if not value:
        raise OrderRefused(field, "must not be empty")
    if len(value.encode()) > MAX_ID_BYTES:
        raise OrderRefused(field, f"must not be longer than {MAX_ID_BYTES} bytes")
    if value in {".", ".."} or any(character in "/\\" or not character.isprintable() for character in value):
        raise OrderRefused(field, f"{value!r} is not an id: no slash, backslash, control character, '.' or '..'")


def _missing_required(request: agent_pb2.LaunchTaskRequest) -> str:
    for name in ("task", "framework"):
        message = getattr(request, name)
        if request.HasField(name):
            for path in message.FindInitializationErrors():
                if path not in {"agent_id", "agent_id.value"}:
                    return f"{name}.{path}"
    return ""


def _check_task(task: mesos_pb2.TaskInfo) -> None:
    if not task.HasField("executor"):
        raise OrderRefused("task.executor", "missing: this agent runs custom executors only")
    if task.HasField("command"):
        raise OrderRefused("task.command", "a task with an executor cannot have a command of its own")
    executor = task.executor
    check_id("task.executor.executor_id", executor.executor_id.value)
    if executor.type not in {mesos_pb2.ExecutorInfo.CUSTOM, mesos_pb2.ExecutorInfo.UNKNOWN}:
        raise OrderRefused("task.executor.type", "must be CUSTOM or unset")
    if not executor.HasField("command"):
        raise OrderRefused("task.executor.command", "missing")
    if executor.HasField("container"):
        raise OrderRefused("task.executor.container", "containers with images or volumes are not supported")
    if executor.shutdown_grace_period.nanoseconds < 0:
        raise OrderRefused("task.executor.shutdown_grace_period", "must not be negative")
    if task.kill_policy.grace_period.nanoseconds < 0:
        raise OrderRefused("task.kill_policy.grace_period", "must not be negative")
    if task.max_completion_time.nanoseconds < 0:
        raise OrderRefused("task.max_completion_time", "must not be negative")
    _check_command("task.executor.command", executor.command)


def _check_command(field: str, command: mesos_pb2.CommandInfo) -> None:
    if not command.value:
        raise OrderRefused(f"{field}.value", "missing: nothing to execute")
    if command.uris:
        raise OrderRefused(f"{field}.uris", "there is no fetcher")
    if command.shell and command.arguments:
        raise OrderRefused(f"{field}.arguments", "unused with shell: true; give shell: false")
    for name, text in (("value", command.value), *((f"arguments[{i}]", a) for i, a in enumerate(command.arguments))):
        if "\0" in text:
            raise OrderRefused(f"{field}.{name}", "holds a zero byte")
    if command.HasField("user") and command.user not in {getpass.getuser(), str(os.getuid())}:
        raise OrderRefused(f"{field}.user", f"the agent runs executors as its own user, {getpass.getuser()}")
    for index, variable in enumerate(command.environment.variables):
        where = f"{field}.environment.variables[{index}]"
        if not variable.name or "=" in variable.name or "\0" in variable.name:
            raise OrderRefused(f"{where}.name", "not a name of a variable")
        if variable.type == mesos_pb2.Environment.Variable.SECRET or variable.HasField("secret"):
            raise OrderRefused(f"{where}.secret", "there is no secret resolver")
        if "\0" in variable.value:
            raise OrderRefused(f"{where}.value", "holds a zero byte")


def _framework(request: agent_pb2.LaunchTaskRequest, state: AgentState) -> Framework:
    info = mesos_pb2.FrameworkInfo()
    if request.HasField("framework"):
        info.CopyFrom(request.framework)
    else:
        info.user, info.name, info.checkpoint = getpass.getuser(), "local", True
        info.roles.append("*")
        for capability in (_Capability.MULTI_ROLE, _Capability.TASK_KILLING_STATE, _Capability.PARTITION_AWARE):
            info.capabilities.add().type = capability
    if not info.id.value:
        info.id.value = _framework_id(info.name, state)
    check_id("framework.id", info.id.value)
    current = state.frameworks.get(info.id.value)
    if current is not None and current.executors and current.info.checkpoint != info.checkpoint:
        raise OrderRefused("framework.checkpoint", "cannot change while executors of the framework run")
    return Framework(info.id.value, info)


def _framework_id(name: str, state: AgentState) -> str:
    """The id under which a framework of this name registered earlier, else a new one."""
    for framework in state.frameworks.values():
        if framework.info.name == name:
            return framework.framework_id
    return f"{state.agent_id.rpartition('-')[0]}-{len(state.frameworks):04d}"
