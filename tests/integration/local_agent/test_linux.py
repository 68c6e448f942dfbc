"""The linux launcher with real cgroups and namespaces, version 1 and 2: life, destroy, restart."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.faults.processes import wait_until
from tests.integration.local_agent.executor_double import ExecutorDouble
from tests.integration.local_agent.linux_containers import (
    KINDS,
    V1,
    LinuxAgent,
    descendants,
    hierarchies,
    named,
    namespaced_pids,
)
from tests.integration.local_agent.rig import AgentUnderTest, alive, task_info, wait_gone
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root
Event = executor_pb2.Event
Status = mesos_pb2.TaskStatus
every_kind = pytest.mark.parametrize("kind", KINDS)
# One process in a session of its own without a parent, one that stands still, one that ignores SIGTERM.
CROWD = (
    "(setsid sh -c 'sleep 7001 & exec sleep 7002' &); sh -c 'kill -STOP $$' & sh -c 'trap \"\" TERM; sleep 7003' & "
    "echo ready > {fifo}; exec sleep 7000"
)
MEMBERS = ("sleep 7000", "sleep 7001", "sleep 7002", "sleep 7003")


@contextlib.contextmanager
def running(directory: Path, *flags: str) -> Iterator[AgentUnderTest]:
    linux = "--launcher=linux" in flags
    with LinuxAgent(directory, *flags) if linux else AgentUnderTest(directory, *flags) as agent:
        yield agent


def launch(agent: AgentUnderTest, directory: Path, command: str, executor_id: str = "shim") -> None:
    """Returns when the command has written to the FIFO that stands for `{fifo}`."""
    fifo = directory / f"fifo-{executor_id}"
    os.mkfifo(fifo)
    agent.launch(task_info(f"task of {executor_id}", command.replace("{fifo}", str(fifo)), executor_id))
    assert fifo.read_text()


def gather(agent: AgentUnderTest) -> None:
    """Returns when the whole crowd is there."""
    wait_until(lambda: len(named(agent, *MEMBERS)) == len(MEMBERS), "the crowd")


def subscribe_again(double: ExecutorDouble) -> None:
    """503 is the answer until the containers have been found."""
    deadline = time.monotonic() + 20
    while double.subscribe()[0] == 503:
        assert time.monotonic() < deadline


@every_kind
def test_whatever_a_container_has_started_ends_with_it(kind: str, tmp_path: Path) -> None:
    with running(tmp_path, *KINDS[kind]) as agent:
        launch(agent, tmp_path, CROWD)
        gather(agent)
        for pid in named(agent, "sleep 7000"):
            os.kill(pid, signal.SIGKILL)
        agent.wait_ended("shim")
        assert agent.processes() == []
        assert agent.statuses("task of shim", 1)[0].reason == Status.REASON_EXECUTOR_TERMINATED
        assert agent.executor("shim").exit_signal == signal.SIGKILL


def test_the_posix_launcher_leaves_what_it_cannot_find(tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        launch(agent, tmp_path, CROWD)
        gather(agent)
        os.kill(agent.executor("shim").pid, signal.SIGKILL)
        agent.wait_ended("shim")
        left = named(agent, "sleep 7001", "sleep 7002")
        assert len(left) == 2
        assert len(agent.processes()) == 2
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)


@every_kind
def test_all_is_gone_within_a_tenth_of_a_second(kind: str, tmp_path: Path) -> None:
    took = []
    with running(tmp_path, *KINDS[kind]) as agent:
        for number in range(5):
            launch(agent, tmp_path, CROWD, f"e{number}")
            gather(agent)
            watched = [row.pid for row in agent.processes()]
            (first,) = named(agent, "sleep 7000")
            began = time.monotonic()
            os.kill(first, signal.SIGKILL)
            for pid in watched:
                wait_gone(pid)
            took.append(time.monotonic() - began)
            agent.wait_ended(f"e{number}")
    # The best of five: what the machine does besides must not count.
    assert min(took) < 0.1, took


@every_kind
def test_processes_that_run_away_from_every_scan_are_caught(kind: str, tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    runner.write_text('setsid sh "$0" &\n')
    with running(tmp_path, *KINDS[kind], "--executor-shutdown-grace-period=0ns") as agent:
        launch(agent, tmp_path, f"sh {runner}; sh {runner}; sh {runner}; echo ready > {{fifo}}; exec sleep 7000")
        executor = agent.executor("shim")
        agent.shut_down(executor.framework_id, "shim")
        agent.wait_ended("shim")
        assert agent.processes() == []


@every_kind
def test_exit_codes_are_the_executors(kind: str, tmp_path: Path) -> None:
    with running(tmp_path, *KINDS[kind]) as agent:
        for name, command in (("code", "exit 3"), ("signal", "kill -SEGV $$")):
            agent.launch(task_info(name, command, name))
            agent.statuses(name, 1)
            agent.wait_ended(name)
        assert agent.executor("code").exit_code == 3
        assert agent.executor("signal").exit_signal == signal.SIGSEGV
        missing = task_info("missing", executor_id="missing")
        missing.executor.command.shell = False
        missing.executor.command.value = "/no/such/executor"
        agent.launch(missing)
        status = agent.statuses("missing", 1)[0]
        assert (status.state, status.reason) == (mesos_pb2.TASK_FAILED, Status.REASON_CONTAINER_LAUNCH_FAILED)
        assert "/no/such/executor" in status.message


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_the_executor_has_pids_of_its_own(kind: str, tmp_path: Path) -> None:
    with running(tmp_path, *KINDS[kind]) as agent:
        launch(
            agent,
            tmp_path,
            "ls -d /proc/[0-9]* > pids; kill -INT 1; kill -KILL 1; sh -c :; echo > {fifo}; exec sleep 7000",
        )
        init = agent.executor("shim").pid
        assert namespaced_pids(init) == [init, 1]
        executor = next(descendants(init))
        assert namespaced_pids(executor) == [executor, 2]
        with open(f"{agent.executor('shim').sandbox}/pids") as file:
            assert file.read().split() == ["/proc/1", "/proc/2"]
        # What process 1 ignores from inside it does not ignore from outside.
        assert alive(executor)
        os.kill(init, signal.SIGKILL)
        wait_gone(executor)
        agent.wait_ended("shim")
        assert agent.executor("shim").exit_signal == signal.SIGKILL


def test_cgroups_are_those_of_a_mesos_container(tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1) as agent:
        launch(agent, tmp_path, "echo ready > {fifo}; exec sleep 7000")
        executor = agent.executor("shim")
        own = f"/{agent.root}/{executor.container_id}"
        with open(f"/proc/{next(descendants(executor.pid))}/cgroup") as file:
            places = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
        for names, place in places.items():
            mine = {"freezer", "memory", "cpu", "cpuacct"} & set(names.split(","))
            assert (place == own) == bool(mine), names


@every_kind
def test_containers_outlive_the_agent_and_are_found_again(kind: str, tmp_path: Path) -> None:
    with running(tmp_path, *KINDS[kind], "--executor-reregistration-timeout=15secs") as agent:
        fifo = tmp_path / "go"
        os.mkfifo(fifo)
        launch(agent, tmp_path, f"(setsid sleep 7001 &); echo ready > {{fifo}}; read line < {fifo}; exit 7")
        executor = agent.executor("shim")
        with ExecutorDouble(agent.port, executor.framework_id) as double:
            double.subscribe()
            double.event(Event.SUBSCRIBED)
            double.event(Event.LAUNCH)
            double.update(double.status("task of shim", mesos_pb2.TASK_RUNNING))
            agent.end(signal.SIGKILL)
            wait_until(lambda: named(agent, "sleep 7001"), "the daemon")
            agent.start()
            subscribe_again(double)
            double.event(Event.SUBSCRIBED)
            assert agent.executor("shim").pid == executor.pid
            assert alive(executor.pid)
            fifo.write_text("\n")
            agent.wait_ended("shim")
        assert agent.processes() == []


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_exit_code_is_known_though_another_agent_started_the_container(kind: str, tmp_path: Path) -> None:
    with running(tmp_path, *KINDS[kind], "--executor-reregistration-timeout=15secs") as agent:
        fifo = tmp_path / "go"
        os.mkfifo(fifo)
        launch(agent, tmp_path, f"echo ready > {{fifo}}; read line < {fifo}; exit 7")
        agent.end(signal.SIGKILL)
        agent.start()
        fifo.write_text("\n")
        agent.wait_ended("shim")
        assert agent.executor("shim").exit_code == 7


@every_kind
def test_orphans_of_a_framework_without_checkpoint_are_killed_at_once(kind: str, tmp_path: Path) -> None:
    framework = mesos_pb2.FrameworkInfo(user="root", name="forgetful", checkpoint=False)
    with running(tmp_path, *KINDS[kind]) as agent:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        agent.launch(task_info("t1", CROWD.replace("{fifo}", str(fifo))), framework)
        assert fifo.read_text()
        gather(agent)
        agent.end(signal.SIGKILL)
        agent.start()
        agent.wait_ready()
        assert agent.processes() == []


def test_containers_that_ended_while_no_agent_was_there_are_tidied_up(tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1) as agent:
        launch(agent, tmp_path, "echo ready > {fifo}; exec sleep 7000")
        executor = agent.executor("shim")
        agent.end(signal.SIGKILL)
        os.kill(executor.pid, signal.SIGKILL)
        wait_gone(executor.pid)
        assert agent.cgroups()
        agent.start()
        agent.wait_ready()
        assert agent.executor("shim").state == agent_pb2.EXECUTOR_STATE_TERMINATED
        assert not [path for path in agent.cgroups() if path.endswith(executor.container_id)]
        assert os.listdir(f"{agent.work_dir}/containers") == []


def test_containers_of_another_agent_with_the_same_root_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with LinuxAgent(tmp_path / "a", *V1) as one:
        launch(one, tmp_path, "echo ready > {fifo}; exec sleep 7000")
        other = AgentUnderTest(tmp_path / "b", *V1, f"--cgroups-root={one.root}")
        with other:
            other.wait_ready()
            other.end(signal.SIGKILL)
            other.start()
            other.wait_ready()
        assert alive(one.executor("shim").pid)


def test_a_change_of_launcher_does_not_lose_containers(tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1, "--executor-reregistration-timeout=15secs") as agent:
        flags = agent.flags
        agent.flags = ["--executor-reregistration-timeout=15secs"]
        agent.end(signal.SIGTERM)
        agent.start()
        agent.wait_ready()
        launch(agent, tmp_path, "echo ready > {fifo}; exec sleep 7000")
        pid = agent.executor("shim").pid
        agent.flags = flags
        agent.end(signal.SIGTERM)
        agent.start()
        assert agent.executor("shim").pid == pid
        agent.end(signal.SIGINT)
        assert not alive(pid)
        agent.start()


def test_a_read_only_hierarchy_ends_the_start_with_the_remedy(tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1) as agent:
        agent.end(signal.SIGTERM)
        freezer = hierarchies()["freezer"]
        script = f'mount --bind {freezer} {freezer} && mount -o remount,bind,ro {freezer} && exec "$@"'
        refused = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *agent.command()],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"trivet-agent: {freezer} is mounted read-only: mount -o remount,rw")
        assert refused.stdout == ""
        agent.start()
