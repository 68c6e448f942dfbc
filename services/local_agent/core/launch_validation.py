"""Requests to launch: what Mesos' master checks and fills in before a task reaches an agent."""

from __future__ import annotations

import getpass
import math
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesos.v1 import mesos_pb2
from services.local_agent.core.model import AgentState, Framework
from services.local_agent.core.tasks import OrderRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from trivet.agent.v1 import agent_pb2

_Capability = mesos_pb2.FrameworkInfo.Capability
MAX_ID_BYTES = 255
_TASK_TEXTS = ("task_id", "name")
_EXECUTOR_TEXTS = ("executor_id", "command")
_FRAMEWORK_TEXTS = ("id", "name", "user", "roles")
_NOT_IN_IDS = re.compile(r"[\x00-\x1f\x7f/\\]")
# Mesos: MIN_CPUS, MIN_MEM.
MIN_CPUS = 0.01
MIN_MEM_MB = 32


def normalise(request: agent_pb2.LaunchTaskRequest, state: AgentState) -> tuple[Framework, mesos_pb2.TaskInfo]:
    """Checks the request; returns framework and task with all that master and agent fill in.

    Raises:
        OrderRefused: Names the field.
    """
    if not request.HasField("task"):
        raise OrderRefused("task", "missing")
    _require_whole("task", request.task)
    _require_text("task", request.task, _TASK_TEXTS)
    task = mesos_pb2.TaskInfo()
    task.CopyFrom(request.task)
    check_id("task.task_id", task.task_id.value)
    if not task.HasField("executor"):
        raise OrderRefused("task.executor", "missing: this agent runs custom executors only")
    if task.HasField("command"):
        raise OrderRefused("task.command", "a task with an executor cannot have a command of its own")
    _check_policies("task", task)
    _check_executor("task.executor", task.executor)
    framework = _framework(request, state)
    _fill_in(task, framework, state)
    return framework, task


def normalise_group(
    request: agent_pb2.LaunchTaskGroupRequest, state: AgentState
) -> tuple[Framework, list[mesos_pb2.TaskInfo]]:
    """The same for a group; its rules are stricter (Mesos: LAUNCH_GROUP to a CUSTOM executor).

    Raises:
        OrderRefused: Names the field.
    """
    if not request.HasField("executor"):
        raise OrderRefused("executor", "missing")
    if not request.tasks:
        raise OrderRefused("tasks", "must not be empty")
    _require_whole("executor", request.executor)
    if request.executor.type == mesos_pb2.ExecutorInfo.UNKNOWN:
        raise OrderRefused("executor.type", "'ExecutorInfo.type' must be set")
    _check_executor("executor", request.executor)
    _check_group_resources(request.executor)
    seen: set[str] = set()
    for index, task in enumerate(request.tasks):
        where = f"tasks[{index}]"
        _require_whole(where, task)
        _require_text(where, task, _TASK_TEXTS)
        check_id(f"{where}.task_id", task.task_id.value)
        if task.task_id.value in seen:
            raise OrderRefused(f"{where}.task_id", f"{task.task_id.value!r} is in the group already")
        seen.add(task.task_id.value)
        _check_policies(where, task)
        if task.HasField("executor") and task.executor != request.executor:
            raise OrderRefused(f"{where}.executor", "differs from the executor of the group")
        if task.container.type == mesos_pb2.ContainerInfo.DOCKER and task.HasField("container"):
            raise OrderRefused(f"{where}.container", "Docker containers cannot be in a group")
    framework = _framework(request, state)
    tasks = []
    for given in request.tasks:
        task = mesos_pb2.TaskInfo()
        task.CopyFrom(given)
        task.executor.CopyFrom(request.executor)
        _fill_in(task, framework, state)
        tasks.append(task)
    return framework, tasks


def _fill_in(task: mesos_pb2.TaskInfo, framework: Framework, state: AgentState) -> None:
    role = framework.info.roles[0] if framework.info.roles else "*"
    task.agent_id.value = state.agent_id
    task.executor.framework_id.value = framework.framework_id
    for resource in (*task.resources, *task.executor.resources):
        if not resource.HasField("allocation_info"):
            resource.allocation_info.role = role


def check_id(field: str, value: str) -> None:
    """Ids become names of directories (Mesos: ids). Control characters are those of ASCII; any other text is an id.

    Raises:
        OrderRefused: Empty, too long, `.`, `..`, a slash or a control character.
    """
    if not value:
        raise OrderRefused(field, "must not be empty")
    if len(value.encode()) > MAX_ID_BYTES:
        raise OrderRefused(field, f"must not be longer than {MAX_ID_BYTES} bytes")
    if value in {".", ".."} or _NOT_IN_IDS.search(value):
        raise OrderRefused(field, f"{value!r} is not an id: no slash, backslash, control character, '.' or '..'")


def _require_whole(field: str, message: Any) -> None:
    for path in message.FindInitializationErrors():
        if path not in {"agent_id", "agent_id.value"}:
            raise OrderRefused(f"{field}.{path}", "missing")


