"""How an agent's process begins and ends: phases before recovery, leaving, cleanup, failed checks, seeds."""

from __future__ import annotations

import os
import signal
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
Call = executor_pb2.Call
Status = mesos_pb2.TaskStatus
RUNNING = mesos_pb2.TASK_RUNNING
KILLED = mesos_pb2.TASK_KILLED


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    flags = ["--executor-shutdown-grace-period", "300ms", "--executor-reregistration-timeout", "300ms"]
    with AgentUnderTest(tmp_path, *flags) as running:
        yield running


def running(agent: AgentUnderTest, framework_id: str) -> ExecutorDouble:
    executor = ExecutorDouble(agent.port, framework_id)
    executor.subscribe()
    executor.event(Event.SUBSCRIBED)
    executor.event(Event.LAUNCH)
    executor.update(executor.status("t1", RUNNING))
    executor.event(Event.ACKNOWLEDGED)
    return executor


def test_executors_hear_404_then_503_then_the_window_opens(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    with running(agent, launched.framework_id) as executor:
        agent.end(signal.SIGKILL)
        executor.disconnect()
        agent.flags += ["--not-found-for", "400ms", "--unavailable-for", "400ms"]
        agent.start()
        heard: list[tuple[int, str]] = []
        while not heard or heard[-1][0] != 200:
            answer = executor.subscribe()
            if not heard or heard[-1] != answer:
                heard.append(answer)
            if answer[0] != 200:
                executor.disconnect()
        assert heard == [(404, "404 Not Found."), (503, "Agent has not finished recovery"), (200, "")]
        executor.event(Event.SUBSCRIBED)
        assert executor.update(executor.status("t1", KILLED))[0] == 503
        agent.wait_ready()
        assert executor.update(executor.status("t1", KILLED))[0] == 202


def test_orders_wait_until_the_held_recovery_is_over(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, "--not-found-for", "300ms") as agent:
        with pytest.raises(grpc.RpcError) as early:
            agent.launch(task_info("t1"))
        assert early.value.code() is grpc.StatusCode.UNAVAILABLE
        agent.wait_ready()
        agent.launch(task_info("t1"))


def test_signal_in_the_held_recovery_ends_the_agent_and_leaves_executors(agent: AgentUnderTest) -> None:
    agent.launch(task_info("t1"))
    pid = agent.executor("shim").pid
    agent.end(signal.SIGKILL)
    agent.flags += ["--not-found-for", "1hrs"]
    agent.start()
    assert agent.end(signal.SIGTERM) == 0
    assert alive(pid)
    agent.flags = agent.flags[:-2]
    agent.start()
    assert agent.executor("shim").pid == pid


@pytest.mark.parametrize(
    ("flags", "number"),
    [((), signal.SIGINT), (("--on-exit", "destroy"), signal.SIGTERM)],
    ids=["SIGINT", "--on-exit=destroy"],
)
def test_end_before_recovery_destroys_what_it_is_to_destroy(
    agent: AgentUnderTest, flags: tuple[str, ...], number: signal.Signals
) -> None:
    agent.launch(task_info("t1"))
    pid = agent.executor("shim").pid
    agent.end(signal.SIGKILL)
    with_404 = ["--not-found-for", "1hrs", *flags]
    agent.flags += with_404
    agent.start()
    assert agent.end(number) == 0
    assert not alive(pid)
    agent.flags = agent.flags[: -len(with_404)]
    agent.start()
    assert agent.executor("shim").state == agent_pb2.EXECUTOR_STATE_TERMINATED
    with agent.watch("t1") as watch:
        assert watch.next().status.reason == Status.REASON_EXECUTOR_TERMINATED
        agent.executors()
        assert watch.empty()


def test_agent_that_is_killed_while_it_leaves_tells_no_second_end(agent: AgentUnderTest) -> None:
    agent.flags[1] = "1hrs"
    agent.end(signal.SIGINT)
    agent.start()
    launched = agent.launch(task_info("t1"))
    pid = agent.executor("shim").pid
    with running(agent, launched.framework_id) as executor:
        agent.signal(signal.SIGUSR1)
        executor.event(Event.SHUTDOWN)
        agent.end(signal.SIGKILL)
    assert alive(pid)
    agent.start()
    agent.wait_ready()
    wait_gone(pid)
    with agent.watch("t1") as watch:
        assert [watch.next().status.state for _ in range(2)] == [RUNNING, mesos_pb2.TASK_LOST]
        assert agent.launch(task_info("t1")).agent_id != launched.agent_id
        agent.executors()
        assert watch.empty()


def test_leaving_shuts_all_down_ends_the_streams_and_gives_the_id_up(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    pid = agent.executor("shim").pid
    with running(agent, launched.framework_id) as executor, agent.watch("t1") as watch:
        watch.next()
        agent.signal(signal.SIGUSR1)
        executor.event(Event.SHUTDOWN)
        lost = watch.next().status
        assert (lost.state, lost.reason) == (mesos_pb2.TASK_LOST, Status.REASON_AGENT_REMOVED)
        with pytest.raises(grpc.RpcError) as refused:
            agent.launch(task_info("t2"))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert executor.stream is not None
        assert executor.stream.event() is None, "the final chunk"
        assert agent.wait_end() == 0
        assert not alive(pid)
    agent.start()
    again = agent.launch(task_info("t1"))
    assert again.agent_id != launched.agent_id


def test_leaving_without_executors_ends_at_once(agent: AgentUnderTest) -> None:
    agent.signal(signal.SIGUSR1)
    assert agent.wait_end() == 0
    assert not os.path.exists(f"{agent.run_dir}/agent.json")


def test_leaving_kills_an_executor_that_is_frozen(agent: AgentUnderTest) -> None:
    agent.launch(task_info("t1"))
    pid = agent.executor("shim").pid
    os.kill(pid, signal.SIGSTOP)
    agent.signal(signal.SIGUSR1)
    assert agent.wait_end() == 0
    wait_gone(pid)


def test_cleanup_ends_executors_of_an_earlier_process_and_then_the_agent(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("t1"))
    pid = agent.executor("shim").pid
    with running(agent, launched.framework_id) as executor:
        agent.end(signal.SIGTERM)
        executor.disconnect()
        agent.flags += ["--recover=cleanup"]
        agent.start()
        assert executor.subscribe() == (200, "")
        executor.event(Event.SHUTDOWN)
        assert executor.stream is not None
        assert executor.stream.event() is None
        assert executor.update(executor.status("t1", KILLED)) == (202, "")
        assert agent.wait_end() == 0
        wait_gone(pid)
    agent.flags.remove("--recover=cleanup")
    agent.start()
    assert agent.launch(task_info("t2")).agent_id != launched.agent_id
    assert len(agent.statuses("t1", 1)) == 1, "a cleaned-up agent never registers: the last word is RUNNING"


def test_cleanup_with_nothing_to_clean_ends_at_once(tmp_path: Path) -> None:
    agent = AgentUnderTest(tmp_path, "--recover=cleanup")
    # Without the context manager: it is over before anybody could ask it.
    assert subprocess.run(agent.command(), timeout=30, check=False, stdout=subprocess.DEVNULL).returncode == 0
    agent.channel.close()


@pytest.mark.parametrize("abort", [False, True])
def test_early_update_is_refused_or_aborts_and_the_executors_live_on(agent: AgentUnderTest, *, abort: bool) -> None:
    if abort:
        agent.end(signal.SIGTERM)
        agent.flags += ["--on-check-failure=abort"]
        agent.start()
    launched = agent.launch(task_info("t1"))
    agent.launch(task_info("t9", executor_id="late"))
    pid = agent.executor("shim").pid
    with running(agent, launched.framework_id) as executor:
        early = executor.call(Call.UPDATE)
        early.update.status.CopyFrom(executor.status("t9", RUNNING))
        if not abort:
            status, body = executor.ask(early)
            assert status == 400
            assert body.startswith("update.status.task_id: t9 was not launched yet")
            return
        with pytest.raises(ConnectionResetError):
            executor.ask(early)
        assert agent.wait_end() == -signal.SIGABRT
        assert "t9 was not launched yet" in agent.errors.read_text()
        assert alive(pid)
        executor.disconnect()
        agent.start()
        assert executor.subscribe() == (200, "")
        executor.event(Event.SUBSCRIBED)


def test_seed_makes_all_ids_the_same_again_and_no_id_twice(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with AgentUnderTest(tmp_path / name, "--seed", "7") as agent:
            first = agent.launch(task_info("t1", "exit 1"))
            status = agent.statuses("t1", 1)[0]
            agent.end(signal.SIGTERM)
            agent.start()
            second = agent.launch(task_info("t2", executor_id="other"))
            ids = (first.agent_id, first.container_id, status.uuid, second.container_id)
            assert len(set(ids)) == 4
            assert status.uuid[6] >> 4 == 4
            runs.append(ids)
    assert runs[0] == runs[1]


def test_agents_without_a_seed_are_all_different(tmp_path: Path) -> None:
    ids = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with AgentUnderTest(tmp_path / name) as agent:
            launched = agent.launch(task_info("t1"))
            ids |= {launched.agent_id, launched.container_id}
    assert len(ids) == 4
