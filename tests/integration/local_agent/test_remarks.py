"""What an executor's author hears of calls that were refused and updates that did not count: log and ListExecutors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.executor_double import ExecutorDouble
from tests.integration.local_agent.raw_http import RawConnection, ask, json_call
from tests.integration.local_agent.rig import TIMEOUT, AgentUnderTest, task_info
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path) as running:
        yield running


def _said(agent: AgentUnderTest, message: str) -> list[dict[str, Any]]:
    """Warnings: they are written before the answer of a later order comes."""
    agent.executors()
    lines = [json.loads(line) for line in agent.errors.read_text().splitlines()]
    return [line for line in lines if line["msg"] == message and line["level"] == "warning"]


def _nobodys(agent: AgentUnderTest) -> list[tuple[str, int, str]]:
    answer = agent.stub.ListExecutors(agent_pb2.ListExecutorsRequest(), timeout=TIMEOUT)
    return [(one.call, one.status, one.executor_id) for one in answer.refusals]


def test_refusals_of_an_executor_are_logged_once_and_listed(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        early = executor.status("t1", RUNNING)
        for _ in range(12):
            assert executor.update(early) == (403, "Executor is not subscribed")
        before = agent.executor("shim")
        assert before.state == agent_pb2.EXECUTOR_STATE_REGISTERING
        assert [(one.call, one.status, one.body) for one in before.refusals] == [
            ("UPDATE", 403, "Executor is not subscribed")
        ] * 10
        assert before.refusals[0].at >= before.launched_at
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        executor.event(Event.LAUNCH)
        bad = executor.status("t1", RUNNING)
        bad.uuid = b"short"
        assert executor.update(bad)[0] == 400
    newest = agent.executor("shim").refusals[-1]
    assert (newest.status, newest.body) == (400, "Failed to validate Executor::Call: Not a valid UUID")
    assert (newest.framework_id, newest.executor_id) == (launched.framework_id, "shim")
    assert _nobodys(agent) == []
    first, second = _said(agent, "call refused")
    assert (first["executor"], first["call"], first["status"]) == ("shim", "UPDATE", 403)
    assert second["body"] == "Failed to validate Executor::Call: Not a valid UUID"


def test_refusals_of_nobody_that_is_known_are_told_without_content(agent: AgentUnderTest) -> None:
    assert ask(agent.port, json_call("SUBSCRIBE", "no such framework", "mine")).status == 400
    assert ask(agent.port, b'{"token": "s3cret"', path="/api/v1/executor").status == 400
    assert ask(agent.port, b"s3cret", path="/api/v2/executor").status == 404
    assert ask(agent.port, b'{"type": "s3cret"}', path="/api/v1").status == 400
    with RawConnection(agent.port) as connection:
        connection.socket.sendall(b"s3cret\r\n\r\n")
        assert connection.answer().status == 400
    assert _nobodys(agent) == [
        ("SUBSCRIBE", 400, "mine"),
        ("POST /api/v1/executor", 400, ""),
        ("POST /api/v2/executor", 404, ""),
        ("POST /api/v1", 400, ""),
        ("a request that is no HTTP", 400, ""),
    ]
    assert len(_said(agent, "call refused")) == 5
    assert "s3cret" not in agent.errors.read_text()


def test_updates_that_do_not_count_are_told_and_those_sent_again_are_not(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        executor.event(Event.LAUNCH)
        running = executor.status("t1", RUNNING)
        for _ in range(2):
            executor.update(running)
            executor.event(Event.ACKNOWLEDGED)
        assert list(agent.executor("shim").ignored_updates) == []
        reused = executor.status("t1", FINISHED)
        reused.uuid = running.uuid
        assert executor.update(reused) == (202, "")
        assert executor.update(executor.status("t2", RUNNING)) == (202, "")
    same, unknown = agent.executor("shim").ignored_updates
    assert (same.task_id, same.state) == ("t1", "TASK_FINISHED")
    assert same.reason == "uuid seen before: acknowledged, not delivered"
    assert (unknown.task_id, unknown.state) == ("t2", "TASK_RUNNING")
    said = [(line["executor"], line["task"], line["state"], line["why"]) for line in _said(agent, "update ignored")]
    assert said == [("shim", one.task_id, one.state, one.reason) for one in (same, unknown)]


def test_launch_that_cannot_start_says_why(agent: AgentUnderTest) -> None:
    task = task_info("t1")
    task.executor.command.shell = False
    task.executor.command.value = "/no/such/executor"
    answer = agent.launch(task)
    assert answer.failure.startswith("Failed to launch container: ")
    assert "/no/such/executor" in answer.failure
    assert agent.executor("shim").launch_failure == answer.failure
    assert agent.launch(task_info("t2", executor_id="good")).failure == ""
    assert agent.executor("good").launch_failure == ""


def test_launch_that_is_dropped_says_why(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    agent.drain()
    dropped = agent.launch(task_info("t2", executor_id="other"))
    assert (dropped.failure, dropped.sandbox) == ("Agent is draining", "")
    group = agent.launch_group(_group_executor(), [_group_task("t3")])
    assert group.failure == "Agent is draining"
    agent.shut_down(launched.framework_id, "shim")


def _group_executor() -> mesos_pb2.ExecutorInfo:
    executor = mesos_pb2.ExecutorInfo(type=mesos_pb2.ExecutorInfo.CUSTOM)
    executor.executor_id.value = "grouped"
    executor.command.value = "exec sleep 1000"
    for name, amount in (("cpus", 0.1), ("mem", 32.0), ("disk", 1.0)):
        executor.resources.add(name=name, type=mesos_pb2.Value.SCALAR).scalar.value = amount
    return executor


def _group_task(task_id: str) -> mesos_pb2.TaskInfo:
    task = mesos_pb2.TaskInfo(name=task_id)
    task.task_id.value = task_id
    task.agent_id.value = "filled in by the agent"
    return task
