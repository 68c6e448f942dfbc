"""Faults on events, with real sockets: when they come, and whether."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest

from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.faults_control import FaultControl, RunningTask
from tests.integration.local_agent.rig import AgentUnderTest

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


def test_delayed_events_arrive_later_each_by_the_same_time(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=KILL delay=300ms")
    begin = time.monotonic()
    for _ in range(20):
        task.agent.kill(task.task_id)
    task.executor.event(Event.KILL)
    assert time.monotonic() - begin >= 0.3
    for _ in range(19):
        task.executor.event(Event.KILL)
    # A latency, not a rate: one behind the other they would take six seconds.
    assert time.monotonic() - begin < 4


def test_an_event_waits_behind_a_delayed_one(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=ACKNOWLEDGED delay=250ms")
    begin = time.monotonic()
    task.executor.update(task.status())
    task.agent.kill(task.task_id)
    task.executor.event(Event.ACKNOWLEDGED)
    assert time.monotonic() - begin >= 0.25
    task.executor.event(Event.KILL)


def test_frozen_stream_thaws_in_order(task: RunningTask, faults: FaultControl) -> None:
    frozen = faults.add(f"event=any hold executor={task.executor.executor_id}")
    statuses = [task.status(str(number)) for number in range(3)]
    for status in statuses:
        assert task.executor.update(status) == (202, "")
        assert task.agent.kill(task.task_id).sent
    faults.wait_held(6)
    assert task.silent()
    other = RunningTask(task.agent, f"{task.task_id}-other")
    other.close()
    assert faults.remove(frozen) == [frozen]
    for status in statuses:
        assert task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == status.uuid
        task.executor.event(Event.KILL)


def test_one_held_event_holds_up_the_others(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=ACKNOWLEDGED hold times=1")
    held, later = task.status("held"), task.status("later")
    for status in (held, later):
        task.executor.update(status)
    task.agent.kill(task.task_id)
    faults.wait_held(3)
    assert task.silent()
    faults.remove()
    assert [task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid for _ in range(2)] == [held.uuid, later.uuid]
    task.executor.event(Event.KILL)


def test_replaced_stream_keeps_what_is_held_and_the_new_one_does_not_wait(
    task: RunningTask, faults: FaultControl
) -> None:
    faults.add("event=KILL hold times=1")
    task.agent.kill(task.task_id)
    faults.wait_held(1)
    old = task.stream
    assert task.resubscribe() == (200, "")
    task.executor.event(Event.SUBSCRIBED)
    faults.remove()
    event = old.event()
    assert event is not None
    assert event.type == Event.KILL
    assert old.event() is None
    old.socket.close()


def test_what_is_held_on_a_closed_stream_is_lost(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=KILL hold")
    task.agent.kill(task.task_id)
    faults.wait_held(1)
    task.stream.socket.close()
    faults.wait_held(0)
    faults.remove()
    assert task.resubscribe() == (200, "")
    task.executor.event(Event.SUBSCRIBED)
    task.agent.kill(task.task_id)
    task.executor.event(Event.KILL)
    assert task.silent()


def test_lost_acknowledgements_leave_the_stream_whole(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=ACKNOWLEDGED lose times=1")
    lost, found = task.status("lost"), task.status("found")
    assert task.executor.update(lost) == (202, "")
    assert task.executor.update(found) == (202, "")
    assert task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == found.uuid
    assert task.executor.update(lost) == (202, "")
    assert task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == lost.uuid


def test_duplicate_event_comes_twice(task: RunningTask, faults: FaultControl) -> None:
    faults.add("event=KILL duplicate times=1")
    for _ in range(2):
        task.agent.kill(task.task_id)
    for _ in range(3):
        task.executor.event(Event.KILL)
    assert task.silent()


def test_shutdown_as_the_first_record_is_an_event_of_its_executor(task: RunningTask, faults: FaultControl) -> None:
    task.stream.socket.close()
    task.agent.shut_down(task.executor.framework_id, task.executor.executor_id)
    faults.add(f"event=SHUTDOWN duplicate executor={task.executor.executor_id}")
    assert task.executor.subscribe() == (200, "")
    for _ in range(2):
        task.executor.event(Event.SHUTDOWN)
    assert task.stream.event() is None
