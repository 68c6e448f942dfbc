"""What master and scheduler do, through the control API of a real agent process."""

from __future__ import annotations

import itertools
import os
import signal
from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.executor_double import ExecutorDouble
from tests.integration.local_agent.rig import AgentUnderTest, MessageWatch, alive, task_info
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Event = executor_pb2.Event
Call = executor_pb2.Call
Status = mesos_pb2.TaskStatus
STARTING = mesos_pb2.TASK_STARTING
RUNNING = mesos_pb2.TASK_RUNNING
KILLED = mesos_pb2.TASK_KILLED
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path, "--executor-shutdown-grace-period", "300ms") as running:
        yield running


def group_executor() -> mesos_pb2.ExecutorInfo:
    info = mesos_pb2.ExecutorInfo(type=mesos_pb2.ExecutorInfo.CUSTOM)
    info.executor_id.value = "shim"
    info.command.value = "exec sleep 1000"
    for name, amount in (("cpus", 0.1), ("mem", 64), ("disk", 32)):
        info.resources.add(name=name, type=mesos_pb2.Value.SCALAR).scalar.value = amount
    return info


def member(task_id: str) -> mesos_pb2.TaskInfo:
    task = task_info(task_id)
    task.ClearField("executor")
    return task


def code_and_text(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str]:
    return error.value.code(), str(error.value.details())


def subscribed(agent: AgentUnderTest, framework_id: str, *tasks: str) -> ExecutorDouble:
    executor = ExecutorDouble(agent.port, framework_id)
    assert executor.subscribe() == (200, "")
    executor.event(Event.SUBSCRIBED)
    for task in tasks:
        assert executor.event(Event.LAUNCH).launch.task.task_id.value == task
    return executor


def test_group_arrives_in_one_event_and_whole(agent: AgentUnderTest) -> None:
    launched = agent.launch_group(group_executor(), [member("g1"), member("g2")])
    assert os.path.isdir(launched.sandbox)
    with subscribed(agent, launched.framework_id) as executor:
        group = executor.event(Event.LAUNCH_GROUP).launch_group.task_group
        assert [task.task_id.value for task in group.tasks] == ["g1", "g2"]
        assert group.tasks[1].executor.framework_id.value == launched.framework_id
        assert group.tasks[1].agent_id.value == launched.agent_id
        later = agent.launch_group(group_executor(), [member("h1")])
        assert later.container_id == launched.container_id
        assert later.launch_written_at > 0
        executor.event(Event.LAUNCH_GROUP)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (lambda r: r.ClearField("executor"), "INVALID_ARGUMENT", "executor: missing"),
        (lambda r: r.ClearField("tasks"), "INVALID_ARGUMENT", "tasks: must not be empty"),
        (lambda r: r.tasks[1].task_id.__setattr__("value", ".."), "INVALID_ARGUMENT", "tasks[1].task_id: "),
        (lambda r: r.tasks[1].task_id.__setattr__("value", "g1"), "INVALID_ARGUMENT", "tasks[1].task_id: 'g1' is in"),
        (lambda r: r.tasks[1].executor.CopyFrom(task_info("x").executor), "INVALID_ARGUMENT", "tasks[1].executor: "),
        (lambda r: r.tasks[0].kill_policy.grace_period.__setattr__("nanoseconds", -1), "INVALID_ARGUMENT", "tasks[0]"),
        (
            lambda r: r.executor.resources.pop(0),
            "INVALID_ARGUMENT",
            "executor.resources: Executor 'shim' uses less CPU",
        ),
        (lambda r: r.framework.__setattr__("name", "n"), "INVALID_ARGUMENT", "framework.user: missing"),
        (lambda r: r.executor.container.__setattr__("type", 2), "INVALID_ARGUMENT", "executor.container: "),
    ],
)
def test_bad_group_is_refused_by_its_field_and_changes_nothing(
    agent: AgentUnderTest, change: Callable[[agent_pb2.LaunchTaskGroupRequest], object], code: str, text: str
) -> None:
    request = agent_pb2.LaunchTaskGroupRequest(executor=group_executor(), tasks=[member("g1"), member("g2")])
    change(request)
    with pytest.raises(grpc.RpcError) as refused:
        _send_partial(agent, request)
    assert code_and_text(refused)[0] is grpc.StatusCode[code]
    assert code_and_text(refused)[1].startswith(text)
    assert agent.executors() == []


