"""What scheduler and master order and how they behave, one rule a test."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions
from services.local_agent.core.actions import AwaitAcknowledgement, PassMessage, StartTimer, Timer, TimerKind
from services.local_agent.core.tasks import AlreadyLaunched, Killed, OrderRefused
from tests.unit.local_agent.desk import EXECUTOR, FRAMEWORK, NOW, Desk, framework, running, task_info

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


# LAUNCH_GROUP: deliver or nothing is the agent's part.


def test_group_goes_in_one_event_after_single_tasks(desk: Desk) -> None:
    desk.launch_group("g1", "g2")
    desk.launch("t1")
    desk.launch_group("h1")
    desk.subscribe()
    assert desk.events() == ["SUBSCRIBED", "LAUNCH", "LAUNCH_GROUP", "LAUNCH_GROUP"]
    groups = [[task.task_id.value for task in e.launch_group.task_group.tasks] for e in desk.sent(Event.LAUNCH_GROUP)]
    assert groups == [["g1", "g2"], ["h1"]]


def test_group_for_a_running_executor_is_sent_at_once(desk: Desk) -> None:
    running(desk)
    desk.launch_group("g1", "g2")
    assert desk.events() == ["LAUNCH_GROUP"]


def test_group_with_one_id_in_use_changes_nothing(desk: Desk) -> None:
    running(desk)
    with pytest.raises(AlreadyLaunched, match=r"^tasks\[1\]\.task_id: "):
        desk.launch_group("g1", "t1")
    assert "g1" not in desk.executor().tasks
    other = task_info("g2")
    other.executor.command.value = "y"
    with pytest.raises(OrderRefused, match=r"^executor: "):
        desk.machine.launch(framework(), [other], "c", "/s", NOW, group=True)


def test_kill_of_one_before_delivery_kills_its_whole_group_and_no_other(desk: Desk) -> None:
    desk.launch_group("g1", "g2")
    desk.launch("t1")
    assert desk.take(desk.machine.kill("g2", None, NOW)) is Killed.BEFORE_DELIVERY
    assert desk.received("g1") == desk.received("g2") == ["TASK_KILLED"]
    desk.subscribe()
    assert desk.events() == ["SUBSCRIBED", "LAUNCH"], "not even before the scheduler has acknowledged the ends"


def test_group_that_was_never_delivered_is_dropped_whole_after_a_restart(desk: Desk) -> None:
    desk.launch_group("g1", "g2")
    desk.restart()
    desk.subscribe(tasks=[])
    assert desk.events() == ["SHUTDOWN"]
    desk.fire(TimerKind.REREGISTRATION)
    assert desk.received("g1") == desk.received("g2") == ["TASK_DROPPED"]


# The scheduler does not acknowledge.


def test_executor_is_acknowledged_although_the_scheduler_is_not_acknowledging(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False))
    for state in (STARTING, RUNNING, FINISHED):
        desk.update(desk.status("t1", state))
        assert desk.events() == ["ACKNOWLEDGED"]
    assert desk.received("t1") == ["TASK_STARTING"]


def test_scheduler_gets_it_again_after_10_s_doubling_to_10_min(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False))
    desk.update(desk.status("t1", RUNNING))
    timer = Timer(TimerKind.RETRY, "container-0", "t1")
    waits = []
    for _ in range(9):
        (start,) = [action for action in desk.done if isinstance(action, StartTimer)]
        assert start.timer == timer
        waits.append(start.seconds)
        desk.take(desk.machine.timer_fired(timer, NOW))
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    assert desk.received("t1") == ["TASK_RUNNING"] * 10


def test_acknowledgement_by_hand_lets_the_next_one_pass_and_ends_the_retries(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False))
    first, second = desk.status("t1", STARTING), desk.status("t1", RUNNING)
    desk.update(first)
    desk.update(second)
    assert desk.take(desk.machine.acknowledge("t1", second.uuid, NOW)) == b"", "it is not there yet"
    assert desk.take(desk.machine.acknowledge("t1", b"", NOW)) == first.uuid
    assert desk.received("t1") == ["TASK_STARTING", "TASK_RUNNING"]
    retry = Timer(TimerKind.RETRY, "container-0", "t1")
    assert actions.CancelTimer(retry) in desk.done
    assert StartTimer(retry, 10.0) in desk.done, "the next one has its own time"
    assert desk.take(desk.machine.acknowledge("t1", second.uuid, NOW)) == second.uuid
    assert desk.take(desk.machine.acknowledge("t1", b"", NOW)) == b""


def test_scheduler_that_comes_to_itself_acknowledges_everything(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False))
    desk.update(desk.status("t1", STARTING))
    desk.update(desk.status("t1", FINISHED))
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=True))
    assert any(isinstance(action, AwaitAcknowledgement) for action in desk.done)
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_STARTING", "TASK_FINISHED"]
    assert "t1" not in desk.executor().tasks


def test_unchecked_updates_of_a_finished_task_wait_for_each_other_too(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False))
    for _ in range(2):
        desk.update(desk.status("ghost", RUNNING))
        assert desk.events() == [], "never acknowledged to the executor"
    assert desk.received("ghost") == ["TASK_RUNNING"]
    desk.take(desk.machine.acknowledge("ghost", b"", NOW))
    assert desk.received("ghost") == ["TASK_RUNNING"] * 2


def test_behavior_is_kept_over_a_restart(desk: Desk) -> None:
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False, master_connected=False))
    desk.restart()
    assert (desk.state.scheduler_acknowledges, desk.state.master_connected) == (False, False)


# No master.


def test_without_a_master_updates_are_kept_and_acknowledged_and_go_out_in_order_later(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, master_connected=False))
    for state in (RUNNING, FINISHED):
        assert desk.update(desk.status("t1", state)) == (202, "")
        assert desk.events() == ["ACKNOWLEDGED"]
    assert desk.received("t1") == []
    desk.take(desk.machine.behave(NOW, master_connected=True))
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_RUNNING", "TASK_FINISHED"]


def test_statuses_made_by_the_agent_wait_for_the_master_too(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.behave(NOW, master_connected=False))
    desk.exit()
    assert desk.received("t1") == []
    desk.take(desk.machine.behave(NOW, master_connected=True))
    assert desk.received("t1") == ["TASK_FAILED"]


# MESSAGE, both ways unreliable.


def _message(desk: Desk) -> tuple[int, str]:
    call = desk.call(Call.MESSAGE)
    call.message.data = b"\0\xff"
    return desk.post(call)


def test_message_of_an_executor_reaches_the_scheduler_unless_there_is_no_master(desk: Desk) -> None:
    running(desk)
    assert _message(desk) == (202, "")
    assert PassMessage(FRAMEWORK, EXECUTOR, b"\0\xff") in desk.done
    desk.take(desk.machine.behave(NOW, master_connected=False))
    assert _message(desk) == (202, "")
    assert not any(isinstance(action, PassMessage) for action in desk.done)


def test_message_to_an_executor_needs_a_stream(desk: Desk) -> None:
    desk.launch("t1")
    assert not desk.take(desk.machine.message(desk.executor(), b"x", NOW)), "it has not subscribed"
    desk.subscribe()
    assert desk.take(desk.machine.message(desk.executor(), b"\0\xff", NOW))
    assert desk.sent(Event.MESSAGE)[0].message.data == b"\0\xff"
    desk.machine.stream_closed(1)
    assert not desk.take(desk.machine.message(desk.executor(), b"x", NOW))
    desk.subscribe(tasks=["t1"])
    assert "MESSAGE" not in desk.events(), "nobody keeps it"
