"""Teardown, drain, and SHUTDOWN at every point, one rule a test."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions
from services.local_agent.core.actions import StartTimer, Timer, TimerKind
from services.local_agent.core.model import ExecutorState
from services.local_agent.core.tasks import Killed, OrderRefused
from tests.unit.local_agent.desk import FRAMEWORK, NOW, Desk, framework, running, task_info

Call = executor_pb2.Call
Event = executor_pb2.Event
Status = mesos_pb2.TaskStatus
STARTING = mesos_pb2.TASK_STARTING
RUNNING = mesos_pb2.TASK_RUNNING
KILLING = mesos_pb2.TASK_KILLING
KILLED = mesos_pb2.TASK_KILLED
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def desk() -> Desk:
    return Desk()


# Teardown.


def tear_down(desk: Desk) -> None:
    desk.take(desk.machine.tear_down(desk.state.frameworks[FRAMEWORK], NOW))


def test_teardown_shuts_all_executors_down_and_drops_what_they_say(desk: Desk) -> None:
    running(desk)
    desk.update(desk.status("t1", RUNNING))
    tear_down(desk)
    assert desk.events() == ["SHUTDOWN"]
    assert StartTimer(Timer(TimerKind.SHUTDOWN_GRACE, "container-0"), 5.0) in desk.done
    assert desk.update(desk.status("t1", KILLED)) == (202, "")
    assert desk.events() == [], "never acknowledged"
    desk.subscribe()
    assert desk.events() == ["SHUTDOWN", "END"]
    desk.exit()
    assert desk.received("t1") == ["TASK_RUNNING"], "nobody is told of the end"
    assert desk.subscribe() == (400, "Framework cannot be found")


def test_id_of_a_framework_that_was_torn_down_is_used_up(desk: Desk) -> None:
    running(desk)
    tear_down(desk)
    with pytest.raises(OrderRefused, match=r"^framework\.id: "):
        desk.launch("t2")
    desk.exit()
    with pytest.raises(OrderRefused, match=r"^framework\.id: "):
        desk.launch("t2")
    assert desk.replayed().torn_down == {FRAMEWORK: None}


def test_executor_of_a_torn_down_framework_is_told_again_after_a_restart(desk: Desk) -> None:
    running(desk)
    tear_down(desk)
    desk.restart()
    desk.subscribe(tasks=["t1"])
    desk.fire(TimerKind.REREGISTRATION)
    assert desk.events() == ["SHUTDOWN"]


def test_retries_end_with_the_framework(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False))
    desk.update(desk.status("t1", RUNNING))
    tear_down(desk)
    timer = Timer(TimerKind.RETRY, "container-0", "t1")
    assert actions.CancelTimer(timer) in desk.done
    desk.take(desk.machine.timer_fired(timer, NOW))
    assert desk.received("t1") == ["TASK_RUNNING"]


# Drain.


@pytest.mark.parametrize(
    ("own", "bound", "sent_grace"), [(None, 2, 2), (9, 2, 2), (1, 2, 1), (0, 2, 0), (9, None, None)]
)
def test_drain_kills_with_the_bound_unless_the_task_wants_less(
    desk: Desk, own: int | None, bound: int | None, sent_grace: int | None
) -> None:
    task = task_info("t1")
    if own is not None:
        task.kill_policy.grace_period.nanoseconds = own
    desk.take(desk.machine.launch(framework(), [task], "c", "/s", NOW))
    desk.subscribe()
    assert desk.take(desk.machine.drain(bound, NOW)) == ["t1"]
    kill = desk.sent(Event.KILL)[0].kill
    assert kill.HasField("kill_policy") == (sent_grace is not None)
    assert kill.kill_policy.grace_period.nanoseconds == (sent_grace or 0)


def test_drain_writes_its_reason_over_killing_and_killed_only(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.drain(None, NOW))
    for state in (RUNNING, KILLING, KILLED):
        desk.update(desk.status("t1", state))
    desk.acknowledge_all()
    assert desk.reasons("t1") == ["REASON_COMMAND_EXECUTOR_FAILED", *["REASON_AGENT_DRAINING"] * 2]
    assert not desk.state.inboxes["t1"].received[0].status.HasField("reason")


@pytest.mark.parametrize(("aware", "state"), [(True, "TASK_DROPPED"), (False, "TASK_LOST")])
def test_launch_while_draining_is_dropped_and_after_it_is_not(desk: Desk, *, aware: bool, state: str) -> None:
    running(desk)
    desk.take(desk.machine.drain(None, NOW))
    desk.launch("t2", aware=aware)
    assert desk.received("t2") == [state]
    assert desk.reasons("t2") == ["REASON_AGENT_DRAINING"]
    desk.exit()
    desk.acknowledge_all()
    desk.launch("t3")
    assert desk.executor().state is ExecutorState.REGISTERING
    assert desk.received("t3") == [], "the drain ended with the last executor"


def test_drain_of_an_empty_agent_is_over_at_once(desk: Desk) -> None:
    assert desk.take(desk.machine.drain(None, NOW)) == []
    assert not desk.state.draining


# SHUTDOWN at every point.


@pytest.mark.parametrize("point", ["before subscribing", "while no stream is open", "running", "in the window"])
def test_shutdown_is_heard_wherever_the_executor_is(desk: Desk, point: str) -> None:
    desk.launch("t1")
    if point != "before subscribing":
        desk.subscribe()
    if point == "while no stream is open":
        desk.machine.stream_closed(1)
    if point == "in the window":
        desk.restart()
    heard = desk.take(desk.machine.shut_down(desk.executor(), NOW))
    assert heard == (point == "running")
    if not heard:
        assert desk.subscribe() == (200, "")
        assert desk.events() == ["SHUTDOWN", "END"], "as the first and only record"
    assert desk.update(desk.status("ghost", FINISHED))[0] in {202, 503}
    assert desk.take(desk.machine.kill("t1", None, NOW)) is Killed.OVER, "KILLs are ignored after it"
    desk.fire(TimerKind.SHUTDOWN_GRACE)
    assert actions.DestroyContainer("container-0") in desk.done


def test_updates_during_shutdown_are_acknowledged_and_delivered(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.shut_down(desk.executor(), NOW))
    assert desk.update(desk.status("t1", KILLED)) == (202, "")
    assert desk.events() == ["ACKNOWLEDGED"]
    desk.exit()
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_KILLED"], "the first recorded end wins"


def test_all_tasks_killed_before_delivery_means_shutdown_as_first_record(desk: Desk) -> None:
    desk.launch("t1")
    desk.take(desk.machine.kill("t1", None, NOW))
    desk.subscribe()
    assert desk.events() == ["SHUTDOWN"], "MESOS-8411"
