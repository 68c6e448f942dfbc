"""A new agent process over the same work directory, after SIGTERM, SIGKILL and worse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.common.journal import Journal
from services.local_agent.core import records
from tests.integration.local_agent.executor_double import Connection, ExecutorDouble
from tests.integration.local_agent.rig import AgentUnderTest, alive, task_info, wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
Call = executor_pb2.Call
Status = mesos_pb2.TaskStatus
RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path, "--executor-reregistration-timeout", "500ms") as running:
        yield running


def _running(agent: AgentUnderTest, executor: ExecutorDouble) -> mesos_pb2.TaskStatus:
    executor.subscribe()
    executor.event(Event.SUBSCRIBED)
    executor.event(Event.LAUNCH)
    status = executor.status("t1", RUNNING)
    executor.update(status)
    executor.event(Event.ACKNOWLEDGED)
    return status


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_executor_comes_back_after_a_restart_on_the_same_port(agent: AgentUnderTest, how: signal.Signals) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        running = _running(agent, executor)
        pid, port = agent.executor("shim").pid, agent.port
        agent.end(how)
        assert executor.stream is not None
        assert executor.stream.ended(), "the end of an agent is no event"
        executor.disconnect()
        agent.start()
        assert agent.port == port
        assert executor.subscribe() == (200, "")
        assert executor.event(Event.SUBSCRIBED).subscribed.container_id.value == launched.container_id
        finished = executor.status("t1", FINISHED)
        assert executor.update(finished) == (503, "Agent has not finished recovery")
        assert executor.ask(executor.call(Call.HEARTBEAT)) == (202, "")
        with pytest.raises(grpc.RpcError) as early:
            agent.launch(task_info("t2"))
        assert early.value.code() is grpc.StatusCode.UNAVAILABLE
        agent.wait_ready()
        assert executor.update(finished) == (202, "")
        executor.event(Event.ACKNOWLEDGED)
        assert [status.uuid for status in agent.statuses("t1", 2)] == [running.uuid, finished.uuid]
        assert agent.executor("shim").pid == pid
        assert alive(pid)


def test_update_that_the_agent_had_is_acknowledged_again_and_not_delivered_twice(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        running = _running(agent, executor)
        agent.end(signal.SIGKILL)
        executor.disconnect()
        agent.start()
        finished = executor.status("t1", FINISHED)
        executor.subscribe(tasks=(task_info("t1"),), updates=(running, finished))
        executor.event(Event.SUBSCRIBED)
        assert executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == running.uuid
        assert executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == finished.uuid
        agent.wait_ready()
        with agent.watch("t1") as watch:
            assert [watch.next().status.uuid for _ in range(2)] == [running.uuid, finished.uuid]
            agent.executors()
            assert watch.empty()


def test_executor_that_does_not_come_back_is_destroyed(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        _running(agent, executor)
        pid = agent.executor("shim").pid
        agent.end(signal.SIGKILL)
        agent.start()
        status = agent.statuses("t1", 2)[1]
        assert (status.state, status.reason) == (mesos_pb2.TASK_GONE, Status.REASON_EXECUTOR_REREGISTRATION_TIMEOUT)
        assert status.message == "Executor did not reregister within 500ms"
        wait_gone(pid)


def test_executor_that_died_while_the_agent_was_away_is_noticed(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        _running(agent, executor)
        pid = agent.executor("shim").pid
        agent.end(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        agent.start()
        status = agent.statuses("t1", 2)[1]
        assert (status.state, status.reason) == (mesos_pb2.TASK_FAILED, Status.REASON_EXECUTOR_TERMINATED)
        agent.wait_ready()
        executor.disconnect()
        assert executor.subscribe() == (400, "Framework cannot be found")


def test_executor_without_checkpointing_is_not_recovered(agent: AgentUnderTest) -> None:
    framework = mesos_pb2.FrameworkInfo(user="root", name="forgetful", checkpoint=False)
    launched = agent.launch(task_info("t1"), framework)
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        _running(agent, executor)
        pid = agent.executor("shim").pid
        agent.end(signal.SIGKILL)
        executor.disconnect()
        agent.start()
        agent.wait_ready()
        assert executor.subscribe() == (400, "Framework cannot be found")
        lost = agent.statuses("t1", 2)[1]
        assert (lost.state, lost.reason) == (mesos_pb2.TASK_LOST, Status.REASON_AGENT_DISCONNECTED)
        assert alive(pid), "the posix launcher cannot kill an executor that it does not know"
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)


@pytest.mark.parametrize("recover", ["reconnect", "cleanup"])
def test_executor_that_is_not_recovered_and_still_runs_is_named(tmp_path: Path, recover: str) -> None:
    framework = mesos_pb2.FrameworkInfo(user="root", name="forgetful", checkpoint=False)
    with AgentUnderTest(tmp_path) as agent:
        agent.launch(task_info("t1", executor_id="dies"), framework)
        agent.launch(task_info("t2", executor_id="lives"), framework)
        dead, living = agent.executor("dies").pid, agent.executor("lives").pid
        agent.end(signal.SIGKILL)
        os.kill(dead, signal.SIGKILL)
        wait_gone(dead)
        agent.flags.append(f"--recover={recover}")
        if recover == "cleanup":
            # Its description may be gone before anybody has read it.
            with agent.errors.open("a") as errors:
                assert subprocess.run(agent.command(), stderr=errors, timeout=30, check=False).returncode == 0
        else:
            agent.start()
            agent.wait_ready()
        lines = [json.loads(line) for line in agent.errors.read_text().splitlines()]
        said = [line for line in lines if line["msg"].startswith("not recovered, still runs")]
        assert [(line["level"], line["executor"], line["pid"]) for line in said] == [("warning", "lives", living)]
        assert alive(living)
        os.kill(living, signal.SIGKILL)
        wait_gone(living)


def test_session_of_an_executor_that_died_while_the_agent_was_away_is_killed(
    agent: AgentUnderTest, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "child")
    agent.launch(task_info("t1", f"sleep 1004 & echo $! >{tmp_path}/child; exec sleep 1005"))
    child = int((tmp_path / "child").read_text())
    executor = agent.executor("shim").pid
    agent.end(signal.SIGKILL)
    os.kill(executor, signal.SIGKILL)
    wait_gone(executor)
    assert alive(child), "nobody has killed it yet"
    agent.start()
    agent.wait_ready()
    wait_gone(child)
    status = agent.statuses("t1", 1)[0]
    assert (status.state, status.reason) == (mesos_pb2.TASK_FAILED, Status.REASON_EXECUTOR_TERMINATED)


def test_executor_forked_but_not_yet_in_the_log_is_found_again(agent: AgentUnderTest) -> None:
    agent.launch(task_info("t1"))
    pid = agent.executor("shim").pid
    agent.end(signal.SIGKILL)
    path = f"{agent.work_dir}/meta/agent.log"
    journal, payloads = Journal.open(path)
    kept = [payload for payload in payloads if not isinstance(records.decode(payload), records.ContainerForked)]
    assert len(kept) == len(payloads) - 1
    journal.rewrite(kept)
    journal.close()
    agent.start()
    assert agent.executor("shim").pid == pid
    assert agent.statuses("t1", 1)[0].reason == Status.REASON_EXECUTOR_REREGISTRATION_TIMEOUT
    wait_gone(pid)


def test_torn_end_of_the_log_is_cut_off(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    agent.end(signal.SIGKILL)
    with open(f"{agent.work_dir}/meta/agent.log", "ab") as file:
        file.write(b"\x50\x00\x00\x00torn")
    agent.start()
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        executor.subscribe(tasks=(task_info("t1"),))
        executor.event(Event.SUBSCRIBED)


def test_damaged_log_stops_the_start_and_is_named(agent: AgentUnderTest) -> None:
    agent.launch(task_info("t1"))
    agent.end(signal.SIGINT)
    path = f"{agent.work_dir}/meta/agent.log"
    with open(path, "r+b") as file:
        file.seek(30)
        file.write(b"\xff")
    second = subprocess.run(agent.command(), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert path in second.stderr


def test_agent_that_cannot_write_its_log_stops_and_acknowledges_nothing(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, "--executor-reregistration-timeout", "500ms") as agent:
        launched = agent.launch(task_info("t1"))
        with ExecutorDouble(agent.port, launched.framework_id) as executor:
            running = _running(agent, executor)
            process = agent.process
            assert process is not None
            # As good as a full disk: no file of this process may grow.
            size = os.path.getsize(f"{agent.work_dir}/meta/agent.log")
            subprocess.run(["prlimit", f"--pid={process.pid}", f"--fsize={size}:{size}"], check=True)
            with pytest.raises(ConnectionResetError):
                executor.update(executor.status("t1", FINISHED))
            assert process.wait(30) == 1
            agent.process = None
            executor.disconnect()
            agent.start()
            assert executor.subscribe() == (200, "")
            agent.wait_ready()
            with agent.watch("t1") as watch:
                assert watch.next().status.uuid == running.uuid
                agent.executors()
                assert watch.empty()


def test_repeated_update_is_not_taken_for_a_known_one_when_the_log_cannot_be_written(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, "--executor-reregistration-timeout", "500ms") as agent:
        launched = agent.launch(task_info("t1"))
        with ExecutorDouble(agent.port, launched.framework_id) as executor, Connection(agent.port) as calls:
            running = _running(agent, executor)
            process = agent.process
            assert process is not None
            size = os.path.getsize(f"{agent.work_dir}/meta/agent.log")
            subprocess.run(["prlimit", f"--pid={process.pid}", f"--fsize={size}:{size}"], check=True)
            call = executor.call(executor_pb2.Call.UPDATE)
            call.update.status.CopyFrom(executor.status("t1", FINISHED))
            # In one packet: the second one is there before anybody could stop the agent.
            calls.post(call, copies=2)
            assert calls.rest()[0] == b"", "no answer"
            assert executor.stream is not None
            assert executor.stream.rest()[0] == b"", "no acknowledgement"
            assert process.wait(30) == 1
            agent.process = None
            executor.disconnect()
            agent.start()
            assert executor.subscribe() == (200, "")
            agent.wait_ready()
            with agent.watch("t1") as watch:
                assert watch.next().status.uuid == running.uuid
                agent.executors()
                assert watch.empty()


def test_every_update_survives_a_kill_of_the_agent_at_any_moment(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    sent: list[bytes] = []
    with ExecutorDouble(agent.port, launched.framework_id) as executor:
        sent.append(_running(agent, executor).uuid)
        for _ in range(3):
            statuses = [executor.status("t1", RUNNING) for _ in range(20)]
            accepted = 0
            victim = agent.pid
            for status in statuses:
                if status is statuses[10]:
                    # Somewhere between two updates, or in the middle of one.
                    os.kill(victim, signal.SIGKILL)
                try:
                    executor.update(status)
                except OSError:
                    break
                accepted += 1
            agent.end(signal.SIGKILL)
            executor.disconnect()
            agent.start()
            # As an executor does: all that it cannot be sure of, in order.
            executor.subscribe(tasks=(task_info("t1"),), updates=tuple(statuses))
            executor.event(Event.SUBSCRIBED)
            for status in statuses:
                assert executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == status.uuid
            sent += [status.uuid for status in statuses]
            assert accepted >= 10
    agent.wait_ready()
    with agent.watch("t1") as watch:
        assert [watch.next().status.uuid for _ in sent] == sent
        agent.executors()
        assert watch.empty()
