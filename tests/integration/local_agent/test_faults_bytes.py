"""Faults on events that change what an executor reads, byte by byte."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.executor_double import Connection, ExecutorDouble
from tests.integration.local_agent.faults_control import FaultControl, RunningTask, chunks
from tests.integration.local_agent.rig import AgentUnderTest, task_info

if TYPE_CHECKING:
    from collections.abc import Iterator

Event = executor_pb2.Event
Call = executor_pb2.Call
_IDS = itertools.count()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path_factory.mktemp("agent"), "--fault-seed", "5") as running:
        yield running


@pytest.fixture
def faults(agent: AgentUnderTest) -> Iterator[FaultControl]:
    control = FaultControl(agent)
    yield control
    control.remove()


@pytest.fixture
def task(agent: AgentUnderTest, faults: FaultControl) -> Iterator[RunningTask]:
    running = RunningTask(agent, f"t{next(_IDS)}")
    yield running
    faults.remove()
    running.close()


def _kill_bytes(task: RunningTask) -> bytes:
    """Payload of a KILL as the agent sends it."""
    event = Event(type=Event.KILL)
    event.kill.task_id.value = task.task_id
    return event.SerializeToString()


def _chunk(payload: bytes) -> bytes:
    record = b"%d\n%s" % (len(payload), payload)
    return b"%x\r\n%s\r\n" % (len(record), record)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("size", [0, 1, 3, 10, 1000])
def test_stream_cut_within_an_event(task: RunningTask, faults: FaultControl, reset: bool, size: int) -> None:
    faults.add(f"event=KILL cut reset={str(reset).lower()} after_bytes={size}")
    assert task.agent.kill(task.task_id).sent
    assert task.stream.rest() == (_chunk(_kill_bytes(task))[:size], reset)
    task.stream.socket.close()
    assert task.resubscribe() == (200, "")
    task.executor.event(Event.SUBSCRIBED)


def test_flipped_bytes_stand_in_whole_frames(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=KILL corrupt.flip_bytes=2 id=flip times=2")
    sent = _kill_bytes(task)
    damaged = []
    for _ in range(2):
        task.agent.kill(task.task_id)
        length, _, payload = task.stream.chunk().partition(b"\n")
        assert int(length) == len(payload) == len(sent)
        assert sum(a != b for a, b in zip(sent, payload, strict=True)) == 2
        damaged.append(payload)
    # The same seed and id: the same damage again.
    faults.remove()
    faults.add("event=KILL corrupt.flip_bytes=2 id=flip times=2")
    for payload in damaged:
        task.agent.kill(task.task_id)
        assert task.stream.chunk().partition(b"\n")[2] == payload


@pytest.mark.parametrize("length", ["", "0", "-1", "999999999999999999999999", "12abc", "007", "ten"])
def test_wrong_record_lengths(task: RunningTask, faults: FaultControl, length: str) -> None:
    faults.add(f"event=KILL corrupt.record_length={length}")
    task.agent.kill(task.task_id)
    assert task.stream.chunk() == length.encode() + b"\n" + _kill_bytes(task)


def test_event_of_an_unknown_type(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=KILL corrupt.event_type=300 times=1")
    for _ in range(2):
        task.agent.kill(task.task_id)
    assert task.stream.chunk() == b"3\n\x08\xac\x02"
    task.executor.event(Event.KILL)


def test_event_of_an_unknown_type_in_json(agent: AgentUnderTest, faults: FaultControl) -> None:
    launched = agent.launch(task_info("t-json", executor_id="e-json"))
    faults.add("event=LAUNCH corrupt.event_type=-1")
    stream = Connection(agent.port)
    call = ExecutorDouble(agent.port, launched.framework_id, "e-json").call(Call.SUBSCRIBE)
    call.subscribe.SetInParent()
    body = call.SerializeToString()
    stream.socket.sendall(
        b"POST /api/v1/executor HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nAccept: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    assert stream.head() == (200, "")
    events = [json.loads(stream.chunk().partition(b"\n")[2]) for _ in range(2)]
    assert [events[0]["type"], events[1]] == ["SUBSCRIBED", {"type": "UNKNOWN_-1"}]
    stream.socket.close()
    agent.shut_down(launched.framework_id, "e-json")


def test_event_in_chunks_of_one_byte(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=KILL rechunk=1 times=1")
    for _ in range(2):
        task.agent.kill(task.task_id)
    payload = _kill_bytes(task)
    record = b"%d\n%s" % (len(payload), payload)
    assert chunks(task.stream, len(record)) == [bytes([byte]) for byte in record]
    task.executor.event(Event.KILL)


def test_large_event_in_small_chunks_does_not_stop_the_agent(agent: AgentUnderTest, faults: FaultControl) -> None:
    info = task_info("t-large", executor_id="e-large")
    info.data = bytes(range(256)) * 4096
    launched = agent.launch(info)
    faults.add("event=LAUNCH rechunk=20 executor=e-large")
    with ExecutorDouble(agent.port, launched.framework_id, "e-large") as executor:
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        faults.wait_held(0)
        assert executor.ask(executor.call(Call.HEARTBEAT)) == (202, "")
        agent.kill("t-large")
        assert executor.stream is not None
        kill = Event(type=Event.KILL)
        kill.kill.task_id.value = "t-large"
        data = executor.stream.through(_chunk(kill.SerializeToString()))
        assert data.startswith(b"14\r\n")
        length, _, payload = _joined(data).partition(b"\n")
        assert Event.FromString(payload[: int(length)]).launch.task.data == info.data
    agent.shut_down(launched.framework_id, "e-large")


def test_events_together_in_one_chunk(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=ACKNOWLEDGED rechunk.events_per_chunk=3")
    statuses = [task.status(str(number)) for number in range(4)]
    for status in statuses[:2]:
        task.executor.update(status)
    task.agent.kill(task.task_id)
    faults.wait_held(1)
    assert task.silent()
    for status in statuses[2:]:
        task.executor.update(status)
    together = _records(task.stream.chunk())
    # What comes between them goes along.
    assert [event.type for event in together] == [
        Event.ACKNOWLEDGED,
        Event.ACKNOWLEDGED,
        Event.KILL,
        Event.ACKNOWLEDGED,
    ]
    assert [event.acknowledged.uuid for event in together if event.type == Event.ACKNOWLEDGED] == [
        status.uuid for status in statuses[:3]
    ]
    assert task.silent()
    faults.remove()
    assert task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == statuses[3].uuid


def test_another_fault_ends_a_collection(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=ACKNOWLEDGED rechunk.events_per_chunk=3")
    faults.add("event=KILL duplicate")
    task.executor.update(task.status())
    task.agent.kill(task.task_id)
    task.executor.event(Event.ACKNOWLEDGED)
    for _ in range(2):
        task.executor.event(Event.KILL)


def _joined(data: bytes) -> bytes:
    """The body that chunks make up."""
    body = bytearray()
    position = 0
    while position < len(data):
        end = data.index(b"\r\n", position)
        size = int(data[position:end], 16)
        body += data[end + 2 : end + 2 + size]
        position = end + 4 + size
    return bytes(body)


def _records(data: bytes) -> list[Event]:
    events = []
    while data:
        length, _, data = data.partition(b"\n")
        events.append(Event.FromString(data[: int(length)]))
        data = data[int(length) :]
    return events
