"""Mesos' CheckInfo: nothing is interpreted, every change of value or presence is told."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from mesos.v1 import mesos_pb2
from tests.integration.health_e2e.rig import (
    CHECK,
    SLEEP,
    assert_a_second_apart,
    http_health,
    told_healthy,
    with_check,
    with_health,
)

if TYPE_CHECKING:
    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack
    from tests.integration.health_e2e.rig import Target


def updates(task: LaunchedTask) -> list[mesos_pb2.TaskStatus]:
    return [status for status in task.statuses if status.reason == CHECK]


def until(task: LaunchedTask, field: str, value: Any) -> mesos_pb2.TaskStatus:
    """Until the newest check update has this value; None: has none."""

    def says(status: mesos_pb2.TaskStatus) -> bool:
        name, member = field.split(".")
        part = getattr(status.check_status, name)
        assert status.check_status.HasField(name)
        return status.reason == CHECK and (getattr(part, member) if part.HasField(member) else None) == value

    return task.wait_status(says, f"check update with {field} = {value}", after=len(task.statuses) - 1)


def test_an_http_check_tells_value_and_presence(stack: Stack, target: Target) -> None:
    def edit(info: mesos_pb2.TaskInfo) -> None:
        with_check("HTTP")(info).http.port = target.port

    task = stack.launch(SLEEP, edit=edit)
    assert until(task, "http.status_code", 200).message == "HTTP check: status 200"
    target.status = 503
    assert until(task, "http.status_code", 503).message == "HTTP check: status 200 -> 503"
    target.stop()
    assert "Connection refused (was status 503)" in until(task, "http.status_code", None).message
    target.listen()
    until(task, "http.status_code", 503)
    assert task.kill()
    assert task.wait_end() == "TASK_KILLED"
    for status in task.statuses:
        assert status.check_status.type == mesos_pb2.CheckInfo.HTTP
        assert status.check_status.HasField("http")
        assert not status.HasField("healthy")
    # Until there was a result the message of the type was there and empty.
    assert not task.statuses[1].check_status.http.HasField("status_code")
    assert len(updates(task)) == 4


def test_a_command_check_tells_its_exit_code(stack: Stack) -> None:
    path = f"{stack.dir}/code"

    def say(script: str) -> None:
        with open(f"{path}.new", "w") as file:
            file.write(script)
        os.rename(f"{path}.new", path)

    def edit(info: mesos_pb2.TaskInfo) -> None:
        with_check("COMMAND")(info).command.command.value = f". {path}"

    say("exit 0")
    task = stack.launch(SLEEP, edit=edit)
    until(task, "command.exit_code", 0)
    say("exit 3")
    assert until(task, "command.exit_code", 3).message.endswith("exit code 0 -> 3")
    # No exit code: the update says so by the field's absence.
    say("kill -9 $$")
    assert "Killed" in until(task, "command.exit_code", None).message
    say("exit 0")
    until(task, "command.exit_code", 0)
    assert task.states[-1] == "TASK_RUNNING"


def test_a_tcp_check_tells_whether_it_could_connect(stack: Stack) -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=1000)
    port = server.getsockname()[1]

    def edit(info: mesos_pb2.TaskInfo) -> None:
        with_check("TCP")(info).tcp.port = port

    task = stack.launch(SLEEP, edit=edit)
    until(task, "tcp.succeeded", True)
    server.close()
    until(task, "tcp.succeeded", False)
    with socket.create_server(("127.0.0.1", port), backlog=1000):
        until(task, "tcp.succeeded", True)


def test_health_and_check_do_not_hide_each_other(stack: Stack, target: Target) -> None:
    def edit(info: mesos_pb2.TaskInfo) -> None:
        with_health(http_health(target.port, consecutive_failures=100_000, interval_seconds=0.3))(info)
        with_check("HTTP")(info).http.port = target.port

    task = stack.launch(SLEEP, edit=edit)
    told_healthy(task, healthy=True)
    until(task, "http.status_code", 200)
    target.status = 503
    told_healthy(task, healthy=False)
    until(task, "http.status_code", 503)
    healthy, code = False, False
    for status in task.statuses:
        # Once there, they stay.
        assert status.HasField("healthy") or not healthy
        assert status.check_status.http.HasField("status_code") or not code
        healthy, code = status.HasField("healthy"), status.check_status.http.HasField("status_code")
    assert healthy
    assert code
    assert_a_second_apart(task)


def test_a_check_survives_its_services(stack: Stack, target: Target) -> None:
    def edit(info: mesos_pb2.TaskInfo) -> None:
        with_check("HTTP")(info).http.port = target.port

    task = stack.launch(SLEEP, edit=edit)
    until(task, "http.status_code", 200)
    stack.restart("health")
    stack.restart("reporter")
    target.wait_requests(3)
    target.status = 404
    until(task, "http.status_code", 404)
    # Neither restart was a change.
    assert [status.check_status.http.status_code for status in updates(task)] == [200, 404]
