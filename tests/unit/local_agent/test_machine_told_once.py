"""What the scheduler must not hear: ends told twice, statuses of frameworks that are over, news without a master."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.core import records, snapshot
from services.local_agent.core.actions import AwaitAcknowledgement, Notify, RecoverContainers, Timer, TimerKind
from services.local_agent.core.evolve import apply
from services.local_agent.core.model import AgentState, Framework
from services.local_agent.core.phase import Phase
from tests.unit.local_agent.desk import FRAMEWORK, NOW, Call, Desk, running, task_info

RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def desk() -> Desk:
    return Desk()


def master(desk: Desk, *, connected: bool) -> None:
    desk.take(desk.machine.behave(NOW, master_connected=connected))


def tear_down(desk: Desk, framework_id: str = FRAMEWORK) -> None:
    desk.take(desk.machine.tear_down(desk.state.frameworks[framework_id], NOW))


def without_checkpoint(desk: Desk) -> None:
    desk.launch("t1", checkpoint=False)
    desk.launch("t2", checkpoint=False)
    desk.subscribe()


def compacted(desk: Desk) -> None:
    """The log is the shortest one of its state."""
    desk.log = [records.encode(record) for record in snapshot.records_of(desk.state)]


# A framework that does not checkpoint, and an agent that goes.


def test_only_tasks_without_an_end_are_lost_with_the_agent(desk: Desk) -> None:
    without_checkpoint(desk)
    desk.update(desk.status("t1", FINISHED))
    assert desk.received("t1") == ["TASK_FINISHED"], "not acknowledged by the scheduler yet"
    desk.restart()
    assert desk.received("t1") == ["TASK_FINISHED"]
    assert desk.received("t2") == ["TASK_LOST"]


def test_nobody_hears_of_tasks_of_a_framework_that_was_torn_down(desk: Desk) -> None:
    without_checkpoint(desk)
    tear_down(desk)
    desk.restart()
    assert desk.received("t1") == desk.received("t2") == []
    assert not list(desk.state.executors()), "and yet they are not recovered"


def test_what_the_master_would_say_waits_for_the_master(desk: Desk) -> None:
    without_checkpoint(desk)
    master(desk, connected=False)
    desk.restart()
    assert desk.received("t1") == []
    compacted(desk)
    desk.restart()
    assert desk.received("t1") == []
    master(desk, connected=True)
    assert desk.received("t1") == desk.received("t2") == ["TASK_LOST"]
    assert Notify("t1") in desk.done
    desk.restart()
    master(desk, connected=False)
    master(desk, connected=True)
    assert desk.received("t1") == ["TASK_LOST"], "once"


# Teardown.


def test_subscribing_again_after_a_teardown_drops_no_task(desk: Desk) -> None:
    running(desk)
    tear_down(desk)
    desk.restart()
    desk.subscribe()
    desk.fire(TimerKind.REREGISTRATION)
    assert desk.received("t1") == []


def test_unowned_updates_of_a_torn_down_framework_go_nowhere(desk: Desk) -> None:
    running(desk)
    master(desk, connected=False)
    desk.update(desk.status("ghost", RUNNING))
    tear_down(desk)
    master(desk, connected=True)
    assert desk.received("ghost") == []
    assert not desk.state.unowned
    desk.executor().stream = None
    assert desk.replayed() == desk.state


@pytest.mark.parametrize("short_log", [False, True])
def test_unowned_updates_of_other_frameworks_stay_in_their_order(desk: Desk, *, short_log: bool) -> None:
    running(desk)
    info = mesos_pb2.FrameworkInfo(user="u", name="other", checkpoint=True)
    info.id.value = "other"
    desk.take(desk.machine.launch(Framework("other", info), [task_info("o1")], "c-other", "/s", NOW))
    master(desk, connected=False)
    first, second, third = (desk.status("ghost", RUNNING) for _ in range(3))
    desk.update(first)
    call = desk.call(Call.SUBSCRIBE)
    call.framework_id.value = "other"
    call.subscribe.SetInParent()
    desk.post(call)
    call = desk.call(Call.UPDATE)
    call.framework_id.value = "other"
    call.update.status.CopyFrom(second)
    assert desk.post(call)[0] == 202
    desk.update(third)
    if short_log:
        compacted(desk)
    desk.machine.state = desk.replayed()
    master(desk, connected=True)
    assert [entry.status.uuid for entry in desk.state.inboxes["ghost"].received] == [first.uuid]
    tear_down(desk)
    # The head is gone; the next one is on its way, and the late answer to the old head means nothing.
    assert AwaitAcknowledgement("", "ghost", second.uuid) in desk.done
    desk.take(desk.machine.scheduler_acknowledged("", "ghost", first.uuid, NOW))
    desk.acknowledge_all()
    assert [entry.status.uuid for entry in desk.state.inboxes["ghost"].received] == [first.uuid, second.uuid]
    assert not desk.state.unowned
    assert not desk.state.unowned_frameworks


# SIGUSR1.


@pytest.mark.parametrize("short_log", [False, True])
def test_agent_that_dies_while_it_leaves_is_followed_by_a_new_one(desk: Desk, *, short_log: bool) -> None:
    running(desk)
    desk.update(desk.status("t1", RUNNING))
    desk.acknowledge_all()
    desk.take(desk.machine.leave(NOW))
    assert desk.state.leaving
    if short_log:
        compacted(desk)
    desk.restart()
    assert desk.received("t1") == ["TASK_RUNNING", "TASK_LOST"], "one end"
    assert desk.machine.phase is Phase.READY, "nobody is waited for"
    assert desk.subscribe() == (400, "Framework cannot be found")
    assert not desk.state.leaving
    desk.launch("t2")
    desk.restart()
    assert desk.executor().tasks, "the new agent is one that stays"


def test_leaving_is_in_the_log_before_what_the_master_says_of_it(desk: Desk) -> None:
    running(desk)
    before = len(desk.log)
    desk.take(desk.machine.leave(NOW))
    assert isinstance(records.decode(desk.log[before]), records.AgentLeaving)


def test_leaving_says_nothing_of_a_torn_down_framework(desk: Desk) -> None:
    running(desk)
    tear_down(desk)
    desk.take(desk.machine.leave(NOW))
    assert desk.received("t1") == []


def test_leaving_without_a_master_is_told_to_the_next_one(desk: Desk) -> None:
    running(desk)
    master(desk, connected=False)
    desk.take(desk.machine.leave(NOW))
    desk.exit()
    assert desk.received("t1") == []
    desk.restart()
    master(desk, connected=True)
    assert desk.received("t1") == ["TASK_LOST"]


# The end of a process that has not looked for its containers yet.


def test_who_is_to_destroy_early_finds_first(desk: Desk) -> None:
    running(desk)
    desk.config["not_found_for"] = 10**9
    desk.restart()
    assert desk.machine.phase is Phase.UNROUTED
    desk.take(desk.machine.recover_early(NOW))
    assert list(desk.done) == [RecoverContainers()]
    desk.take(desk.machine.timer_fired(Timer(TimerKind.NOT_FOUND), NOW))
    assert not desk.done, "once"


def test_who_has_found_does_not_find_again(desk: Desk) -> None:
    running(desk)
    desk.take(desk.machine.recover_early(NOW))
    assert desk.done == ()


def test_state_of_the_log_is_the_state() -> None:
    """Of everything that this file is about, through both kinds of log."""
    desk = Desk()
    without_checkpoint(desk)
    desk.update(desk.status("ghost", RUNNING))
    master(desk, connected=False)
    desk.update(desk.status("ghost", RUNNING))
    desk.restart()
    desk.launch("t3")
    desk.take(desk.machine.leave(NOW))
    assert len(desk.state.held) == 3
    state = AgentState()
    for record in snapshot.records_of(desk.state):
        apply(state, records.decode(records.encode(record)))
    assert state == desk.state == desk.replayed()
