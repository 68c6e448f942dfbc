"""Limits of containers with the real memory and cpu controllers of cgroup version 1."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.containers import resources
from tests.integration.local_agent.executor_double import ExecutorDouble
from tests.integration.local_agent.linux_containers import V1, LinuxAgent, hierarchies
from tests.integration.local_agent.rig import task_info
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root
Event = executor_pb2.Event
Status = mesos_pb2.TaskStatus
MEBIBYTE = 1 << 20
# Uses memory until the kernel has enough of it.
EAT = f"{sys.executable} -I -S -c 'kept = [bytearray(1 << 20) for _ in range(1000)]'"


def task(task_id: str, command: str, own: str, executors: str = "") -> mesos_pb2.TaskInfo:
    info = task_info(task_id, command)
    info.resources.extend(resources.parse(own))
    info.executor.resources.extend(resources.parse(executors))
    return info


@pytest.mark.parametrize("isolation", ["cgroups/mem", "cgroups/mem,namespaces/pid"])
@pytest.mark.parametrize("command", [f"exec {EAT}", f"{EAT}; echo survived; sleep 7000"], ids=["itself", "a child"])
def test_too_much_memory_destroys_the_container_and_says_so(isolation: str, command: str, tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1, f"--isolation={isolation}") as agent:
        agent.launch(task("t1", command, "cpus:0.1;mem:16", "mem:24"))
        status = agent.statuses("t1", 1)[0]
        assert (status.state, status.reason) == (mesos_pb2.TASK_FAILED, Status.REASON_CONTAINER_LIMITATION_MEMORY)
        assert status.source == Status.SOURCE_AGENT
        assert status.message.startswith("Memory limit exceeded: Requested: 40MB Maximum Used: 40MB\n")
        assert "MEMORY STATISTICS: \ncache " in status.message
        (used,) = status.limitation.resources
        assert (used.name, used.scalar.value) == ("mem", 40.0)
        agent.wait_ended("shim")
        assert agent.processes() == []


def test_memory_is_not_limited_without_the_isolator(tmp_path: Path) -> None:
    enough = f"{sys.executable} -I -S -c 'kept = bytearray(64 << 20)' && exit 3"
    with LinuxAgent(tmp_path, *V1, "--isolation=cgroups/cpu") as agent:
        agent.launch(task("t1", enough, "mem:32"))
        assert agent.statuses("t1", 1)[0].reason == Status.REASON_EXECUTOR_TERMINATED
        agent.wait_ended("shim")
        assert agent.executor("shim").exit_code == 3


def test_limits_grow_before_a_task_is_delivered_and_never_shrink_under_it(tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1, "--cgroups-enable-cfs") as agent:
        launched = agent.launch(task("t1", "exec sleep 7000", "cpus:0.5;mem:64", "cpus:0.25;mem:32"))

        def limits() -> tuple[int, int, int, int]:
            def value(controller: str, name: str) -> int:
                return int(agent.cgroup_file(controller, launched.container_id, name))

            return (
                value("memory", "memory.limit_in_bytes") // MEBIBYTE,
                value("memory", "memory.soft_limit_in_bytes") // MEBIBYTE,
                value("cpu", "cpu.shares"),
                value("cpu", "cpu.cfs_quota_us"),
            )

        assert limits() == (96, 96, 768, 75_000)
        with ExecutorDouble(agent.port, launched.framework_id) as double:
            double.subscribe()
            double.event(Event.SUBSCRIBED)
            double.event(Event.LAUNCH)
            agent.launch(task("t2", "exec sleep 7000", "cpus:1;mem:128", "cpus:0.25;mem:32"))
            double.event(Event.LAUNCH)
            assert limits() == (224, 224, 1792, 175_000)
            assert double.update(double.status("t2", mesos_pb2.TASK_FINISHED)) == (202, "")
            assert limits() == (224, 96, 768, 75_000)


@pytest.mark.parametrize(
    ("then", "reason"),
    [("exit 3", Status.REASON_EXECUTOR_TERMINATED), (EAT, Status.REASON_CONTAINER_LIMITATION_MEMORY)],
    ids=["ended well", "another one"],
)
def test_an_oom_while_no_agent_was_there_is_nobodys(then: str, reason: int, tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(go)
    os.mkfifo(done)
    wait = f"read line < {go}"
    with LinuxAgent(tmp_path, *V1, "--executor-reregistration-timeout=5secs") as agent:
        agent.launch(task("t1", f"{wait}; {EAT}; echo done > {done}; {wait}; {then}", "mem:40"))
        agent.end(signal.SIGKILL)
        go.write_text("\n")
        assert done.read_text() == "done\n"
        agent.start()
        assert agent.executor("shim").state == agent_pb2.EXECUTOR_STATE_REGISTERING
        go.write_text("\n")
        assert agent.statuses("t1", 1)[0].reason == reason


def test_nested_and_frozen_cgroups_of_the_executor_are_destroyed_and_removed_with_it(tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1, "--isolation=") as agent:
        ready = tmp_path / "ready"
        os.mkfifo(ready)
        freezer = hierarchies()["freezer"]
        place = f"{freezer}$(sed -n s/.*freezer://p /proc/self/cgroup)/own/deeper"
        command = (
            f"mkdir -p {place}; (setsid sh -c 'echo $$ > {place}/cgroup.procs; sleep 7001' &); "
            f"while ! grep -q . {place}/cgroup.procs; do :; done; "
            f"echo FROZEN > {place}/freezer.state; echo > {ready}; exit 0"
        )
        agent.launch(task_info("t1", command))
        assert ready.read_text()
        agent.wait_ended("shim")
        assert agent.processes() == []
        assert [path for path in agent.cgroups() if path.endswith(("own", "deeper"))] == []
