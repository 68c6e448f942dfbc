"""What launchers have in common, with real processes: users, the first program, kernel's news of cgroup files."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.containers import helper
from services.local_agent.containers import sandbox as sandboxes
from services.local_agent.containers.cgroups.watches import FileWatch
from services.local_agent.containers.contract import Command, LaunchFailed
from tests.integration.local_agent.faults_control import FaultControl
from tests.integration.local_agent.linux_containers import V1, V1_CGROUP_ONLY, LinuxAgent, hierarchies, require
from tests.integration.local_agent.rig import AgentUnderTest, task_info, wait_gone
from tests.integration.ready import readable
from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Status = mesos_pb2.TaskStatus
LOOK = "id -un; id -Gn; touch mine; stat -c %U . stdout stderr mine"


def _require_root() -> pwd.struct_passwd:
    if os.geteuid():
        pytest.skip("NOT ROOT: running executors as another user is not tested here")
    return pwd.getpwnam("nobody")


@pytest.mark.root
@pytest.mark.parametrize("launcher", ["posix", "linux"])
@pytest.mark.parametrize("whose", ["command", "framework"])
def test_executor_runs_as_its_user_and_owns_its_sandbox(launcher: str, whose: str, tmp_path: Path) -> None:
    nobody = _require_root()
    kind = LinuxAgent(tmp_path, *V1) if launcher == "linux" else AgentUnderTest(tmp_path)
    with kind as agent:
        task = task_info("t1", LOOK)
        framework = mesos_pb2.FrameworkInfo(user="root", name="n", checkpoint=True)
        if whose == "command":
            task.executor.command.user = "nobody"
        else:
            framework.user = "nobody"
        launched = agent.launch(task, framework)
        agent.statuses("t1", 1)
        agent.wait_ended("shim")
        with open(f"{launched.sandbox}/stdout") as out, open(f"{launched.sandbox}/stderr") as err:
            words = out.read().split()
            assert err.read() == ""
        groups = {grp.getgrgid(gid).gr_name for gid in os.getgrouplist("nobody", nobody.pw_gid)}
        assert words[0] == "nobody"
        assert set(words[1:-4]) == groups
        assert words[-4:] == ["nobody"] * 4
        assert os.stat(launched.sandbox).st_uid == nobody.pw_uid
        assert agent.executor("shim").exit_code == 0


_WITH_A_GROUP = """
import os, sys
from services.local_agent.containers import helper, sandbox, users
from services.local_agent.containers.contract import Command
sandbox.make(sys.argv[1], None)
command = Command("id", ["id", "-G"], {"PATH": "/usr/bin:/bin"}, users.resolve("nobody"))
started = helper.start(sys.argv[1], command, helper.Plan())
started.go()
os.waitpid(started.forked.pid, 0)
"""


@pytest.mark.root
def test_groups_of_the_agent_do_not_go_with_the_executor(tmp_path: Path) -> None:
    nobody = _require_root()
    sandbox = tmp_path / "runs" / "c"
    command = [sys.executable, "-c", _WITH_A_GROUP, str(sandbox)]
    subprocess.run(command, check=True, extra_groups=[4242], timeout=30)
    groups = set(map(int, (sandbox / "stdout").read_text().split()))
    assert groups == set(os.getgrouplist("nobody", nobody.pw_gid))


@pytest.mark.root
@pytest.mark.parametrize("flag", ["--switch-user", "--no-switch-user"])
def test_unknown_user_fails_the_task_by_name_unless_nobody_looks(flag: str, tmp_path: Path) -> None:
    _require_root()
    with AgentUnderTest(tmp_path, flag) as agent:
        task = task_info("t1", "exit 3")
        task.executor.command.user = "no-such-user"
        agent.launch(task)
        status = agent.statuses("t1", 1)[0]
        if flag == "--switch-user":
            assert status.reason == Status.REASON_CONTAINER_LAUNCH_FAILED
            assert "no user 'no-such-user' on this machine" in status.message
        else:
            assert status.reason == Status.REASON_EXECUTOR_TERMINATED
            assert agent.executor("shim").exit_code == 3


def ignored(mask: str) -> int:
    """Ignored signals without 32 and 33: they are libc's own, nobody can set them, and `make` has them ignored."""
    return int(mask, 16) & ~(0b11 << 31)


