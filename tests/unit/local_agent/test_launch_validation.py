"""LaunchTask: what is filled in, and that every refusal names its field."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.core.launch_validation import normalise
from services.local_agent.core.model import AgentState, Framework
from services.local_agent.core.tasks import OrderRefused
from trivet.agent.v1 import agent_pb2

Change = Callable[[agent_pb2.LaunchTaskRequest], object]


def request() -> agent_pb2.LaunchTaskRequest:
    asked = agent_pb2.LaunchTaskRequest()
    asked.task.name = asked.task.task_id.value = "t"
    asked.task.agent_id.value = "?"
    asked.task.executor.executor_id.value = "e"
    asked.task.executor.command.value = "true"
    asked.task.resources.add(name="cpus", type=mesos_pb2.Value.SCALAR).scalar.value = 1
    return asked


def state() -> AgentState:
    return AgentState(agent_id="12345-S0")


def test_ids_and_roles_are_filled_in() -> None:
    framework, task = normalise(request(), state())
    assert framework.framework_id == "12345-0000"
    assert framework.info.checkpoint
    assert task.agent_id.value == "12345-S0"
    assert task.executor.framework_id.value == "12345-0000"
    assert task.resources[0].allocation_info.role == "*"


def test_framework_of_the_same_name_keeps_its_id() -> None:
    known = state()
    framework, _ = normalise(request(), known)
    known.frameworks[framework.framework_id] = framework
    known.frameworks_made = 1
    assert normalise(request(), known)[0].framework_id == framework.framework_id
    other = request()
    other.framework.user, other.framework.name = "u", "another"
    assert normalise(other, known)[0].framework_id == "12345-0001"


REFUSED: list[tuple[str, Change]] = [
    ("task", lambda r: r.ClearField("task")),
    ("task.name", lambda r: r.task.ClearField("name")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "a/b")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "..")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "x" * 256)),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "a\nb")),
    ("task.executor", lambda r: r.task.ClearField("executor")),
    ("task.command", lambda r: r.task.command.__setattr__("value", "x")),
    ("task.executor.executor_id", lambda r: r.task.executor.executor_id.__setattr__("value", "a\\b")),
    ("task.executor.command", lambda r: r.task.executor.__setattr__("type", mesos_pb2.ExecutorInfo.DEFAULT)),
    ("task.executor.type", lambda r: _default_without_command(r.task.executor)),
    ("task.executor.command", lambda r: r.task.executor.ClearField("command")),
    ("task.executor.command.value", lambda r: r.task.executor.command.ClearField("value")),
    ("task.executor.command.value", lambda r: r.task.executor.command.__setattr__("value", "a\0b")),
    ("task.executor.command.arguments", lambda r: r.task.executor.command.arguments.append("x")),
    ("task.executor.command.uris", lambda r: r.task.executor.command.uris.add(value="x")),
    (
        "task.executor.command.environment.variables[0].name",
        lambda r: r.task.executor.command.environment.variables.add(name="A=B"),
    ),
    (
        "task.executor.command.environment.variables[0].secret",
        lambda r: r.task.executor.command.environment.variables.add(
            name="A", type=mesos_pb2.Environment.Variable.SECRET
        ),
    ),
    ("task.executor.container", lambda r: r.task.executor.container.__setattr__("type", mesos_pb2.ContainerInfo.MESOS)),
    (
        "task.executor.shutdown_grace_period",
        lambda r: r.task.executor.shutdown_grace_period.__setattr__("nanoseconds", -1),
    ),
    ("task.kill_policy.grace_period", lambda r: r.task.kill_policy.grace_period.__setattr__("nanoseconds", -1)),
    ("task.max_completion_time", lambda r: r.task.max_completion_time.__setattr__("nanoseconds", -1)),
    ("framework.user", lambda r: r.framework.__setattr__("name", "n")),
    ("framework.id", lambda r: r.framework.MergeFrom(_framework("a/b"))),
]


def _default_without_command(executor: mesos_pb2.ExecutorInfo) -> None:
    executor.ClearField("command")
    executor.type = mesos_pb2.ExecutorInfo.DEFAULT


def _framework(framework_id: str, *, checkpoint: bool = True) -> mesos_pb2.FrameworkInfo:
    info = mesos_pb2.FrameworkInfo(user="u", name="n", checkpoint=checkpoint)
    info.id.value = framework_id
    return info


def test_only_root_runs_executors_as_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request()
    asked.task.executor.command.user = "somebody-else"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    normalise(asked, state())
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(OrderRefused, match=r"^task\.executor\.command\.user: "):
        normalise(asked, state())


@pytest.mark.parametrize(("field", "change"), REFUSED)
def test_refusal_names_the_field(field: str, change: Change) -> None:
    asked = request()
    change(asked)
    with pytest.raises(OrderRefused) as refused:
        normalise(asked, state())
    assert refused.value.field == field


def test_checkpointing_cannot_change_under_running_executors() -> None:
    known = state()
    known.frameworks["f"] = Framework("f", _framework("f"), executors={"e": None})  # type: ignore[dict-item]
    asked = request()
    asked.framework.CopyFrom(_framework("f", checkpoint=False))
    with pytest.raises(OrderRefused, match=r"framework\.checkpoint"):
        normalise(asked, known)


def test_refusal_never_shows_values_of_the_environment() -> None:
    asked = request()
    asked.task.executor.command.environment.variables.add(name="TOKEN", value="hush\0")
    with pytest.raises(OrderRefused) as refused:
        normalise(asked, state())
    assert "hush" not in str(refused.value)
