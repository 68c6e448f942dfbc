"""Decisions of the agent, one rule a test."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions
from services.local_agent.core.actions import (
    CancelTimer,
    DestroyContainer,
    LaunchContainer,
    StartTimer,
    Timer,
    TimerKind,
)
from services.local_agent.core.model import AgentState, ExecutorState
from services.local_agent.core.phase import Phase
from services.local_agent.core.step import Moment
from services.local_agent.core.tasks import AlreadyLaunched, Killed, OrderRefused
from services.local_agent.wire.http import Request
from tests.unit.local_agent.desk import EXECUTOR, FRAMEWORK, NOW, Desk, framework, running, task_info

Call = executor_pb2.Call
RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED
Status = mesos_pb2.TaskStatus


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_before_recovery_everything_is_answered_503() -> None:
    desk = Desk()
    desk.machine.phase = Phase.RECOVERING
    assert desk.post(desk.call(Call.HEARTBEAT)) == (503, "Agent has not finished recovery")


def test_first_launch_starts_the_container_and_its_registration_timer(desk: Desk) -> None:
    desk.launch("t1")
    timer = Timer(TimerKind.REGISTRATION, "container-0")
    assert list(desk.done) == [LaunchContainer("container-0"), StartTimer(timer, 60.0)]
    desk.launch("t2")
    assert not desk.done


def test_subscribed_comes_first_and_every_waiting_task_follows(desk: Desk) -> None:
    running(desk, "t1", "t2")
    assert desk.events() == ["SUBSCRIBED", "LAUNCH", "LAUNCH"]
    assert isinstance(desk.done[0], actions.OpenStream)
    assert CancelTimer(Timer(TimerKind.REGISTRATION, "container-0")) in desk.done


def test_heartbeat_comes_every_thirty_minutes(desk: Desk) -> None:
    running(desk)
    timer = Timer(TimerKind.HEARTBEAT, "container-0")
    assert StartTimer(timer, 1800.0) in desk.done
    desk.fire(TimerKind.HEARTBEAT)
    assert desk.events() == ["HEARTBEAT"]
    assert StartTimer(timer, 1800.0) in desk.done


def test_calls_before_subscribe_are_forbidden(desk: Desk) -> None:
    desk.launch("t1")
    assert desk.update(desk.status("t1", RUNNING)) == (403, "Executor is not subscribed")
    call = desk.call(Call.MESSAGE)
    call.message.data = b"x"
    assert desk.post(call) == (403, "Executor is not subscribed")
    assert desk.post(desk.call(Call.HEARTBEAT)) == (202, "")


def test_task_that_is_neither_listed_nor_reported_is_dropped(desk: Desk) -> None:
    running(desk, "t1", "t2", "t3")
    desk.update(desk.status("t1", RUNNING))
    late = desk.status("t3", RUNNING)
    desk.subscribe(tasks=["t2"], updates=[late])
    assert desk.events()[:2] == ["END", "SUBSCRIBED"]
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_RUNNING"]
    assert desk.received("t2") == []
    assert desk.received("t3") == ["TASK_DROPPED"], "an update in the list does not protect a task"


def test_executor_without_any_task_left_is_shut_down_instead(desk: Desk) -> None:
    running(desk)
    desk.subscribe()
    assert desk.events() == ["END", "SHUTDOWN"]
    assert StartTimer(Timer(TimerKind.SHUTDOWN_GRACE, "container-0"), 5.0) in desk.done


def test_idle_executor_that_once_reported_is_kept(desk: Desk) -> None:
    running(desk)
    desk.update(desk.status("t1", FINISHED))
    desk.acknowledge_all()
    desk.subscribe()
    assert desk.events() == ["END", "SUBSCRIBED"]


def test_subscribe_during_shutdown_gets_shutdown_and_the_end(desk: Desk) -> None:
    running(desk)
    executor = desk.state.executor(FRAMEWORK, EXECUTOR)
    assert executor is not None
    assert desk.take(desk.machine.shut_down(executor, NOW))
    desk.subscribe()
    assert desk.events() == ["SHUTDOWN", "END"]
    assert not desk.take(desk.machine.shut_down(executor, NOW)), "a second order changes nothing"
    desk.fire(TimerKind.SHUTDOWN_GRACE)
    assert DestroyContainer("container-0") in desk.done


def test_own_grace_period_of_the_executor_wins(desk: Desk) -> None:
    task = task_info("t1")
    task.executor.shutdown_grace_period.nanoseconds = 0
    desk.take(desk.machine.launch(framework(), [task], "c", "/s", NOW))
    executor = desk.state.executor(FRAMEWORK, EXECUTOR)
    assert executor is not None
    desk.take(desk.machine.shut_down(executor, NOW))
    assert StartTimer(Timer(TimerKind.SHUTDOWN_GRACE, "c"), 0.0) in desk.done


@pytest.mark.parametrize("kind", [TimerKind.REGISTRATION, TimerKind.SHUTDOWN_GRACE, TimerKind.HEARTBEAT])
def test_no_timer_of_an_executor_outlives_it(desk: Desk, kind: TimerKind) -> None:
    timers: set[Timer] = set()

    def follow() -> None:
        for action in desk.done:
            if isinstance(action, StartTimer):
                timers.add(action.timer)
            elif isinstance(action, CancelTimer):
                timers.discard(action.timer)

    desk.launch("t1")
    follow()
    if kind is not TimerKind.REGISTRATION:
        desk.subscribe()
        follow()
    if kind is TimerKind.SHUTDOWN_GRACE:
        desk.take(desk.machine.shut_down(desk.executor(), NOW))
        follow()
    assert kind in {timer.kind for timer in timers}
    desk.exit()
    follow()
    assert not timers


def test_executor_that_cannot_be_started_fails_its_tasks_with_the_cause(desk: Desk) -> None:
    desk.launch("t1")
    desk.take(desk.machine.container_failed("container-0", "no such file", NOW))
    status = desk.state.inboxes["t1"].received[0].status
    assert status.state == mesos_pb2.TASK_FAILED
    assert status.reason == mesos_pb2.TaskStatus.REASON_CONTAINER_LAUNCH_FAILED
    assert status.message == "Failed to launch container: no such file"
    assert status.source == mesos_pb2.TaskStatus.SOURCE_AGENT


def test_death_of_the_executor_ends_the_tasks_without_an_end_and_only_those(desk: Desk) -> None:
    running(desk, "t1", "t2")
    desk.launch("t3")
    desk.update(desk.status("t1", FINISHED))
    desk.exit()
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_FINISHED"]
    assert desk.received("t2") == desk.received("t3") == ["TASK_FAILED"]
    assert desk.subscribe() == (400, "Framework cannot be found")


def test_registration_timeout_does_nothing_to_an_executor_that_came(desk: Desk) -> None:
    running(desk)
    desk.fire(TimerKind.REGISTRATION)
    assert not desk.done


def test_kill_without_a_stream_is_lost_and_not_kept(desk: Desk) -> None:
    running(desk)
    desk.machine.stream_closed(1)
    assert desk.take(desk.machine.kill("t1", None, NOW)) is Killed.LOST
    desk.subscribe(tasks=["t1"])
    assert "KILL" not in desk.events()
    assert desk.take(desk.machine.kill("t1", None, NOW)) is Killed.SENT
    assert desk.take(desk.machine.kill("t9", None, NOW)) is Killed.OVER


def test_closing_of_a_replaced_stream_does_not_silence_the_new_one(desk: Desk) -> None:
    running(desk)
    desk.subscribe(tasks=["t1"])
    desk.machine.stream_closed(1)
    assert desk.take(desk.machine.kill("t1", None, NOW)) is Killed.SENT


def test_executor_info_of_a_running_executor_cannot_change(desk: Desk) -> None:
    desk.launch("t1")
    other = task_info("t2")
    other.executor.command.value = "y"
    with pytest.raises(OrderRefused, match=r"^task\.executor: "):
        desk.machine.launch(framework(), [other], "c", "/s", NOW)
    with pytest.raises(AlreadyLaunched):
        desk.machine.launch(framework(), [task_info("t1")], "c", "/s", NOW)


def test_launch_at_an_ending_executor_is_dropped(desk: Desk) -> None:
    running(desk)
    executor = desk.state.executor(FRAMEWORK, EXECUTOR)
    assert executor is not None
    desk.take(desk.machine.shut_down(executor, NOW))
    desk.launch("t2")
    assert desk.received("t2") == ["TASK_DROPPED"]


def test_statuses_made_by_the_agent_carry_its_time_and_name(desk: Desk) -> None:
    running(desk)
    desk.exit()
    status = desk.state.inboxes["t1"].received[0].status
    assert (status.source, status.timestamp) == (Status.SOURCE_AGENT, NOW.wall)
    assert (status.agent_id.value, status.executor_id.value) == ("agent-S0", EXECUTOR)


def test_wall_clock_that_jumps_back_changes_no_order(desk: Desk) -> None:
    running(desk)
    desk.update(desk.status("t1", RUNNING))
    past = Moment(-1e9, 11.0)
    desk.take(desk.machine.container_exited("container-0", 1, None, past))
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_RUNNING", "TASK_FAILED"]


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/x-protobuf", "application/x-protobuf"),
        ("application/x-protobuf, application/json", "application/json"),
        ("application/recordio", ""),
        ("text/html", ""),
    ],
)
def test_json_wins_whenever_it_is_acceptable(desk: Desk, accept: str | None, answer: str) -> None:
    desk.launch("t1")
    call = desk.call(Call.SUBSCRIBE)
    call.subscribe.SetInParent()
    headers = {"content-type": "application/x-protobuf"} | ({"accept": accept} if accept else {})
    request = Request("POST", "/api/v1/executor", headers, call.SerializeToString())
    first = desk.machine.request(request, 7, NOW).actions[0]
    if answer:
        assert first == actions.OpenStream(7, answer)
    else:
        assert isinstance(first, actions.Respond)
        assert first.status == 406


def test_state_starts_empty() -> None:
    assert Desk().replayed() == Desk().state
    assert AgentState().find_task("t") is None
    assert ExecutorState.REGISTERING.value == "registering"
