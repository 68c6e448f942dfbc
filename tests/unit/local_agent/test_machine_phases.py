"""Life of the agent's process: before recovery, cleanup, leave, check failures."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions
from services.local_agent.core.actions import Abort, DestroyContainer, EndAgent, StartTimer, Timer, TimerKind
from services.local_agent.core.phase import Phase
from tests.unit.local_agent.desk import EXECUTOR, FRAMEWORK, NOW, Desk, framework, running, task_info

Call = executor_pb2.Call
RUNNING = mesos_pb2.TASK_RUNNING
KILLED = mesos_pb2.TASK_KILLED
SECOND = 10**9


def test_routes_are_missing_first_then_recovery_takes_its_time() -> None:
    desk = Desk(not_found_for=3 * SECOND, unavailable_for=4 * SECOND)
    assert list(desk.done) == [StartTimer(Timer(TimerKind.NOT_FOUND), 3.0)]
    for kind in (Call.SUBSCRIBE, Call.HEARTBEAT):
        assert desk.post(desk.call(kind)) == (404, "404 Not Found.")
    desk.fire(TimerKind.NOT_FOUND)
    assert list(desk.done) == [StartTimer(Timer(TimerKind.UNAVAILABLE), 4.0)]
    for kind in (Call.SUBSCRIBE, Call.HEARTBEAT):
        assert desk.post(desk.call(kind)) == (503, "Agent has not finished recovery")
    desk.fire(TimerKind.UNAVAILABLE)
    assert desk.machine.phase is Phase.READY


def test_window_begins_after_the_time_of_recovery() -> None:
    desk = Desk(unavailable_for=SECOND)
    desk.fire(TimerKind.UNAVAILABLE)
    running(desk)
    desk.restart()
    assert desk.subscribe() == (503, "Agent has not finished recovery")
    desk.fire(TimerKind.UNAVAILABLE)
    assert list(desk.done) == [StartTimer(Timer(TimerKind.REREGISTRATION), 2.0)]
    assert desk.subscribe(tasks=["t1"]) == (200, "")
    assert desk.events() == ["SUBSCRIBED"]
    assert desk.update(desk.status("t1", RUNNING))[0] == 503
    assert desk.post(desk.call(Call.HEARTBEAT)) == (202, "")


# --recover=cleanup.


def cleanup_after_life() -> Desk:
    desk = Desk()
    running(desk)
    desk.update(desk.status("t1", RUNNING))
    desk.acknowledge_all()
    desk.config["cleanup"] = True
    desk.restart()
    return desk


def test_cleanup_shuts_executors_down_takes_their_updates_and_ends_after_them() -> None:
    desk = cleanup_after_life()
    assert StartTimer(Timer(TimerKind.SHUTDOWN_GRACE, "container-0"), 5.0) in desk.done
    assert desk.subscribe() == (200, "")
    assert desk.events() == ["SHUTDOWN", "END"]
    assert desk.update(desk.status("t1", KILLED)) == (202, ""), "there is no window"
    desk.fire(TimerKind.SHUTDOWN_GRACE)
    assert DestroyContainer("container-0") in desk.done
    desk.exit()
    assert EndAgent() in desk.done
    assert desk.received("t1") == ["TASK_RUNNING"], "the agent never registers again"


def test_agent_after_a_cleanup_is_a_new_one() -> None:
    desk = cleanup_after_life()
    desk.exit()
    assert desk.state.agent_id == ""
    assert not list(desk.state.executors())
    assert [executor.executor_id for executor in desk.state.ended] == [EXECUTOR]


def test_cleanup_of_nothing_ends_at_once() -> None:
    assert EndAgent() in Desk(cleanup=True).done


# SIGUSR1.


@pytest.mark.parametrize("checkpoint", [True, False])
def test_leaving_shuts_all_executors_down_and_their_tasks_are_lost(*, checkpoint: bool) -> None:
    desk = Desk()
    desk.launch("t1", checkpoint=checkpoint)
    desk.launch("t2", checkpoint=checkpoint)
    desk.subscribe()
    desk.update(desk.status("t2", KILLED))
    desk.take(desk.machine.leave(NOW))
    assert desk.events() == ["SHUTDOWN"]
    assert desk.received("t1") == ["TASK_LOST"]
    assert desk.received("t2") == ["TASK_KILLED"]
    status = desk.state.inboxes["t1"].received[0].status
    assert status.message == "Agent h removed: the agent unregistered"
    assert status.source == mesos_pb2.TaskStatus.SOURCE_MASTER
    desk.exit()
    assert EndAgent() in desk.done
    assert desk.received("t1") == ["TASK_LOST"]


def test_leaving_twice_is_leaving_once() -> None:
    desk = Desk()
    running(desk)
    desk.take(desk.machine.leave(NOW))
    desk.take(desk.machine.leave(NOW))
    assert desk.received("t1") == ["TASK_LOST"]


def test_leaving_before_recovery_looks_for_the_containers_all_the_same() -> None:
    desk = Desk()
    running(desk)
    desk.config["not_found_for"] = SECOND
    desk.restart()
    desk.take(desk.machine.leave(NOW))
    assert actions.RecoverContainers() in desk.done
    assert not any(isinstance(action, EndAgent) for action in desk.done), "the container may be alive"
    desk.take(desk.machine.timer_fired(Timer(TimerKind.NOT_FOUND), NOW))
    assert desk.machine.phase is Phase.LEAVING
    desk.exit()
    assert EndAgent() in desk.done


def test_window_that_ends_while_leaving_changes_nothing() -> None:
    desk = Desk()
    running(desk)
    desk.restart()
    desk.take(desk.machine.leave(NOW))
    desk.fire(TimerKind.REREGISTRATION)
    assert desk.machine.phase is Phase.LEAVING
    assert not desk.done


# What aborts Mesos' agent.


def _bad_list(desk: Desk, uuid: bytes) -> tuple[int, str]:
    status = desk.status("t1", RUNNING)
    status.uuid = uuid
    return desk.subscribe(tasks=["t1"], updates=[desk.status("t1", RUNNING), status])


BAD_UUIDS = [bytes(16), b"", b"x" * 37, b"x" * 15, bytes.fromhex("000000000000" + "7000" + "8" + "0" * 15)]


@pytest.mark.parametrize("uuid", BAD_UUIDS)
def test_bad_uuid_in_the_list_is_refused_and_named(uuid: bytes) -> None:
    desk = Desk()
    running(desk)
    status, body = _bad_list(desk, uuid)
    assert status == 400
    assert body.startswith("subscribe.unacknowledged_updates[1].status.uuid: Not a valid UUID")
    assert desk.received("t1") == [], "nothing of the call counts"


@pytest.mark.parametrize("uuid", BAD_UUIDS)
def test_bad_uuid_in_the_list_aborts_where_that_is_wanted(uuid: bytes) -> None:
    desk = Desk(abort_on_check_failure=True)
    running(desk)
    before = len(desk.log)
    _bad_list(desk, uuid)
    assert [type(action) for action in desk.done] == [Abort]
    assert len(desk.log) == before, "a later process knows nothing of the call"


@pytest.mark.parametrize("uuid", BAD_UUIDS)
@pytest.mark.parametrize("abort", [True, False])
def test_list_of_an_executor_that_is_being_ended_is_not_looked_at(uuid: bytes, *, abort: bool) -> None:
    desk = Desk(abort_on_check_failure=abort)
    running(desk)
    desk.take(desk.machine.shut_down(desk.executor(), NOW))
    assert _bad_list(desk, uuid) == (200, "")
    assert desk.events() == ["SHUTDOWN", "END"], "the only event"
    assert desk.received("t1") == []


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("abort", [True, False])
def test_update_before_its_launch_fails_the_check(*, abort: bool, listed: bool) -> None:
    desk = Desk(abort_on_check_failure=abort)
    running(desk)
    other = task_info("t9")
    other.executor.executor_id.value = "not there yet"
    desk.take(desk.machine.launch(framework(), [other], "c9", "/s", NOW))
    early = desk.status("t9", RUNNING)
    status, body = desk.subscribe(tasks=["t1"], updates=[early]) if listed else desk.update(early)
    if abort:
        assert [type(action) for action in desk.done] == [Abort]
    else:
        assert status == 400
        where = "subscribe.unacknowledged_updates[0].status" if listed else "update.status"
        assert body.startswith(f"{where}.task_id: t9 was not launched yet")


def test_terminal_update_before_its_launch_is_taken_and_the_launch_never_sent() -> None:
    desk = Desk()
    running(desk)
    other = task_info("t9")
    other.executor.executor_id.value = "other"
    desk.take(desk.machine.launch(framework(), [other], "c9", "/s", NOW))
    assert desk.update(desk.status("t9", KILLED)) == (202, "")
    executor = desk.state.executor(FRAMEWORK, "other")
    assert executor is not None
    assert executor.waiting() == []
