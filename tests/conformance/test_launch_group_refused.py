"""What Mesos' master refuses in the recording is refused here, with its words and the field before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1 import mesos_pb2
from tests.conformance import recording
from tests.integration.local_agent.rig import AgentUnderTest, task_info

if TYPE_CHECKING:
    from collections.abc import Iterator

if not recording.directory().is_dir():
    pytest.skip(f"NO RECORDINGS at {recording.directory()} (set TRIVET_TRACES)", allow_module_level=True)

NAME = "launch-group-refused"
_INFO = mesos_pb2.ExecutorInfo


def _executor(
    *, kind: _INFO.Type | None = _INFO.CUSTOM, command: bool = True, mem: float = 64, disk: float = 32
) -> _INFO:
    info = _INFO()
    info.executor_id.value = "shim"
    if kind is not None:
        info.type = kind
    if command:
        info.command.value = "exec sleep 1000"
    for name, amount in (("cpus", 0.1), ("mem", mem), ("disk", disk)):
        if amount:
            info.resources.add(name=name, type=mesos_pb2.Value.SCALAR).scalar.value = amount
    return info


# Note of the recording, what was asked for then, and the field that it is about.
GROUPS = {
    "type unset": (_executor(kind=None), "executor.type"),
    "type DEFAULT with a command": (_executor(kind=_INFO.DEFAULT), "executor.command"),
    "CUSTOM without command": (_executor(command=False), "executor.command"),
    "CUSTOM without disk": (_executor(disk=0), "executor.resources"),
    "CUSTOM with 16 MB of memory": (_executor(mem=16), "executor.resources"),
}
SINGLE = {
    "plain LAUNCH with an executor of type DEFAULT": (_executor(kind=_INFO.DEFAULT), "task.executor.command"),
    "plain LAUNCH with the executor's type unset": (_executor(kind=None), ""),
}


def _recorded() -> dict[str, str]:
    """Text of the refusal by the note before it; empty: there was none."""
    texts: dict[str, str] = {}
    statuses = iter(recording.load(NAME).statuses)
    note = ""
    for row in recording.load(NAME).rows:
        if row.kind == "note" and row.note in GROUPS | SINGLE:
            note = row.note
            texts[note] = ""
        elif row.kind == "scheduler":
            texts[note] = next(statuses).message
    return texts


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path_factory.mktemp("g")) as running:
        yield running


def test_every_case_of_the_recording_is_here() -> None:
    recorded = _recorded()
    assert list(recorded) == [*GROUPS, *SINGLE]
    assert sum(bool(text) for text in recorded.values()) == 6


@pytest.mark.parametrize("note", GROUPS)
def test_group_is_refused_with_mesos_words(agent: AgentUnderTest, note: str) -> None:
    executor, field = GROUPS[note]
    task = mesos_pb2.TaskInfo(name="g1")
    task.task_id.value = task.agent_id.value = "g1"
    with pytest.raises(grpc.RpcError) as refused:
        agent.launch_group(executor, [task])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == f"{field}: {_recorded()[note]}"
    assert agent.executors() == []


def test_single_task_is_refused_with_mesos_words_or_launched(agent: AgentUnderTest) -> None:
    for number, (note, (executor, field)) in enumerate(SINGLE.items()):
        task = task_info(f"d{number}")
        task.executor.CopyFrom(executor)
        expected = _recorded()[note]
        if not expected:
            assert agent.launch(task).container_id
            continue
        with pytest.raises(grpc.RpcError) as refused:
            agent.launch(task)
        assert refused.value.details() == f"{field}: {expected}"
