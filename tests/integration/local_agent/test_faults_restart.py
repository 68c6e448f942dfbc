"""RestartAgent: the agent ends and comes back in its own process."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.containers.process_tree import read_table
from tests.integration.local_agent.executor_double import Connection
from tests.integration.local_agent.faults_control import FaultControl, RunningTask, refused, until
from tests.integration.local_agent.rig import TIMEOUT, AgentUnderTest, alive, task_info
from tests.integration.ready import readable
from trivet.agent.v1 import agent_pb2, faults_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
Call = executor_pb2.Call
TERM, KILL = faults_pb2.RESTART_HOW_TERM, faults_pb2.RESTART_HOW_KILL
HOW = pytest.mark.parametrize("how", [TERM, KILL])


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    flags = ["--executor-reregistration-timeout", "500ms", "--fault", "update refuse=503 times=1 id=flag"]
    with AgentUnderTest(tmp_path, *flags) as running:
        yield running


@pytest.fixture
def faults(agent: AgentUnderTest) -> FaultControl:
    return FaultControl(agent)


def _wait_back(agent: AgentUnderTest) -> None:
    """Returns when the next life prints its ready line."""
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert readable(agent.process.stdout, TIMEOUT)
    assert agent.process.stdout.readline().startswith("trivet-agent ready:")


def _arguments(pid: int) -> list[str]:
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read().split("\0")[:-1]


def _in_the_gap(pid: int) -> bool:
    return _arguments(pid)[1:3] == ["-I", "-S"]


@HOW
def test_executor_lives_through_a_restart(
    agent: AgentUnderTest, faults: FaultControl, how: faults_pb2.RestartHow
) -> None:
    task = RunningTask(agent, "t")
    pid, port, container = agent.pid, agent.port, agent.executor("e-t").pid
    faults.restart(how, gap=0.5)
    # No final chunk, no event: as by a crash, and by the orderly end of Mesos' agent.
    assert task.stream.ended()
    # The kernel closes a socket some moments after the new program's arguments can be seen.
    until(lambda: _in_the_gap(pid) and refused(port))
    assert not os.path.exists(f"{agent.run_dir}/agent.json")
    _wait_back(agent)
    with open(f"{agent.run_dir}/agent.json") as file:
        description = json.load(file)
    assert (description["pid"], description["port"]) == (pid, port)
    task.executor.disconnect()
    assert task.resubscribe() == (200, "")
    task.executor.event(Event.SUBSCRIBED)
    agent.wait_ready()
    status = task.status()
    assert [task.executor.update(status)[0] for _ in range(2)] == [503, 202], "faults of flags are in force again"
    task.executor.event(Event.ACKNOWLEDGED)
    assert agent.executor("e-t").pid == container
    assert alive(container)
    task.close()


@HOW
def test_many_restarts_leave_no_trace_in_the_command_line(
    agent: AgentUnderTest, faults: FaultControl, how: faults_pb2.RestartHow
) -> None:
    faults.add("update hold")
    command: list[list[str]] = []
    for _ in range(3):
        faults.restart(how)
        _wait_back(agent)
        command.append(_arguments(agent.pid))
        assert [item.fault.id for item in faults.list()] == ["flag"], "faults by call end with the process"
    assert command[0] == command[1] == command[2]
    assert command[0][-4:] == ["--not-found-for", "0ns", "--unavailable-for", "0ns"]
    descriptors = os.listdir(f"/proc/{agent.pid}/fd")
    assert len(descriptors) < 40


def test_the_start_can_be_prolonged(agent: AgentUnderTest, faults: FaultControl) -> None:
    faults.restart(KILL, not_found=0.4, unavailable=0.4)
    _wait_back(agent)
    begin = time.monotonic()
    heard: list[int] = []
    call = executor_pb2.Call(type=Call.SUBSCRIBE)
    call.executor_id.value, call.framework_id.value = "e", "f"
    call.subscribe.SetInParent()

    def answers_as_ever() -> bool:
        connection = Connection(agent.port)
        connection.post(call)
        status = connection.head()[0]
        connection.socket.close()
        if heard[-1:] != [status]:
            heard.append(status)
        return status == 400

    until(answers_as_ever)
    assert heard == [404, 503, 400]
    assert time.monotonic() - begin >= 0.5


def test_a_signal_in_the_gap_ends_the_agent(agent: AgentUnderTest, faults: FaultControl) -> None:
    faults.restart(KILL, gap=60.0)
    until(lambda: _in_the_gap(agent.pid))
    assert agent.end(signal.SIGTERM) == -signal.SIGTERM


def test_the_end_of_an_executor_in_the_gap_is_noticed(agent: AgentUnderTest, faults: FaultControl) -> None:
    task = RunningTask(agent, "t")
    container = agent.executor("e-t").pid
    faults.restart(KILL, gap=0.3)
    until(lambda: _in_the_gap(agent.pid))
    os.kill(container, signal.SIGKILL)
    _wait_back(agent)
    agent.wait_ended("e-t")
    assert not os.path.exists(f"/proc/{container}"), "it is this agent's child, and nobody else would reap it"
    task.executor.disconnect()


def test_answer_always_comes_before_the_end(agent: AgentUnderTest, faults: FaultControl) -> None:
    for _ in range(5):
        # An error here would be the end of the connection before its answer.
        faults.restart(KILL)
        _wait_back(agent)


@pytest.mark.parametrize("turns", [0, 1, 2, 4])
def test_restart_in_the_middle_of_a_launch_leaves_no_process(
    agent: AgentUnderTest, faults: FaultControl, turns: int
) -> None:
    request = agent_pb2.LaunchTaskRequest(task=task_info("t"))
    launch = agent.stub.LaunchTask.future(request, timeout=TIMEOUT)
    for _ in range(turns):
        # One turn of the agent each, so that the launch is at another point.
        faults.list()
    faults.restart(KILL)
    _wait_back(agent)
    assert launch.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    agent.wait_ready()
    known = {executor.pid for executor in agent.executors() if executor.state != agent_pb2.EXECUTOR_STATE_TERMINATED}
    assert {row.pid for row in agent.processes()} <= known


def _zombies(agent: AgentUnderTest) -> list[int]:
    return [row.pid for row in read_table() if row.parent == agent.pid and row.state == "Z"]


@HOW
@pytest.mark.parametrize("when", ["in the gap", "later"])
def test_executor_that_is_not_recovered_is_reaped_all_the_same(
    agent: AgentUnderTest, faults: FaultControl, how: faults_pb2.RestartHow, when: str
) -> None:
    framework = mesos_pb2.FrameworkInfo(user=str(os.getuid()), name="n", checkpoint=False)
    agent.launch(task_info("t"), framework)
    pid = agent.executor("shim").pid
    pidfd = os.pidfd_open(pid)
    faults.restart(how, gap=0.5)
    until(lambda: _in_the_gap(agent.pid))
    if when == "in the gap":
        os.kill(pid, signal.SIGKILL)
    _wait_back(agent)
    agent.wait_ready()
    if when == "later":
        # A launch of the new life is not mixed up with what is left of the old one.
        agent.launch(task_info("t2", "exit 5", executor_id="new"))
        assert alive(pid)
        os.kill(pid, signal.SIGKILL)
        agent.wait_ended("new")
        assert agent.executor("new").exit_code == 5
    assert readable(pidfd, TIMEOUT)
    os.close(pidfd)
    until(lambda: not faults.list()[1:] and not os.path.exists(f"/proc/{pid}"))
    assert _zombies(agent) == []


@pytest.mark.root
def test_first_programs_that_a_restart_has_cut_off_are_reaped(agent: AgentUnderTest, faults: FaultControl) -> None:
    if os.geteuid():
        pytest.skip("NOT ROOT: running executors as another user is not tested here")
    requests = [agent_pb2.LaunchTaskRequest(task=task_info(f"t{n}", executor_id=f"e{n}")) for n in range(16)]
    for request in requests:
        request.task.executor.command.user = "nobody"
    launches = [agent.stub.LaunchTask.future(request, timeout=TIMEOUT) for request in requests]
    for _ in range(3):
        faults.list()
    faults.restart(KILL)
    _wait_back(agent)
    assert {launch.code() for launch in launches} <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    agent.wait_ready()
    # Some end while the new life begins.
    until(lambda: not faults.list()[1:] and not _zombies(agent))
