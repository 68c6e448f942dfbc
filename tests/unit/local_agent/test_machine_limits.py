"""Limits of containers, as far as the machine has a part in them."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.containers import resources
from services.local_agent.core import actions
from services.local_agent.core.evolve import apply
from services.local_agent.core.executors import SHUTDOWN
from services.local_agent.core.model import AgentState
from services.local_agent.core.snapshot import records_of
from tests.unit.local_agent.desk import NOW, Desk

_Status = mesos_pb2.TaskStatus
USED = resources.parse("mem:48")


def _running(*task_ids: str) -> Desk:
    desk = Desk()
    desk.launch(task_ids[0])
    desk.subscribe()
    for task_id in task_ids[1:]:
        desk.launch(task_id)
    return desk


def _limit(desk: Desk) -> None:
    desk.take(desk.machine.container_limited("container-0", "Memory limit exceeded", USED, NOW))


def test_limits_grow_before_the_task_is_delivered() -> None:
    desk = _running("t1")
    kinds = [type(action) for action in desk.done]
    assert kinds.index(actions.UpdateContainer) < len(kinds) - 1 - kinds[::-1].index(actions.SendEvent)
    desk.launch("t2")
    assert [type(action) for action in desk.done] == [actions.UpdateContainer, actions.SendEvent]


def test_limits_follow_the_end_of_a_task() -> None:
    desk = _running("t1", "t2")
    desk.update(desk.status("t1", mesos_pb2.TASK_RUNNING))
    assert actions.UpdateContainer("container-0") not in desk.done
    desk.update(desk.status("t1", mesos_pb2.TASK_FINISHED))
    assert actions.UpdateContainer("container-0") in desk.done


def test_memory_limit_ends_all_tasks_with_its_reason() -> None:
    desk = _running("t1", "t2")
    _limit(desk)
    assert desk.done == (actions.DestroyContainer("container-0"),)
    desk.take(desk.machine.container_exited("container-0", None, 9, NOW))
    for task_id in ("t1", "t2"):
        status = desk.state.inboxes[task_id].received[-1].status
        assert (status.state, status.reason) == (mesos_pb2.TASK_FAILED, _Status.REASON_CONTAINER_LIMITATION_MEMORY)
        assert status.message == "Memory limit exceeded"
        assert status.source == _Status.SOURCE_AGENT
        assert [(used.name, used.scalar.value) for used in status.limitation.resources] == [("mem", 48.0)]


def test_what_has_a_reason_to_end_keeps_it() -> None:
    desk = Desk()
    desk.launch("t1")
    desk.fire(actions.TimerKind.REGISTRATION)
    _limit(desk)
    assert desk.done == ()
    desk.take(desk.machine.container_exited("container-0", None, 9, NOW))
    status = desk.state.inboxes["t1"].received[-1].status
    assert status.reason == _Status.REASON_EXECUTOR_REGISTRATION_TIMEOUT
    assert not status.HasField("limitation")


def test_limit_during_shutdown_is_the_reason() -> None:
    desk = _running("t1")
    desk.take(desk.machine.shut_down(desk.executor(), NOW))
    assert SHUTDOWN in [action.event for action in desk.done if isinstance(action, actions.SendEvent)]
    _limit(desk)
    desk.take(desk.machine.container_exited("container-0", None, 9, NOW))
    assert desk.state.inboxes["t1"].received[-1].status.reason == _Status.REASON_CONTAINER_LIMITATION_MEMORY


@pytest.mark.parametrize("compacted", [False, True])
def test_the_reason_survives_in_the_log(compacted: bool) -> None:
    desk = _running("t1")
    _limit(desk)
    state = desk.replayed()
    if compacted:
        state = AgentState()
        for record in records_of(desk.state):
            apply(state, record)
    assert state.containers["container-0"].termination == desk.executor().termination


def test_limit_of_an_unknown_container_is_nobodys() -> None:
    desk = Desk()
    desk.take(desk.machine.container_limited("never", "x", USED, NOW))
    assert desk.done == ()
