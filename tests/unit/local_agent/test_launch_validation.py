"""LaunchTask: what is filled in, and that every refusal names its field."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.core.launch_validation import normalise, normalise_group
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


MARK = "not utf-8"


def _spoil(request: agent_pb2.LaunchTaskRequest, message: object, field: str) -> None:
    setattr(message, field, MARK)
    _replace(request)


def _replace(request: agent_pb2.LaunchTaskRequest) -> None:
    """`MARK` becomes as many bytes that are no text: so do other languages' libraries send them."""
    data = request.SerializeToString()
    assert MARK.encode() in data
    request.ParseFromString(data.replace(MARK.encode(), b"\xff" * len(MARK)))


def _spoil_role(request: agent_pb2.LaunchTaskRequest) -> None:
    request.framework.user, request.framework.name = "u", "n"
    request.framework.roles.extend(["a", MARK])
    _replace(request)


def _spoil_argument(request: agent_pb2.LaunchTaskRequest) -> None:
    request.task.executor.command.shell = False
    request.task.executor.command.arguments.extend(["a", MARK])
    _replace(request)


def _spoil_framework(request: agent_pb2.LaunchTaskRequest) -> None:
    request.framework.name = "n"
    _spoil(request, request.framework, "user")


REFUSED: list[tuple[str, Change]] = [
    ("task", lambda r: r.ClearField("task")),
    ("task.name", lambda r: r.task.ClearField("name")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "a/b")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "..")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "x" * 256)),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "a\nb")),
    ("task.task_id", lambda r: r.task.task_id.__setattr__("value", "a\x7fb")),
    ("task.task_id.value", lambda r: _spoil(r, r.task.task_id, "value")),
    ("framework.roles[1]", _spoil_role),
    ("task.executor.command.arguments[1]", _spoil_argument),
    ("task.executor.command.user", lambda r: r.task.executor.command.__setattr__("user", "a\0b")),
    ("task.executor.command.user", lambda r: _spoil(r, r.task.executor.command, "user")),
    ("framework.user", lambda r: r.framework.MergeFrom(mesos_pb2.FrameworkInfo(user="a\0b", name="n"))),
    ("framework.user", _spoil_framework),
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


@pytest.mark.parametrize("value", ["a\u00a0b", "\u3000", "a\u200db", "\x85", "a b:c", "\u2028", "ä" * 127])
def test_ids_are_any_text_without_control_characters_of_ascii(value: str) -> None:
    asked = request()
    asked.task.task_id.value = asked.task.executor.executor_id.value = value
    asked.framework.MergeFrom(_framework(value))
    framework, task = normalise(asked, state())
    assert (framework.framework_id, task.task_id.value) == (value, value)


def test_data_that_is_no_text_is_no_mistake() -> None:
    asked = request()
    asked.task.data = b"\xff\xfe"
    assert normalise(asked, state())[1].data == b"\xff\xfe"


def test_what_is_only_passed_on_need_not_be_text() -> None:
    asked = request()
    asked.task.labels.labels.add(key=MARK, value=MARK)
    asked.task.executor.source = MARK
    asked.framework.user, asked.framework.name = "u", "n"
    asked.framework.labels.labels.add(key="k", value=MARK)
    _replace(asked)
    framework, task = normalise(asked, state())
    assert task.labels == asked.task.labels
    assert framework.info.labels == asked.framework.labels
    assert b"\xff" in task.SerializeToString()


def test_groups_are_text_too() -> None:
    asked = agent_pb2.LaunchTaskGroupRequest()
    asked.executor.type = mesos_pb2.ExecutorInfo.CUSTOM
    asked.executor.executor_id.value = "e"
    asked.executor.command.value = "true"
    for name, amount in (("cpus", 1), ("mem", 64), ("disk", 1)):
        asked.executor.resources.add(name=name, type=mesos_pb2.Value.SCALAR).scalar.value = amount
    task = asked.tasks.add(name="t")
    task.task_id.value, task.agent_id.value = "t", "?"
    normalise_group(asked, state())
    for field, place in (("task", "tasks[0].task_id.value"), ("executor", "executor.command.user")):
        spoilt = agent_pb2.LaunchTaskGroupRequest()
        spoilt.CopyFrom(asked)
        if field == "task":
            spoilt.tasks[0].task_id.value = MARK
        else:
            spoilt.executor.command.user = MARK
        spoilt.ParseFromString(spoilt.SerializeToString().replace(MARK.encode(), b"\xff" * len(MARK)))
        with pytest.raises(OrderRefused) as refused:
            normalise_group(spoilt, state())
        assert refused.value.field == place


def test_agent_whose_user_has_no_name_goes_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000)
    framework, _ = normalise(request(), state())
    assert framework.info.user == "4000000"
    asked = request()
    asked.task.executor.command.user = "4000000"
    normalise(asked, state())
    asked.task.executor.command.user = "root"
    with pytest.raises(OrderRefused, match=r"user: the agent runs executors as its own user, 4000000"):
        normalise(asked, state())


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