def _require_text(field: str, message: Message, names: Collection[str] = ()) -> None:
    """Protobuf hands out strings that are not UTF-8 as bytes. Where the agent reads a text itself it must be one.

    `names`: fields that the agent reads; empty: all. What it only passes on may hold anything, as in Mesos.
    """
    for descriptor, value in message.ListFields():
        if names and descriptor.name not in names:
            continue
        many = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        for index, item in enumerate(value if many else (value,)):
            place = f"{field}.{descriptor.name}[{index}]" if many else f"{field}.{descriptor.name}"
            if isinstance(item, bytes) and descriptor.type != FieldDescriptor.TYPE_BYTES:
                raise OrderRefused(place, "is not UTF-8")
            if isinstance(item, Message):
                _require_text(place, item)


def _check_policies(field: str, task: mesos_pb2.TaskInfo) -> None:
    if task.kill_policy.grace_period.nanoseconds < 0:
        raise OrderRefused(f"{field}.kill_policy.grace_period", "must not be negative")
    if task.max_completion_time.nanoseconds < 0:
        raise OrderRefused(f"{field}.max_completion_time", "must not be negative")
    _check_amounts(f"{field}.resources", task.resources)


def _check_amounts(field: str, resources: Iterable[mesos_pb2.Resource]) -> None:
    for index, resource in enumerate(resources):
        if resource.HasField("scalar") and not 0 <= resource.scalar.value < math.inf:
            raise OrderRefused(f"{field}[{index}].scalar", f"{resource.name}: must be 0 or more")


def _check_executor(field: str, executor: mesos_pb2.ExecutorInfo) -> None:
    _require_text(field, executor, _EXECUTOR_TEXTS)
    check_id(f"{field}.executor_id", executor.executor_id.value)
    if executor.type == mesos_pb2.ExecutorInfo.DEFAULT:
        if executor.HasField("command"):
            raise OrderRefused(f"{field}.command", "'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
        raise OrderRefused(f"{field}.type", "this agent runs CUSTOM executors only")
    if not executor.HasField("command"):
        raise OrderRefused(f"{field}.command", "'ExecutorInfo.command' must be set for 'CUSTOM' executor")
    if executor.HasField("container"):
        raise OrderRefused(f"{field}.container", "containers with images or volumes are not supported")
    if executor.shutdown_grace_period.nanoseconds < 0:
        raise OrderRefused(f"{field}.shutdown_grace_period", "must not be negative")
    _check_amounts(f"{field}.resources", executor.resources)
    _check_command(f"{field}.command", executor.command)


def _check_group_resources(executor: mesos_pb2.ExecutorInfo) -> None:
    # For a single task these are warnings of the master, for a group errors.
    name = executor.executor_id.value
    amounts = {"cpus": 0.0, "mem": 0.0, "disk": 0.0}
    for resource in executor.resources:
        if resource.name in amounts:
            amounts[resource.name] += resource.scalar.value
    if amounts["cpus"] < MIN_CPUS:
        why = f"uses less CPUs ({amounts['cpus']:g}) than the minimum required ({MIN_CPUS})"
        raise OrderRefused("executor.resources", f"Executor '{name}' {why}")
    if amounts["mem"] < MIN_MEM_MB:
        why = f"uses less memory ({amounts['mem']:g}MB) than the minimum required ({MIN_MEM_MB}MB)"
        raise OrderRefused("executor.resources", f"Executor '{name}' {why}")
    if not amounts["disk"]:
        raise OrderRefused("executor.resources", f"Executor '{name}' uses no disk")


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
    if "\0" in command.user:
        raise OrderRefused(f"{field}.user", "holds a zero byte")
    # Root can be anybody; whether there is such a user, the launch will tell (as in Mesos).
    if command.HasField("user") and os.geteuid() and command.user not in {_own_user(), str(os.getuid())}:
        raise OrderRefused(f"{field}.user", f"the agent runs executors as its own user, {_own_user()}")
    for index, variable in enumerate(command.environment.variables):
        where = f"{field}.environment.variables[{index}]"
        if not variable.name or "=" in variable.name or "\0" in variable.name:
            raise OrderRefused(f"{where}.name", "not a name of a variable")
        if variable.type == mesos_pb2.Environment.Variable.SECRET or variable.HasField("secret"):
            raise OrderRefused(f"{where}.secret", "there is no secret resolver")
        if "\0" in variable.value:
            raise OrderRefused(f"{where}.value", "holds a zero byte")


def _own_user() -> str:
    """The agent's user: the number where there is no name, as in containers started with a mere uid."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _framework(request: agent_pb2.LaunchTaskRequest | agent_pb2.LaunchTaskGroupRequest, state: AgentState) -> Framework:
    info = mesos_pb2.FrameworkInfo()
    if request.HasField("framework"):
        _require_whole("framework", request.framework)
        _require_text("framework", request.framework, _FRAMEWORK_TEXTS)
        if "\0" in request.framework.user:
            raise OrderRefused("framework.user", "holds a zero byte")
        info.CopyFrom(request.framework)
    else:
        info.user, info.name, info.checkpoint = _own_user(), "local", True
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
        if framework.info.name == name and not framework.torn_down:
            return framework.framework_id
    return f"{state.agent_id.rpartition('-')[0]}-{state.frameworks_made:04d}"
