"""Random faults under a small correct executor: the agent lives through them, and afterwards everything works."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.faults.validation import EFFECTS, TYPES
from tests.integration.local_agent.executor_double import Connection
from tests.integration.local_agent.faults_control import FaultControl, RunningTask, until
from tests.integration.local_agent.rig import AgentUnderTest, alive
from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

Event = executor_pb2.Event
Call = executor_pb2.Call
STEPS = 25
# How long this executor waits for an answer before it gives a connection up; seconds.
PATIENCE = 0.03


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path_factory.mktemp("agent")) as running:
        yield running


class Survivor:
    """Resends until acknowledged, subscribes again whenever its stream is not what it should be."""

    def __init__(self, task: RunningTask) -> None:
        self.task = task
        self.stream: Connection | None = task.executor.stream
        self.unacknowledged: dict[bytes, mesos_pb2.TaskStatus] = {}
        self.sent: list[bytes] = []
        self.kills = 0
        self.patience = PATIENCE

    def new_update(self, state: mesos_pb2.TaskState = mesos_pb2.TASK_RUNNING) -> None:
        status = self.task.executor.status(self.task.task_id, state)
        self.unacknowledged[status.uuid] = status
        self.sent.append(status.uuid)
        self.resend()

    def resend(self) -> None:
        for status in list(self.unacknowledged.values()):
            call = self.task.executor.call(Call.UPDATE)
            call.update.status.CopyFrom(status)
            connection = self._connect()
            if connection is None:
                return
            connection.post(call)
            self._answer(connection)
            connection.socket.close()

    def subscribe(self) -> None:
        self.drop_stream()
        call = self.task.executor.call(Call.SUBSCRIBE)
        entry = call.subscribe.unacknowledged_tasks.add(name="t")
        entry.task_id.value = self.task.task_id
        entry.agent_id.value = "a"
        for status in self.unacknowledged.values():
            call.subscribe.unacknowledged_updates.add().status.CopyFrom(status)
        connection = self._connect()
        if connection is None:
            return
        connection.post(call)
        if self._answer(connection) == 200:
            self.stream = connection
        else:
            connection.socket.close()

    def read(self) -> None:
        """All that has come; a stream that makes no sense is dropped."""
        while self.stream is not None and (not self.stream.drained() or readable(self.stream.socket, self.patience)):
            try:
                event = self.stream.event()
            except (OSError, ValueError, AssertionError, DecodeError):
                event = None
            if event is None:
                self.drop_stream()
            elif event.type == Event.ACKNOWLEDGED:
                self.unacknowledged.pop(event.acknowledged.uuid, None)
            elif event.type == Event.KILL:
                self.kills += 1
            else:
                assert event.type != Event.SHUTDOWN, "nobody has ordered that"

    def drop_stream(self) -> None:
        if self.stream is not None:
            self.stream.socket.close()
            self.stream = None

    def _connect(self) -> Connection | None:
        try:
            connection = Connection(self.task.agent.port)
        except ConnectionError:
            return None
        connection.socket.settimeout(self.patience)
        return connection

    def _answer(self, connection: Connection) -> int:
        """Status; 0: none that could be waited for."""
        try:
            return connection.head()[0]
        except (OSError, ValueError, IndexError):
            return 0

    def settle(self, kills: int) -> None:
        """Returns when every update is acknowledged and so many more KILLs have come."""
        self.patience = 1.0
        wanted = self.kills + kills

        def settled() -> bool:
            if self.stream is None:
                self.subscribe()
            if kills:
                self.task.agent.kill(self.task.task_id)
            self.resend()
            self.patience = 0.05
            self.read()
            self.patience = 1.0
            return not self.unacknowledged and self.kills >= wanted

        until(settled)


def _random_fault(chance: random.Random) -> str:
    target = chance.choice(["call", "event", "event", "event", "connection"])
    effect = chance.choice(EFFECTS[target])
    words = [target if target == "connection" else f"{target}={chance.choice(list(TYPES[target]))}", effect]
    if effect == "refuse" and target == "call":
        words[1] = f"refuse={chance.choice([400, 401, 403, 404, 500, 503, 599])}"
    elif effect == "delay":
        words[1] = f"delay={chance.choice(['1ms', '20ms'])}"
    elif effect == "cut":
        words += [f"reset={chance.choice(['true', 'false'])}"]
        words += [f"after_bytes={chance.randrange(20)}"] if target == "event" else []
    elif effect == "corrupt":
        words[1] = chance.choice(
            ["corrupt.flip_bytes=1", "corrupt.record_length=99", "corrupt.record_length=x", "corrupt.event_type=77"]
        )
    elif effect == "rechunk":
        words[1] = chance.choice(["rechunk=1", "rechunk=7", "rechunk.events_per_chunk=3"])
    if (target, effect) != ("connection", "refuse"):
        words += chance.choice([[], ["times=1"], ["times=2", "skip=1"], ["probability=0.5"]])
    return " ".join(words)


@pytest.mark.parametrize("seed", range(20))
def test_agent_lives_through_random_faults(agent: AgentUnderTest, seed: int) -> None:
    chance = random.Random(seed)
    faults = FaultControl(agent)
    task = RunningTask(agent, f"t{seed}")
    container = agent.executor(f"e-t{seed}").pid
    executor = Survivor(task)
    active: list[str] = []
    for _ in range(STEPS):
        step = chance.choice(
            ["add", "add", "remove", "update", "update", "kill", "read", "subscribe", "drop", "abandon"]
        )
        if step == "add":
            active.append(faults.add(_random_fault(chance)))
        elif step == "remove" and active:
            faults.remove(active.pop(chance.randrange(len(active))))
        elif step == "update":
            executor.new_update()
        elif step == "kill":
            agent.kill(task.task_id)
        elif step == "read":
            executor.read()
        elif step == "subscribe":
            executor.subscribe()
        elif step == "drop":
            executor.drop_stream()
        elif step == "abandon":
            _abandon(agent, task)
    faults.remove()
    assert faults.list() == []
    executor.settle(kills=1)
    executor.new_update(mesos_pb2.TASK_FINISHED)
    executor.settle(kills=0)
    with agent.watch(task.task_id) as watch:
        seen = [watch.next().status.uuid for _ in executor.sent]
    # Each once, whatever was sent how often; held ones may have been overtaken.
    assert sorted(seen) == sorted(executor.sent)
    assert seen[-1] == executor.sent[-1]
    assert alive(container)
    assert agent.process is not None
    assert agent.process.poll() is None
    assert "Traceback" not in agent.errors.read_text()
    executor.drop_stream()
    task.close()


def _abandon(agent: AgentUnderTest, task: RunningTask) -> None:
    """Somebody who sends a call and does not care."""
    try:
        connection = Connection(agent.port)
    except ConnectionError:
        return
    try:
        connection.post(task.executor.call(Call.HEARTBEAT))
    except OSError:
        # Cut before it had spoken.
        return
    finally:
        connection.socket.close()
