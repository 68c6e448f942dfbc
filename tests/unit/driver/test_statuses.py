"""What the driver makes of a proposed status."""

from __future__ import annotations

import pytest

from executor_shim.driver import statuses
from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2

_Type = mesos_pb2.CheckInfo


def finished(status: mesos_pb2.TaskStatus, check: int) -> mesos_pb2.TaskStatus:
    payload = statuses.finished(status, executor_id="E", uuid=b"u" * 16, now=5.0, check=check)
    return executor_pb2.Call.Update.FromString(payload).status


def proposal() -> mesos_pb2.TaskStatus:
    return statuses.fallback("t", "TASK_RUNNING", "")


@pytest.mark.parametrize(("check", "name"), [(_Type.COMMAND, "command"), (_Type.HTTP, "http"), (_Type.TCP, "tcp")])
def test_a_task_with_a_check_says_that_there_is_no_result(check: int, name: str) -> None:
    status = finished(proposal(), check).check_status
    assert status.type == check
    assert status.HasField(name)
    assert not getattr(status, name).ListFields()


def test_a_result_is_left_as_it_is() -> None:
    status = proposal()
    status.check_status.type = _Type.COMMAND
    status.check_status.command.exit_code = 3
    assert finished(status, _Type.COMMAND).check_status == status.check_status


@pytest.mark.parametrize("check", [0, 99])
def test_without_a_check_nothing_is_said(check: int) -> None:
    assert not finished(proposal(), check).HasField("check_status")


def test_the_type_of_a_check_is_read_from_the_task() -> None:
    info = mesos_pb2.TaskInfo(name="n", check=mesos_pb2.CheckInfo(type=_Type.TCP))
    info.task_id.value, info.agent_id.value = "t", "a"
    assert statuses.check_type(info.SerializeToString()) == _Type.TCP
    info.ClearField("check")
    assert statuses.check_type(info.SerializeToString()) == 0
    # A task whose bytes nobody can read has none either.
    assert statuses.check_type(b"") == 0
