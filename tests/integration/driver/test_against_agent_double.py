"""The executor against an agent that misbehaves, or says what is rarely said."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING

import pytest

from mesos.v1.executor import executor_pb2
from tests.integration.driver.agent_double import AgentDouble, ExecutorUnderTest, framed, kill, launch
from tests.integration.faults.processes import children_of, wait_dead
from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., ExecutorUnderTest]

SHUTDOWN = executor_pb2.Event(type="SHUTDOWN")


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


def test_shutdown_as_the_first_record_ends_the_executor(start: Start) -> None:
    agent = AgentDouble()
    agent.first_event = SHUTDOWN
    assert start(agent).wait() == 0


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_subscribe_ends_the_executor(start: Start, status: int) -> None:
    assert start(AgentDouble([status])).wait() != 0


def test_subscribe_is_tried_again_until_the_agent_is_ready(start: Start, services: Stack) -> None:
    agent = AgentDouble([503, 404, 503, 500, 503])
    start(agent)
    times = [agent.next_subscribe().at for _ in range(6)]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 2
    data, _ = sleeper(services)
    agent.send(launch("t", data))
    assert agent.next_states(2) == ["TASK_STARTING", "TASK_RUNNING"]


def test_a_task_of_a_disowned_executor_is_killed(start: Start, services: Stack) -> None:
    agent = AgentDouble()
    executor = start(agent)
    data, pid_of = sleeper(services)
    agent.next_subscribe()
    agent.send(launch("t", data))
    pid = pid_of()
    agent.answers = [400]
    agent.drop()
    wait_dead(pid)
    assert executor.wait() != 0


def test_events_arrive_whatever_the_cuts(start: Start, services: Stack) -> None:
    agent = AgentDouble()
    start(agent)
    agent.next_subscribe()
    data, pid_of = sleeper(services)
    record = launch("t", data).SerializeToString()
    body = b"%d\n%s" % (len(record), record)
    for i in range(len(body)):
        agent.send_raw(b"1\r\n" + body[i : i + 1] + b"\r\n")
    assert agent.next_states(2) == ["TASK_STARTING", "TASK_RUNNING"]
    pid = pid_of()
    # Two records in one chunk, the second of a type of the future.
    first = kill("t").SerializeToString()
    both = b"%d\n%s2\n\x08\x63" % (len(first), first)
    agent.send_raw(b"%x\r\n%s\r\n" % (len(both), both))
    wait_dead(pid)
    assert agent.next_states(1) == ["TASK_KILLED"]


def test_a_task_of_16_mib(start: Start, services: Stack) -> None:
    agent = AgentDouble()
    start(agent)
    agent.next_subscribe()
    data, _ = sleeper(services)
    task = json.loads(data)
    task["padding"] = "x" * (16 << 20)
    agent.send(launch("t", json.dumps(task).encode()))
    assert agent.next_states(2) == ["TASK_STARTING", "TASK_RUNNING"]


def test_an_update_answered_503_is_sent_again_to_the_byte(start: Start, services: Stack) -> None:
    agent = AgentDouble()
    agent.update_answers = [503, 503]
    start(agent)
    agent.next_subscribe()
    data, _ = sleeper(services)
    agent.send(launch("t", data))
    tries = [agent.next_update().body for _ in range(3)]
    assert tries[0] == tries[1] == tries[2]
    assert agent.next_states(1) == ["TASK_RUNNING"]


def test_a_new_subscribe_lists_what_is_unacknowledged_to_the_byte(start: Start, services: Stack) -> None:
    agent = AgentDouble(acknowledge=False)
    start(agent)
    assert not agent.next_subscribe().call.subscribe.unacknowledged_tasks
    data, _ = sleeper(services)
    event = launch("t", data)
    agent.send(event)
    sent = [agent.next_update().call.update for _ in range(2)]
    agent.drop()
    again = agent.next_subscribe().call.subscribe
    assert list(again.unacknowledged_tasks) == [event.launch.task]
    assert list(again.unacknowledged_updates) == sent
    # The first acknowledgement takes the task off the list.
    acknowledged = executor_pb2.Event(type="ACKNOWLEDGED")
    acknowledged.acknowledged.task_id.value = "t"
    acknowledged.acknowledged.uuid = sent[0].status.uuid
    agent.send(acknowledged)
    agent.drop()
    third = agent.next_subscribe().call.subscribe
    assert not third.unacknowledged_tasks
    assert list(third.unacknowledged_updates) == sent[1:]


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


def test_the_token_is_sent_with_every_call_and_found_nowhere_else(start: Start, services: Stack) -> None:
    token = "header.payload.signature-of-a-test"
    agent = AgentDouble()
    executor = start(agent, MESOS_EXECUTOR_AUTHENTICATION_TOKEN=token)
    agent.next_subscribe()
    data, pid_of = sleeper(services)
    agent.send(launch("t", data))
    pid = pid_of()
    agent.next_states(2)
    assert all(f"Authorization: Bearer {token}" in head for head in agent.heads)
    for process in [executor.process.pid, pid, *children_of(executor.process.pid)]:
        for name in ("environ", "cmdline"):
            with open(f"/proc/{process}/{name}", "rb") as file:
                assert token.encode() not in file.read()
    for directory, _, files in os.walk(services.dir):
        for name in filter(lambda name: os.path.isfile(f"{directory}/{name}"), files):
            with open(f"{directory}/{name}", "rb") as file:
                assert token.encode() not in file.read(), name


def test_repeated_launches_and_kills_of_unknown_tasks_do_no_harm(start: Start, services: Stack) -> None:
    agent = AgentDouble()
    executor = start(agent)
    agent.next_subscribe()
    data, pid_of = sleeper(services)
    agent.send(kill("nobody"))
    for _ in range(3):
        agent.send(launch("t", data))
    pid = pid_of()
    assert agent.next_states(2) == ["TASK_STARTING", "TASK_RUNNING"]
    for grace in (30.0, 5.0, 5.0):
        agent.send(kill("t", grace))
    wait_dead(pid)
    assert agent.next_states(1) == ["TASK_KILLED"]
    assert executor.wait() == 0
    assert agent.updates.empty()


def test_a_shutdown_is_answered_with_killed_inside_the_grace_period(start: Start, services: Stack) -> None:
    agent = AgentDouble()
    executor = start(agent)
    agent.next_subscribe()
    data, pid_of = sleeper(services)
    agent.send(launch("t", data))
    pid = pid_of()
    assert agent.next_states(2) == ["TASK_STARTING", "TASK_RUNNING"]
    agent.send(SHUTDOWN)
    wait_dead(pid)
    assert agent.next_states(1) == ["TASK_KILLED"]
    assert executor.wait() == 0
