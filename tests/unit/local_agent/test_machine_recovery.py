"""Decisions of an agent that was restarted."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.core import actions
from services.local_agent.core.actions import DestroyContainer, StartTimer, Timer, TimerKind
from services.local_agent.core.phase import Phase
from tests.unit.local_agent.desk import NOW, Desk, running

RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(("aware", "state"), [(True, "TASK_GONE"), (False, "TASK_LOST")])
def test_end_of_the_window_destroys_who_did_not_come_back(desk: Desk, *, aware: bool, state: str) -> None:
    desk.launch("t1", aware=aware)
    desk.subscribe()
    desk.update(desk.status("t1", RUNNING))
    desk.acknowledge_all()
    desk.restart()
    assert list(desk.done) == [StartTimer(Timer(TimerKind.REREGISTRATION), 2.0)]
    assert desk.update(desk.status("t1", FINISHED))[0] == 503
    desk.fire(TimerKind.REREGISTRATION)
    assert list(desk.done) == [DestroyContainer("container-0")]
    assert desk.subscribe() == (200, "")
    assert desk.events() == ["SHUTDOWN", "END"]
    desk.exit()
    assert desk.received("t1") == ["TASK_RUNNING", state]


@pytest.mark.parametrize("restarts", [1, 2])
def test_window_opens_again_at_every_restart(desk: Desk, restarts: int) -> None:
    running(desk)
    desk.update(desk.status("t1", RUNNING))
    for _ in range(restarts):
        desk.restart()
        desk.subscribe()
        assert desk.events() == ["SUBSCRIBED"]
    desk.fire(TimerKind.REREGISTRATION)
    assert desk.machine.phase is Phase.READY
    assert not any(isinstance(action, DestroyContainer) for action in desk.done)


@pytest.mark.parametrize("limited", [True, False])
def test_why_an_executor_was_ended_is_not_remembered_over_a_restart(desk: Desk, *, limited: bool) -> None:
    """Mesos' agent keeps it in memory only."""
    running(desk)
    if limited:
        desk.take(desk.machine.container_limited("container-0", "Memory limit exceeded", [], NOW))
    else:
        desk.take(desk.machine.shut_down(desk.executor(), NOW))
    desk.restart()
    assert desk.executor().termination is None
    desk.exit()
    desk.fire(TimerKind.REREGISTRATION)
    status = desk.state.inboxes["t1"].received[0].status
    assert status.reason == mesos_pb2.TaskStatus.REASON_EXECUTOR_TERMINATED
    assert (status.state, status.message) == (mesos_pb2.TASK_FAILED, "Executor terminated")


def test_restart_without_executors_needs_no_window(desk: Desk) -> None:
    desk.restart()
    assert desk.machine.phase is Phase.READY


def test_task_that_was_never_delivered_is_dropped_after_a_restart(desk: Desk) -> None:
    desk.launch("t1")
    desk.restart()
    desk.subscribe()
    assert desk.events() == ["SHUTDOWN"]
    assert desk.received("t1") == [], "the agent is not registered yet"
    desk.fire(TimerKind.REREGISTRATION)
    assert desk.received("t1") == ["TASK_DROPPED"]


def test_unacknowledged_update_is_not_delivered_twice_over_a_restart(desk: Desk) -> None:
    running(desk)
    desk.update(desk.status("t1", mesos_pb2.TASK_STARTING))
    desk.update(desk.status("t1", RUNNING))
    desk.restart()
    assert [type(action) for action in desk.done] == [StartTimer]
    desk.subscribe(tasks=["t1"])
    desk.fire(TimerKind.REREGISTRATION)
    assert [type(action) for action in desk.done] == [actions.AwaitAcknowledgement]
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_STARTING", "TASK_RUNNING"]
