"""Status updates of executors: acknowledged, delivered, filtered."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.core.actions import AwaitAcknowledgement, Notify, SendEvent
from services.local_agent.core.model import TERMINAL_STATES
from services.local_agent.core.update_filter import RULES
from tests.unit.local_agent.desk import Desk, running

RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_update_is_acknowledged_and_delivered_in_order_one_at_a_time(desk: Desk) -> None:
    running(desk)
    for state in (mesos_pb2.TASK_STARTING, RUNNING, FINISHED):
        assert desk.update(desk.status("t1", state)) == (202, "")
        assert desk.events() == ["ACKNOWLEDGED"]
    assert desk.received("t1") == ["TASK_STARTING"], "one update of a task is in flight"
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]


def test_duplicate_is_acknowledged_again_and_not_delivered(desk: Desk) -> None:
    running(desk)
    status = desk.status("t1", RUNNING)
    for _ in range(3):
        assert desk.update(status) == (202, "")
        assert desk.events() == ["ACKNOWLEDGED"]
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_RUNNING"]


def test_nothing_counts_after_the_end_until_the_scheduler_knows_it(desk: Desk) -> None:
    running(desk)
    desk.update(desk.status("t1", FINISHED))
    desk.update(desk.status("t1", RUNNING))
    assert desk.events() == ["ACKNOWLEDGED"]
    desk.acknowledge_all()
    assert desk.received("t1") == ["TASK_FINISHED"]


def test_what_comes_after_the_acknowledged_end_is_delivered_unchecked(desk: Desk) -> None:
    running(desk)
    desk.update(desk.status("t1", FINISHED))
    desk.acknowledge_all()
    assert desk.update(desk.status("t1", RUNNING)) == (202, "")
    assert desk.events() == []
    assert desk.received("t1") == ["TASK_FINISHED", "TASK_RUNNING"]


def test_update_with_a_foreign_agent_id_vanishes(desk: Desk) -> None:
    running(desk)
    status = desk.status("t1", RUNNING)
    status.agent_id.value = "another"
    assert desk.update(status) == (202, "")
    assert desk.events() == []
    assert desk.received("t1") == []


def test_every_row_of_the_filter_has_its_own_name() -> None:
    assert len({name for name, _, _ in RULES}) == len(RULES) == 7


def test_update_is_acknowledged_before_it_is_on_its_way(desk: Desk) -> None:
    """Mesos: stored, ACKNOWLEDGED to the executor, forwarded."""
    running(desk)
    for update in (desk.status("t1", RUNNING), desk.status("t1", FINISHED)):
        desk.acknowledge_all()
        desk.update(update)
        kinds = [type(action) for action in desk.done]
        assert desk.events() == ["ACKNOWLEDGED"]
        assert kinds.index(SendEvent) < kinds.index(Notify) < kinds.index(AwaitAcknowledgement)


def test_unknown_terminal_states_are_not_taken_for_ends() -> None:
    assert mesos_pb2.TASK_UNREACHABLE not in TERMINAL_STATES
    assert mesos_pb2.TASK_UNKNOWN not in TERMINAL_STATES