def test_posix_executors_have_default_signals_and_no_foreign_descriptors(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        launched = agent.launch(task_info("t1", "ls /proc/self/fd; grep SigIgn /proc/self/status"))
        agent.statuses("t1", 1)
        with open(f"{launched.sandbox}/stdout") as file:
            words = file.read().split()
        assert words[:5] == ["0", "1", "2", "3", "SigIgn:"]
        assert ignored(words[5]) == 0


@pytest.mark.root
def test_linux_executors_have_default_signals_and_no_foreign_descriptors(tmp_path: Path) -> None:
    with LinuxAgent(tmp_path, *V1) as agent:
        launched = agent.launch(task_info("t1", "ls /proc/self/fd; grep SigIgn /proc/self/status; env | cut -d= -f1"))
        agent.statuses("t1", 1)
        with open(f"{launched.sandbox}/stdout") as file:
            words = file.read().split()
        assert words[:5] == ["0", "1", "2", "3", "SigIgn:"]
        assert ignored(words[5]) == 0
        assert {word for word in words[6:] if not word.startswith(("MESOS_", "LIBPROCESS_"))} == {"PATH", "PWD"}


@pytest.mark.parametrize("flags", [(), V1_CGROUP_ONLY], ids=["posix", "linux"])
def test_exit_code_is_known_though_the_agent_was_away(flags: Sequence[str], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with LinuxAgent(tmp_path, *flags) if flags else AgentUnderTest(tmp_path) as agent:
        agent.launch(task_info("t1", f"read line < {fifo}; exit 5"))
        pid = agent.executor("shim").pid
        FaultControl(agent).restart(faults_pb2.RESTART_HOW_KILL, gap=0.5)
        fifo.write_text("\n")
        wait_gone(pid)
        assert agent.process is not None
        assert agent.process.stdout is not None
        assert agent.process.stdout.readline().startswith("trivet-agent ready:")
        agent.wait_ready()
        assert agent.statuses("t1", 1)[0].reason == Status.REASON_EXECUTOR_TERMINATED
        agent.wait_ended("shim")
        assert agent.executor("shim").exit_code == 5


# The first program by itself: no privileges are needed for an empty plan.


def _start(directory: Path, *arguments: str, plan: helper.Plan | None = None) -> helper.Helper:
    sandbox = directory / "runs" / "c"
    sandboxes.make(str(sandbox), None)
    command = Command(arguments[0], arguments, {"PATH": "/usr/bin:/bin"})
    return helper.start(str(sandbox), command, plan or helper.Plan())


def _reap(pid: int) -> int:
    wait_gone(pid)
    return os.waitpid(pid, 0)[1]


def test_first_program_waits_until_its_pid_is_noted(tmp_path: Path) -> None:
    started = _start(tmp_path, "sh", "-c", "echo here; exit 4")
    out = tmp_path / "runs/c/stdout"
    assert out.read_text() == ""
    started.go()
    assert os.waitstatus_to_exitcode(_reap(started.forked.pid)) == 4
    assert out.read_text() == "here\n"
    started.close()


def test_first_program_ends_with_an_agent_that_has_not_noted_its_pid(tmp_path: Path) -> None:
    started = _start(tmp_path, "sh", "-c", "echo here")
    started.close()
    assert os.waitstatus_to_exitcode(_reap(started.forked.pid)) == 1
    assert (tmp_path / "runs/c/stdout").read_text() == ""


@pytest.mark.parametrize(
    ("program", "told"),
    [("no-such-program", "No such file or directory: 'no-such-program'"), ("/etc/passwd", "Permission denied")],
)
def test_program_that_cannot_be_executed_is_named(program: str, told: str, tmp_path: Path) -> None:
    started = _start(tmp_path, program)
    with pytest.raises(LaunchFailed, match=told):
        started.go()
    _reap(started.forked.pid)
    started.close()


def test_killed_first_program_is_a_failed_launch(tmp_path: Path) -> None:
    started = _start(tmp_path, "true")
    os.kill(started.forked.pid, signal.SIGKILL)
    _reap(started.forked.pid)
    with pytest.raises(LaunchFailed, match="ended before the executor was started"):
        started.go()
    started.close()


def test_cgroup_that_cannot_be_entered_is_a_failed_launch(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match=r"No such file or directory: '/no/cgroup\.procs'"):
        _start(tmp_path, "true", plan=helper.Plan(procs=["/no/cgroup.procs"]))


def test_large_environments_and_odd_bytes_arrive(tmp_path: Path) -> None:
    sandboxes.make(str(tmp_path / "runs/c"), None)
    value = os.fsdecode(b"\xff\xfe\xc3\xa4") + "x" * 100_000
    command = Command("sh", ["sh", "-c", 'printf %s "$V"'], {"PATH": "/usr/bin:/bin", "V": value})
    started = helper.start(str(tmp_path / "runs/c"), command, helper.Plan())
    started.go()
    _reap(started.forked.pid)
    started.close()
    assert (tmp_path / "runs/c/stdout").read_bytes() == os.fsencode(value)


def test_output_goes_to_no_file_that_was_put_there_before(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    (tmp_path / "stdout").symlink_to(victim)
    with pytest.raises(FileExistsError):
        sandboxes.open_output(str(tmp_path), None)


@pytest.mark.root
def test_kernel_tells_of_changes_in_a_file_of_version_2() -> None:
    # The memory controller is seldom there; cgroup.events is told of in the same way as memory.events.
    require(["--cgroups-version=2"])
    path = f"{hierarchies()['v2']}/tvt-watch-{os.getpid()}"
    os.mkdir(path)
    try:
        watch = FileWatch(f"{path}/cgroup.events")
        assert not readable(watch, 0)
        with open(f"{path}/cgroup.freeze", "w") as file:
            file.write("1")
        assert readable(watch, 5)
        watch.drain()
        assert not readable(watch, 0)
        watch.close()
    finally:
        os.rmdir(path)
