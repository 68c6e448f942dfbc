"""What a scheduler sends for a task with an executor of its own: TaskInfo, ExecutorInfo, FrameworkInfo."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from mesos.v1 import mesos_pb2
from services.local_agent.containers import resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Capability = mesos_pb2.FrameworkInfo.Capability
# Those of a framework of today, and what the agent gives one that it makes up itself.
DEFAULT_CAPABILITIES = ("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE")
# As Mesos, which adds as much for its own executors.
DEFAULT_EXECUTOR_RESOURCES = "cpus:0.1;mem:32"
DEFAULT_TASK_RESOURCES = "cpus:0.1;mem:32"


class InvalidOrder(ValueError):
    """The order cannot be made; the text names the part that is wrong."""


@dataclass(frozen=True)
class Order:
    """A task and how its executor is started. Seconds are decimal; None: not set, so the other side's default holds."""

    # The executor's words; with `shell` one string for `sh -c`.
    executor: str | Sequence[str]
    data: bytes = b""
    name: str = ""
    task_id: str = ""
    executor_id: str = ""
    resources: str = DEFAULT_TASK_RESOURCES
    executor_resources: str = DEFAULT_EXECUTOR_RESOURCES
    kill_grace: float | None = None
    shutdown_grace: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    shell: bool = False
    # Words of the executor's command that name files below one of these are made absolute.
    directories: Sequence[str] = ()


def task_info(order: Order) -> mesos_pb2.TaskInfo:
    """The TaskInfo; ids that were not given are made up, and differ each time.

    Raises:
        InvalidOrder: Names the part that is wrong.
    """
    task_id = order.task_id or f"{_stem(order)}-{secrets.token_hex(4)}"
    info = mesos_pb2.TaskInfo(name=order.name or task_id, data=order.data)
    info.task_id.value = task_id
    info.agent_id.value = ""  # filled in by the agent
    info.resources.extend(_resources("resources", order.resources))
    for key, value in order.labels.items():
        info.labels.labels.add(key=key, value=value)
    if order.kill_grace is not None:
        info.kill_policy.grace_period.nanoseconds = nanoseconds("kill grace", order.kill_grace)
    fill_executor(info.executor, order, order.executor_id or f"executor-{task_id}")
    return info


def fill_executor(info: mesos_pb2.ExecutorInfo, order: Order, executor_id: str) -> None:
    """Writes the executor's part of `order` into `info`.

    Raises:
        InvalidOrder: Names the part that is wrong.
    """
    info.executor_id.value = executor_id
    info.type = mesos_pb2.ExecutorInfo.CUSTOM
    info.resources.extend(_resources("executor resources", order.executor_resources))
    if order.shutdown_grace is not None:
        info.shutdown_grace_period.nanoseconds = nanoseconds("shutdown grace", order.shutdown_grace)
    command = info.command
    if order.shell:
        if not isinstance(order.executor, str):
            raise InvalidOrder("executor: one string is needed for a shell, not several words")
        command.shell, command.value = True, order.executor
    else:
        words = _words(order)
        command.shell, command.value = False, words[0]
        command.arguments.extend(words)
    # Mesos gives executors a bare PATH; the author's own finds the interpreter that the author means.
    environment = {"PATH": os.environ["PATH"]} if "PATH" in os.environ else {}
    for name, value in (environment | dict(order.environment)).items():
        command.environment.variables.add(name=name, value=value)


def framework_info(
    *, capabilities: Sequence[str] = DEFAULT_CAPABILITIES, checkpoint: bool = True, framework_id: str = ""
) -> mesos_pb2.FrameworkInfo:
    """A framework. Those that differ in checkpointing or capabilities have different names, and so different ids.

    Raises:
        InvalidOrder: There is no such capability.
    """
    names = sorted(set(capabilities))
    for name in names:
        if name not in Capability.Type.keys() or name == "UNKNOWN":  # noqa: SIM118 - not a dictionary
            known = ", ".join(sorted(set(Capability.Type.keys()) - {"UNKNOWN"}))
            raise InvalidOrder(f"capability {name!r}: there is no such thing; Mesos has {known}")
    words = ["local"] if names == sorted(DEFAULT_CAPABILITIES) else ["local", *(names or ["incapable"])]
    info = mesos_pb2.FrameworkInfo(name=" ".join(words), checkpoint=checkpoint, user=_user(), roles=["*"])
    if not checkpoint:
        info.name += " without checkpoint"
    for name in names:
        info.capabilities.add(type=Capability.Type.Value(name))
    if framework_id:
        info.id.value = framework_id
    return info


def parse_task_info(value: dict[str, Any]) -> mesos_pb2.TaskInfo:
    """A TaskInfo from its JSON, as frameworks and Mesos write it.

    Raises:
        InvalidOrder: Names the field.
    """
    try:
        info = json_format.ParseDict(value, mesos_pb2.TaskInfo())
    except json_format.ParseError as error:
        raise InvalidOrder(str(error)) from None
    if not info.HasField("agent_id"):
        info.agent_id.value = ""  # filled in by the agent
    if not info.name:
        info.name = info.task_id.value
    missing: list[str] = info.FindInitializationErrors()  # type: ignore[attr-defined]  # not in the stubs
    if missing:
        raise InvalidOrder(f"{missing[0]}: missing")
    return info


def is_task_info(value: object) -> bool:
    """Whether a JSON value means to be a TaskInfo rather than a task of Thermos or Aurora."""
    return isinstance(value, dict) and "task_id" in value and "processes" not in value and "task" not in value


def read_json(text: bytes) -> object:
    """The value.

    Raises:
        InvalidOrder: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidOrder(f"not JSON: {error}") from None


def nanoseconds(what: str, seconds: float) -> int:
    """Seconds as Mesos counts.

    Raises:
        InvalidOrder: Negative, or not a number that fits.
    """
    if not 0 <= seconds < 1e9:
        raise InvalidOrder(f"{what}: {seconds} is not a time in seconds")
    return round(seconds * 1e9)


def _words(order: Order) -> list[str]:
    try:
        words = shlex.split(order.executor) if isinstance(order.executor, str) else list(order.executor)
    except ValueError as error:
        raise InvalidOrder(f"executor: {order.executor!r}: {error}") from None
    if not words or not words[0]:
        raise InvalidOrder("executor: nothing to execute")
    # The executor starts in its sandbox: what its author can see from here, it could not find from there.
    program, *arguments = words
    if os.sep in program:
        program = _absolute(program, order.directories)
    return [program, *(_absolute(word, order.directories) for word in arguments)]


def _absolute(word: str, directories: Sequence[str]) -> str:
    for directory in directories:
        path = os.path.join(directory, word)
        if not os.path.isabs(word) and os.path.isfile(path):
            return os.path.abspath(path)
    return word


def _stem(order: Order) -> str:
    if order.name:
        text = order.name
    else:
        words = order.executor.split() if isinstance(order.executor, str) else list(order.executor)
        # `python3 my_executor.py` is called after the script.
        text = os.path.basename(words[1] if len(words) > 1 and words[1][:1] != "-" else words[0]) if words else "task"
    stem = "".join(character if character.isascii() and character.isalnum() else "-" for character in text)
    return stem.strip("-")[:64] or "task"


def _resources(what: str, text: str) -> tuple[mesos_pb2.Resource, ...]:
    try:
        return resources.parse(text)
    except ValueError as error:
        raise InvalidOrder(f"{what}: {error}") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
