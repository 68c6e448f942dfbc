"""Work and run directory that are in use, full, or no directories; what an agent's end leaves of them."""

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
from tests.integration.local_agent.rig import TIMEOUT, AgentUnderTest, MessageWatch, task_info
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from pathlib import Path

Event = executor_pb2.Event


def _refused(command: list[str]) -> str:
    """Stderr of an agent that does not start."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    return ended.stderr


def test_second_agent_on_the_same_run_dir_is_refused_and_takes_nothing_away(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        command = agent.command()
        command[command.index("--work-dir") + 1] = str(tmp_path / "other")
        said = _refused(command)
        assert said == f"trivet-agent: --run-dir: {agent.run_dir} is in use by process {agent.pid}\n"
        agent.launch(task_info("t1"))
        assert os.path.exists(f"{agent.run_dir}/agent.json")
        agent.end(signal.SIGKILL)
        # The dead hold no lock, and what they have left is replaced.
        agent.start()
        assert agent.end(signal.SIGINT) == 0
        assert sorted(os.listdir(agent.run_dir)) == ["agent.lock"]


def test_files_of_somebody_else_are_left_where_they_are(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        for name in ("agent.json", "agent.sock"):
            os.unlink(f"{agent.run_dir}/{name}")
            with open(f"{agent.run_dir}/{name}", "w") as file:
                file.write("another's")
        assert agent.end(signal.SIGTERM) == 0
        assert sorted(os.listdir(agent.run_dir)) == ["agent.json", "agent.lock", "agent.sock"]


@pytest.mark.parametrize("flag", ["--work-dir", "--run-dir"])
def test_directory_that_cannot_be_used_is_named_with_its_flag(tmp_path: Path, flag: str) -> None:
    agent = AgentUnderTest(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    command = agent.command()
    command[command.index(flag) + 1] = str(file)
    assert _refused(command) == f"trivet-agent: {flag}: {file} cannot be used: File exists\n"
    command[command.index(flag) + 1] = str(file / "below")
    assert _refused(command) == f"trivet-agent: {flag}: {file}/below cannot be used: Not a directory\n"
    agent.channel.close()


# As good as a disk with room for so many bytes: no file of the process may grow beyond. The lock, the log, agent.json.
@pytest.mark.parametrize(("room", "named"), [(0, "--work-dir: "), (7, "w/meta/agent.log"), (250, "r/agent.json")])
def test_disk_that_is_full_at_the_start_is_named(tmp_path: Path, room: int, named: str) -> None:
    agent = AgentUnderTest(tmp_path)
    said = _refused(["prlimit", f"--fsize={room}:{room}", *agent.command()])
    assert len(said.splitlines()) == 1
    assert named in said
    assert "File too large" in said
    # It starts as soon as there is room.
    with agent:
        agent.launch(task_info("t1"))


def test_launch_that_is_not_in_the_log_is_refused(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        agent.launch(task_info("t1"))
        size = os.path.getsize(f"{agent.work_dir}/meta/agent.log")
        subprocess.run(["prlimit", f"--pid={agent.pid}", f"--fsize={size}:{size}"], check=True)
        with pytest.raises(grpc.RpcError) as refused:
            agent.launch(task_info("t2", executor_id="other"))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert f"cannot write its log: {agent.work_dir}/meta/agent.log: File too large" in str(refused.value.details())
        assert agent.wait_end() == 1
        agent.start()
        agent.wait_ready()
        assert "other" not in [executor.executor_id for executor in agent.executors()]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_end_with_open_watches_is_quiet_and_tells_the_watchers(tmp_path: Path, how: signal.Signals) -> None:
    with AgentUnderTest(tmp_path) as agent:
        launched = agent.launch(task_info("t1"))
        with ExecutorDouble(agent.port, launched.framework_id) as executor, agent.watch("t1") as watch:
            executor.subscribe()
            executor.event(Event.SUBSCRIBED)
            executor.event(Event.LAUNCH)
            executor.update(executor.status("t1", mesos_pb2.TASK_RUNNING))
            watch.next()
            with MessageWatch(agent.stub, launched.framework_id):
                assert agent.end(how) == 0
            if how is signal.SIGINT:
                assert watch.next().status.message == "Executor terminated", "what came until the end is told"
            with pytest.raises(grpc.RpcError) as ended:
                watch.next()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert ended.value.details() == "the agent has ended"
        said = agent.errors.read_text()
        assert "Traceback" not in said
        assert '"level": "error"' not in said
        # To destroy what SIGTERM has left.
        agent.start()


def test_watch_of_an_agent_that_restarts_is_interrupted_quietly(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        agent.launch(task_info("t1"))
        with agent.watch("t1"):
            agent.stub.ListExecutors(agent_pb2.ListExecutorsRequest(), timeout=TIMEOUT)
            assert agent.end(signal.SIGTERM) == 0
        agent.start()
        agent.wait_ready()
        assert "Traceback" not in agent.errors.read_text()
