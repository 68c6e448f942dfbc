"""The executor against an agent that sends what no sound agent sends.

All that the local agent can be made to do stands in `tests/integration/checklist`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.driver.agent_double import AgentDouble, ExecutorUnderTest, Received, framed, kill, launch
from tests.integration.faults.processes import wait_dead
from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., ExecutorUnderTest]


def sleeper(stack: Stack) -> tuple[bytes, Callable[[], int]]:
    """A task that lives until it is killed, and its pid once it runs."""
    gate = stack.gate()
    task = {"processes": [{"name": "p", "cmdline": f"echo $$ > {gate.path}; exec sleep 600"}]}
    return json.dumps(task).encode(), lambda: int(gate.read())


@pytest.fixture
def services() -> Iterator[Stack]:
    """The three services, without an agent."""
    stack = Stack(with_agent=False)
    yield stack
    stack.close()


@pytest.fixture
def start(services: Stack) -> Iterator[Start]:
    started: list[ExecutorUnderTest] = []
    agents: list[AgentDouble] = []

    def go(agent: AgentDouble, **environ: str) -> ExecutorUnderTest:
        agents.append(agent)
        started.append(ExecutorUnderTest(agent, services.dir, services.run_dir, **environ))
        return started[-1]

    yield go
    for executor in started:
        executor.stop()
    for agent in agents:
        agent.close()


def test_an_event_that_kills_drivers_is_skipped_and_the_task_lives(start: Start, services: Stack) -> None:
    agent = AgentDouble()
    executor = start(agent)
    agent.next_subscribe()
    data, pid_of = sleeper(services)
    agent.send(launch("t", data))
    pid = pid_of()
    assert agent.next_states(2) == ["TASK_STARTING", "TASK_RUNNING"]
    # Length-delimited field that is longer than the record: no protobuf parser takes it.
    agent.send_raw(framed(b"\x22\xff\x7f"))
    agent.send(kill("t"))
    wait_dead(pid)
    assert agent.next_states(1) == ["TASK_KILLED"]
    assert executor.wait() == 0
    with open(executor.log) as log:
        assert "has killed 3 drivers: it is skipped" in log.read()


def test_a_task_whose_launch_kills_drivers_fails(start: Start) -> None:
    agent = AgentDouble()
    start(agent)
    agent.next_subscribe()
    event = launch("poison", b"{}").SerializeToString()
    agent.send_raw(framed(event + b"\x22\xff\x7f"))
    update = agent.next_update().call.update.status
    assert (update.task_id.value, update.state) == ("poison", 3)


def test_the_tasks_of_a_group_that_kills_drivers_fail(start: Start) -> None:
    agent = AgentDouble()
    start(agent)
    agent.next_subscribe()
    event = executor_pb2.Event(type="LAUNCH_GROUP")
    for name in ("a", "b"):
        task = event.launch_group.task_group.tasks.add(name=name)
        task.task_id.value, task.agent_id.value = name, "S"
    agent.send_raw(framed(event.SerializeToString() + b"\x22\xff\x7f"))
    updates = [agent.next_update().call.update.status for _ in range(2)]
    assert {(update.task_id.value, update.state) for update in updates} == {("a", 3), ("b", 3)}


class Forgetful(AgentDouble):
    """Its acknowledgement of the first end is lost."""

    lost = 0

    def ack(self, received: Received) -> None:
        if self.lost or received.call.update.status.state != mesos_pb2.TASK_FINISHED:
            super().ack(received)
        else:
            self.lost += 1


def test_an_id_is_used_again_though_the_acknowledgement_of_its_end_was_lost(start: Start, services: Stack) -> None:
    agent = Forgetful()
    executor = start(agent)
    agent.next_subscribe()
    gate = services.gate()
    for turn in ("first", "second"):
        task = {"processes": [{"name": "p", "cmdline": f"echo {turn} > {gate.path}"}]}
        agent.send(launch("t", json.dumps(task).encode()))
        assert gate.read() == turn
        assert agent.next_states(3) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    assert agent.lost == 1
    # Nothing of the first one is waited for, or sent again into the life of the second.
    assert executor.wait() == 0
    assert agent.updates.empty()
