"""Life of executors and tasks on a real agent process: launch, kill, shutdown, ends, what the scheduler sees."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.executor_double import ExecutorDouble
from tests.integration.local_agent.rig import AgentUnderTest, alive, task_info, wait_gone
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
Status = mesos_pb2.TaskStatus


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path, "--executor-shutdown-grace-period", "300ms") as running:
        yield running


def test_a_task_runs_from_launch_to_its_acknowledged_end(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor, agent.watch("t1") as watch:
        assert executor.subscribe() == (200, "")
        subscribed = executor.event(Event.SUBSCRIBED).subscribed
        assert subscribed.container_id.value == launched.container_id
        assert subscribed.agent_info.id.value == launched.agent_id
        assert subscribed.framework_info.checkpoint
        assert executor.event(Event.LAUNCH).launch.task.task_id.value == "t1"
        for state in (mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING, mesos_pb2.TASK_FINISHED):
            status = executor.status("t1", state)
            assert executor.update(status) == (202, "")
            assert executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == status.uuid
            seen = watch.next()
            assert (seen.status.state, seen.status.uuid) == (state, status.uuid)
            assert seen.status.container_status.executor_pid == agent.executor("shim").pid
            assert seen.received_at >= seen.launch_written_at > 0
        assert agent.executor("shim").task_ids == []


def test_sandbox_has_mesos_layout_and_the_executors_output(agent: AgentUnderTest) -> None:
    task = task_info("t1", "pwd; echo complaint >&2; exit 3")
    launched = agent.launch(task)
    assert agent.statuses("t1", 1)[0].reason == Status.REASON_EXECUTOR_TERMINATED
    expected = (
        f"{agent.work_dir}/slaves/{launched.agent_id}/frameworks/{launched.framework_id}"
        f"/executors/shim/runs/{launched.container_id}"
    )
    assert launched.sandbox == expected
    with open(f"{expected}/stdout") as out, open(f"{expected}/stderr") as err:
        assert (out.read(), err.read()) == (f"{expected}\n", "complaint\n")
    assert os.readlink(os.path.join(os.path.dirname(expected), "latest")) == launched.container_id
    ended = agent.executor("shim")
    assert (ended.state, ended.exit_code) == (agent_pb2.EXECUTOR_STATE_TERMINATED, 3)


def test_command_without_shell_gets_its_arguments_as_argv(agent: AgentUnderTest) -> None:
    task = task_info("t1")
    task.executor.command.shell = False
    task.executor.command.value = "/bin/sh"
    task.executor.command.arguments.extend(["a name of its own", "-c", 'printf %s "$0$1"; sleep 1000', "x y", "$z"])
    launched = agent.launch(task)
    with open(f"/proc/{agent.executor('shim').pid}/cmdline", "rb") as file:
        assert file.read().startswith(b"a name of its own\0-c\0")
    agent.shut_down(launched.framework_id, "shim")
    agent.wait_ended("shim")
    with open(f"{launched.sandbox}/stdout") as out:
        assert out.read() == "x y$z"


def test_executor_that_cannot_be_executed_fails_its_task_with_the_cause(agent: AgentUnderTest) -> None:
    task = task_info("t1")
    task.executor.command.shell = False
    task.executor.command.value = "/no/such/executor"
    agent.launch(task)
    status = agent.statuses("t1", 1)[0]
    assert (status.state, status.reason) == (mesos_pb2.TASK_FAILED, Status.REASON_CONTAINER_LAUNCH_FAILED)
    assert "/no/such/executor" in status.message


def test_second_task_of_a_live_executor_gets_to_the_same_process(agent: AgentUnderTest) -> None:
    first = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, first.framework_id) as executor:
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        executor.event(Event.LAUNCH)
        second = agent.launch(task_info("t2"))
        assert second.container_id == first.container_id
        assert second.launch_written_at > 0
        assert executor.event(Event.LAUNCH).launch.task.task_id.value == "t2"
        with pytest.raises(grpc.RpcError) as refused:
            agent.launch(task_info("t2"))
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_kill_reaches_the_executor_with_its_policy(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        executor.event(Event.LAUNCH)
        answer = agent.kill("t1")
        assert answer.sent
        assert answer.written_at > 0
        assert not executor.event(Event.KILL).kill.HasField("kill_policy")
        assert agent.kill("t1", 1.5).sent
        assert executor.event(Event.KILL).kill.kill_policy.grace_period.nanoseconds == 1_500_000_000
        executor.disconnect()
    with pytest.raises(grpc.RpcError) as unknown:
        agent.kill("never launched")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_task_killed_before_its_executor_came_never_reaches_it(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    assert not agent.kill("t1").sent
    status = agent.statuses("t1", 1)[0]
    assert (status.state, status.reason) == (mesos_pb2.TASK_KILLED, Status.REASON_TASK_KILLED_DURING_LAUNCH)
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        assert executor.subscribe() == (200, "")
        executor.event(Event.SHUTDOWN)
        agent.wait_ended("shim")


def test_shutdown_kills_the_whole_tree_at_the_end_of_the_grace_period(agent: AgentUnderTest) -> None:
    # A child in a session of its own is found while its parent lives; a frozen one as well.
    launched = agent.launch(task_info("t1", "setsid sleep 1000 & trap '' TERM; sleep 1001 & kill -STOP $!; wait"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        executor.subscribe()
        executor.event(Event.SUBSCRIBED)
        executor.event(Event.LAUNCH)
        assert agent.shut_down(launched.framework_id, "shim")
        executor.event(Event.SHUTDOWN)
        agent.wait_ended("shim")
        assert agent.executor("shim").exit_signal == signal.SIGKILL
        assert agent.processes() == []
        assert agent.statuses("t1", 1)[0].message == "Executor terminated"
        assert executor.ask(executor.call(executor_pb2.Call.MESSAGE))[0] == 400


def test_frozen_executor_is_destroyed_all_the_same(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    os.kill(agent.executor("shim").pid, signal.SIGSTOP)
    agent.shut_down(launched.framework_id, "shim")
    agent.wait_ended("shim")


def test_session_of_a_dead_executor_is_killed_and_other_sessions_are_not_found(agent: AgentUnderTest) -> None:
    # The second part is the posix launcher's known gap; tests of the driver rely on its being real.
    escape = "setsid sh -c 'echo $$ >escaped; exec sleep 1001' &"
    launched = agent.launch(task_info("t1", f"sleep 1000 & {escape} until [ -s escaped ]; do :; done"))
    agent.wait_ended("shim")
    with open(f"{launched.sandbox}/escaped") as file:
        escaped = int(file.read())
    assert [row.pid for row in agent.processes()] == [escaped]
    os.kill(escaped, signal.SIGKILL)
    wait_gone(escaped)


def test_executor_that_never_subscribes_is_killed_after_the_registration_timeout(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, "--executor-registration-timeout", "200ms") as agent:
        agent.launch(task_info("t1"))
        status = agent.statuses("t1", 1)[0]
        assert status.reason == Status.REASON_EXECUTOR_REGISTRATION_TIMEOUT
        assert status.message == "Executor did not register within 200ms"
        assert agent.processes() == []


def test_invalid_launch_is_refused_and_names_the_field(agent: AgentUnderTest) -> None:
    task = task_info("t1")
    task.executor.command.uris.add().value = "http://127.0.0.1/x"
    with pytest.raises(grpc.RpcError) as refused:
        agent.launch(task)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith("task.executor.command.uris: ")
    assert agent.executors() == []


def test_control_socket_is_the_users_alone_and_the_description_is_whole(agent: AgentUnderTest) -> None:
    assert stat.S_IMODE(os.stat(f"{agent.run_dir}/agent.sock").st_mode) == 0o600
    with open(f"{agent.run_dir}/agent.json") as file:
        description = json.load(file)
    assert description["endpoint"] == f"http://127.0.0.1:{agent.port}/slave(1)/api/v1/executor"
    assert description["control"] == f"unix:{agent.run_dir}/agent.sock"


def test_second_agent_on_the_same_work_dir_is_refused(agent: AgentUnderTest) -> None:
    command = [*agent.command(), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert f"in use by process {agent.pid}" in second.stderr


def test_interrupt_in_the_middle_of_launches_leaves_nothing(agent: AgentUnderTest) -> None:
    calls = []
    for number in range(20):
        task = task_info(f"t{number}", executor_id=f"e{number}")
        calls.append(agent.stub.LaunchTask.future(agent_pb2.LaunchTaskRequest(task=task), timeout=30))
    calls[0].result()
    assert agent.end(signal.SIGINT) == 0
    assert agent.processes() == []
    for call in calls:
        call.cancel()


def test_sigterm_leaves_executors_alone_and_destroy_on_exit_does_not(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        agent.launch(task_info("t1"))
        pid = agent.executor("shim").pid
        assert agent.end(signal.SIGTERM) == 0
        assert alive(pid)
        assert not os.path.exists(f"{agent.run_dir}/agent.json")
        agent.flags.append("--on-exit=destroy")
        agent.start()
        assert agent.end(signal.SIGTERM) == 0
        assert not alive(pid)
