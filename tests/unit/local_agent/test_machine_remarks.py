"""What the machine says about calls that are refused and updates that do not count."""

from __future__ import annotations

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import remarks
from services.local_agent.core.remarks import IgnoredUpdate, RefusedCall
from services.local_agent.wire.http import Request
from tests.unit.local_agent.desk import EXECUTOR, FRAMEWORK, NOW, Desk, running

Call = executor_pb2.Call
RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED


def _ignored(desk: Desk) -> list[str]:
    assert all(isinstance(one, IgnoredUpdate) for one in desk.remarks)
    return [one.reason for one in desk.remarks if isinstance(one, IgnoredUpdate)]


def test_refused_call_of_a_known_executor_is_its_own() -> None:
    desk = Desk()
    desk.launch("t1")
    assert desk.update(desk.status("t1", RUNNING))[0] == 403
    container = desk.executor().container_id
    wanted = RefusedCall(container, "UPDATE", 403, "Executor is not subscribed", FRAMEWORK, EXECUTOR)
    assert desk.remarks == (wanted,)


def test_invalid_call_is_told_apart_from_its_answer_of_any_other() -> None:
    desk = Desk()
    running(desk)
    status = desk.status("t1", RUNNING)
    status.uuid = b"short"
    assert desk.update(status) == (400, "Failed to validate Executor::Call: Not a valid UUID")
    (remark,) = desk.remarks
    assert isinstance(remark, RefusedCall)
    assert (remark.call, remark.status, remark.container_id) == ("UPDATE", 400, desk.executor().container_id)


def test_unknown_ids_are_nobodys_but_named() -> None:
    desk = Desk()
    running(desk)
    call = desk.call(Call.SUBSCRIBE)
    call.subscribe.SetInParent()
    call.framework_id.value = "other"
    assert desk.post(call) == (400, "Framework cannot be found")
    assert desk.remarks == (RefusedCall("", "SUBSCRIBE", 400, "Framework cannot be found", "other", EXECUTOR),)


def test_what_is_no_call_is_told_by_method_and_path_without_its_content() -> None:
    desk = Desk()
    request = Request("POST", "/api/v1/executor", {"content-type": "application/json"}, b'{"secret": ')
    desk.take(desk.machine.request(request, 1, NOW))
    (remark,) = desk.remarks
    assert isinstance(remark, RefusedCall)
    assert (remark.call, remark.status) == ("POST /api/v1/executor", 400)
    assert "secret" not in remark.body


def test_agent_that_has_not_recovered_does_not_blame_the_call() -> None:
    desk = Desk()
    running(desk)
    desk.restart()
    assert desk.update(desk.status("t1", RUNNING))[0] == 503
    (remark,) = desk.remarks
    assert isinstance(remark, RefusedCall)
    assert remark.passing


def test_early_update_of_a_list_is_told() -> None:
    desk = Desk()
    desk.launch("t1")
    assert desk.subscribe(updates=[desk.status("t1", RUNNING)])[0] == 400
    (remark,) = desk.remarks
    assert isinstance(remark, RefusedCall)
    assert remark.body.startswith("subscribe.unacknowledged_updates[0].status.task_id: t1 was not launched yet")


def test_update_that_counts_and_its_resending_are_not_remarked() -> None:
    desk = Desk()
    running(desk)
    status = desk.status("t1", RUNNING)
    desk.update(status)
    assert _ignored(desk) == []
    desk.update(status)
    assert _ignored(desk) == []
    finished = desk.status("t1", FINISHED)
    desk.update(finished)
    desk.update(finished)
    assert _ignored(desk) == []
    desk.acknowledge_all()
    # Its acknowledgement may have been lost: what is sent again now is passed on unchecked, and is no mistake.
    finished.timestamp = 5.0
    desk.update(finished)
    assert _ignored(desk) == []


def test_uuid_that_is_used_for_something_else_is_told() -> None:
    desk = Desk()
    running(desk)
    status = desk.status("t1", RUNNING)
    desk.update(status)
    status.state = FINISHED
    assert desk.update(status) == (202, "")
    assert desk.remarks == (
        IgnoredUpdate(
            desk.executor().container_id,
            FRAMEWORK,
            EXECUTOR,
            "t1",
            "TASK_FINISHED",
            "uuid seen before: acknowledged, not delivered",
        ),
    )


def test_second_terminal_update_is_told() -> None:
    desk = Desk()
    running(desk)
    desk.update(desk.status("t1", FINISHED))
    desk.update(desk.status("t1", mesos_pb2.TASK_FAILED))
    assert _ignored(desk) == ["task has already ended: acknowledged, not delivered"]


def test_unknown_task_is_told() -> None:
    desk = Desk()
    running(desk)
    assert desk.update(desk.status("t2", RUNNING)) == (202, "")
    (why,) = _ignored(desk)
    assert why.startswith("task unknown")
    assert why.endswith(": delivered to the scheduler, never acknowledged")


def test_update_for_another_agent_is_told() -> None:
    desk = Desk()
    running(desk)
    status = desk.status("t1", RUNNING)
    status.agent_id.value = "elsewhere"
    desk.update(status)
    assert _ignored(desk) == ["agent_id of another agent: dropped, never acknowledged"]


def test_framework_that_was_torn_down_is_not_the_executors_mistake() -> None:
    desk = Desk()
    running(desk)
    desk.take(desk.machine.tear_down(desk.state.frameworks[FRAMEWORK], NOW))
    desk.update(desk.status("t1", mesos_pb2.TASK_KILLED))
    assert _ignored(desk) == []


def test_same_is_by_what_the_executor_says() -> None:
    desk = Desk()
    running(desk)
    status = desk.status("t1", RUNNING)
    desk.update(status)
    known = desk.state.inboxes["t1"].received[0].status
    assert known.agent_id.value
    assert remarks.same(status, known)
    for changes in ({"message": "x"}, {"state": FINISHED}, {"healthy": True}, {"data": b"x"}):
        other = mesos_pb2.TaskStatus()
        other.CopyFrom(status)
        other.MergeFrom(mesos_pb2.TaskStatus(**changes))
        assert not remarks.same(other, known), changes