def _send_partial(agent: AgentUnderTest, request: agent_pb2.LaunchTaskGroupRequest) -> None:
    """As a caller sends it whose library does not check required fields."""
    call: Callable[..., object] = agent.channel.unary_unary(
        "/trivet.agent.v1.LocalAgentService/LaunchTaskGroup",
        request_serializer=lambda message: message.SerializePartialToString(),
        response_deserializer=agent_pb2.LaunchTaskGroupResponse.FromString,
    )
    call(request, timeout=30)


def test_group_with_a_live_id_is_refused_whole(agent: AgentUnderTest) -> None:
    agent.launch_group(group_executor(), [member("g1")])
    with pytest.raises(grpc.RpcError) as refused:
        agent.launch_group(group_executor(), [member("new"), member("g1")])
    assert code_and_text(refused)[0] is grpc.StatusCode.ALREADY_EXISTS
    assert code_and_text(refused)[1].startswith("tasks[1].task_id: ")
    assert agent.executor("shim").task_ids == ["g1"]


def test_messages_pass_both_ways_and_to_every_watcher_of_the_framework(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    framework = launched.framework_id
    assert not agent.message(framework, "shim", b"too early")
    watches = [MessageWatch(agent.stub, name) for name in (framework, framework, "another framework")]
    with subscribed(agent, framework, "t1") as executor, watches[0] as one, watches[1] as two, watches[2] as other:
        assert agent.message(framework, "shim", b"ping\0\xff")
        assert executor.event(Event.MESSAGE).message.data == b"ping\0\xff"
        call = executor.call(Call.MESSAGE)
        call.message.data = b"pong\0\xff"
        assert executor.ask(call) == (202, "")
        assert one.next() == two.next() == ("shim", b"pong\0\xff")
        agent.executors()
        assert other.empty()
    with pytest.raises(grpc.RpcError) as unknown:
        agent.message(framework, "nobody", b"x")
    assert code_and_text(unknown)[0] is grpc.StatusCode.NOT_FOUND


def test_scheduler_that_does_not_acknowledge_sees_one_update_and_hands_can_help_it(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with subscribed(agent, launched.framework_id, "t1") as executor, agent.watch("t1") as watch:
        agent.behave(scheduler_acknowledges=False)
        sent = [executor.status("t1", state) for state in (STARTING, RUNNING, FINISHED)]
        for status in sent:
            assert executor.update(status) == (202, "")
            assert executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == status.uuid
        assert watch.next().status.uuid == sent[0].uuid
        agent.executors()
        assert watch.empty()
        with pytest.raises(grpc.RpcError) as early:
            agent.acknowledge("t1", sent[1].uuid)
        assert code_and_text(early)[0] is grpc.StatusCode.NOT_FOUND
        assert agent.acknowledge("t1", sent[0].uuid) == sent[0].uuid
        assert watch.next().status.uuid == sent[1].uuid
        assert agent.acknowledge("t1") == sent[1].uuid
        assert watch.next().status.uuid == sent[2].uuid
        assert agent.executor("shim").task_ids == ["t1"], "its end is not acknowledged"
        agent.behave(scheduler_acknowledges=True)
        with pytest.raises(grpc.RpcError) as over:
            agent.acknowledge("t1")
        assert code_and_text(over)[0] is grpc.StatusCode.NOT_FOUND


def test_without_a_master_statuses_wait_orders_are_refused_and_a_restart_changes_nothing(agent: AgentUnderTest) -> None:
    agent.flags += ["--executor-reregistration-timeout", "500ms"]
    launched = agent.launch(task_info("t1"))
    with subscribed(agent, launched.framework_id, "t1") as executor:
        agent.behave(master_connected=False)
        running = executor.status("t1", RUNNING)
        assert executor.update(running) == (202, "")
        executor.event(Event.ACKNOWLEDGED)
        for order in (
            lambda: agent.kill("t1"),
            lambda: agent.launch(task_info("t2")),
            lambda: agent.shut_down(launched.framework_id, "shim"),
            lambda: agent.message(launched.framework_id, "shim", b"x"),
            lambda: agent.tear_down(launched.framework_id),
            agent.drain,
            lambda: agent.acknowledge("t1"),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                order()
            assert code_and_text(refused) == (grpc.StatusCode.UNAVAILABLE, "the agent has no master (SetBehavior)")
        agent.end(signal.SIGKILL)
        executor.disconnect()
        agent.start()
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        agent.wait_ready()
        finished = executor.status("t1", FINISHED)
        assert executor.update(finished) == (202, "")
        executor.event(Event.ACKNOWLEDGED)
        with agent.watch("t1") as watch:
            agent.executors()
            assert watch.empty()
            agent.behave(master_connected=True)
            assert [watch.next().status.uuid for _ in range(2)] == [running.uuid, finished.uuid]


def test_teardown_ends_the_framework_and_its_id(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with subscribed(agent, launched.framework_id, "t1") as executor:
        pid = agent.executor("shim").pid
        agent.tear_down(launched.framework_id)
        agent.tear_down(launched.framework_id)
        executor.event(Event.SHUTDOWN)
        assert executor.update(executor.status("t1", KILLED)) == (202, "")
        agent.wait_ended("shim")
        assert not alive(pid)
        assert executor.update(executor.status("t1", KILLED)) == (400, "Framework cannot be found")
    with agent.watch("t1") as watch:
        agent.executors()
        assert watch.empty()
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as unknown:
            agent.tear_down(launched.framework_id)
        assert code_and_text(unknown)[0] is grpc.StatusCode.NOT_FOUND
    assert agent.launch(task_info("t1")).framework_id != launched.framework_id


def test_drain_kills_all_tasks_and_reports_which(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with subscribed(agent, launched.framework_id, "t1") as executor:
        waiting = agent.launch(task_info("t2", executor_id="late"))
        assert agent.drain(1.5) == ["t1"], "t2 was not delivered yet"
        assert executor.event(Event.KILL).kill.kill_policy.grace_period.nanoseconds == 1_500_000_000
        executor.update(executor.status("t1", KILLED))
        assert agent.statuses("t1", 1)[0].reason == Status.REASON_AGENT_DRAINING
        assert agent.statuses("t2", 1)[0].state == KILLED
        agent.launch(task_info("t3"))
        assert agent.statuses("t3", 1)[0].state == mesos_pb2.TASK_DROPPED
        assert waiting.framework_id == launched.framework_id
    with pytest.raises(grpc.RpcError) as refused:
        agent.drain(-1.0)
    assert code_and_text(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "max_grace_period: must not be negative")


def test_watchers_that_go_leave_nothing_behind(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with subscribed(agent, launched.framework_id, "t1") as executor:
        for _ in range(20):
            with MessageWatch(agent.stub, launched.framework_id):
                continue
        with MessageWatch(agent.stub, launched.framework_id) as watch:
            call = executor.call(Call.MESSAGE)
            call.message.data = b"x"
            executor.ask(call)
            assert watch.next() == ("shim", b"x")


def test_late_watcher_gets_the_newest_thousand_also_of_a_compacted_log(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    log = os.path.join(agent.work_dir, "meta", "agent.log")
    with subscribed(agent, launched.framework_id, "t1") as executor, agent.watch("t1") as early:
        sizes = []
        for number in range(1300):
            status = executor.status("t1", RUNNING)
            status.message = str(number).zfill(800)
            executor.update(status)
            sizes.append(os.path.getsize(log))
        assert [int(early.next().status.message) for _ in range(1300)] == list(range(1300))
        assert any(later < earlier for earlier, later in itertools.pairwise(sizes)), "it was compacted"
        agent.end(signal.SIGKILL)
        agent.start()
        with agent.watch("t1") as late:
            assert [int(late.next().status.message) for _ in range(1000)] == list(range(300, 1300))
            agent.executors()
            assert late.empty()
        assert agent.executor("shim").container_id == launched.container_id
        executor.disconnect()
        assert executor.subscribe() == (200, "")
        executor.event(Event.SUBSCRIBED)
