"""What cannot be started, and what goes wrong around it: refused or survived, and told with its place."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.coordinator.rig import now, rig

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"argv": ["/no/such"]}, "exec /no/such: No such file or directory"),
        ({"argv": ["nosuchtool"]}, "exec nosuchtool: No such file or directory"),
        ({"argv": ["/etc/passwd"]}, "exec /etc/passwd: Permission denied"),
        ({"cwd": "/no/such"}, "cwd /no/such: No such file or directory"),
        ({"sandbox": "/no/such"}, "sandbox /no/such: No such file or directory"),
        ({"stdout": "/no/such/file"}, "stdout /no/such/file: No such file or directory"),
        ({"stderr": "/proc/version/x"}, "stderr /proc/version/x: Not a directory"),
        ({"user": "no-such-user"}, "user 'no-such-user': unknown"),
    ],
)
def test_failed_start_names_the_step(tmp_path: Path, changes: dict[str, object], error: str) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("true", **changes))
        run = driver.run_event("not_started")["run"]
        assert run["error"] == error
        assert run["code"] is None
        driver.empty()
        # It stays so: the key is known.
        driver.send("start", **r.command("true"))
        assert driver.run_event("not_started")["run"] == run


def test_fifo_or_link_in_place_of_a_log_does_not_hang_or_escape(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        os.mkfifo(r.sandbox / "fifo")
        (tmp_path / "victim").write_text("untouched")
        (r.sandbox / "link").symlink_to(tmp_path / "victim")
        driver.send("start", **r.command("true", stdout="fifo"))
        assert driver.run_event("not_started")["run"]["error"] == "stdout fifo: No such device or address"
        driver.send("start", **r.command("echo x", run=1, stdout="link"))
        assert (
            driver.run_event("not_started", run=1)["run"]["error"] == "stdout link: Too many levels of symbolic links"
        )
        driver.send("start", **r.command("echo x", run=2, stdout="/dev/full"))
        assert driver.run_event("not_started", run=2)["run"]["error"] == "stdout /dev/full: not a regular file"
        assert (tmp_path / "victim").read_text() == "untouched"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"argv": []}, "start.argv: must be a list with at least one string"),
        ({"argv": ["sh", 3]}, "start.argv[1]: must be a string"),
        ({"argv": ["a\0b"]}, "start.argv[0]: holds a NUL character"),
        ({"env": {"SECRET": ["hush"]}}, "start.env.SECRET: must be a string"),
        ({"env": {"A=B": "hush"}}, "start.env: a name is empty or holds '='"),
        ({"cwd": "a/../../b"}, "start.cwd: leaves the sandbox"),
        ({"sandbox": "relative"}, "start.sandbox: must be an absolute path"),
        ({"run": -1}, "start.run: must be a number from 0 to 4294967295"),
        ({"run": True}, "start.run: must be a number from 0 to 4294967295"),
        ({"task": ""}, "start.task: must not be empty"),
        ({"user": None}, "start.user: must be a string"),
    ],
)
def test_malformed_field_is_an_error_that_names_it(tmp_path: Path, changes: dict[str, object], error: str) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("true", **changes))
        event = driver.event("error")
        assert event["op"] == "start"
        assert event["error"] == error
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()


def test_garbage_is_answered_and_survived(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for body in (b"\xff", b"[1]", b"{", b'{"op":7}', b"[" * 100_000):
            driver.channel.socket.setblocking(True)
            driver.channel.socket.sendall(len(body).to_bytes(4, "big") + body)
            driver.channel.socket.setblocking(False)
            assert driver.event("error")["error"]
        driver.send("no-such-op")
        assert driver.event("error")["error"] == "op: unknown command"
        driver.send("stream")
        assert driver.event("error")["error"] == "stream: no descriptor came with it"
        driver.send("start", **r.command("true"))
        assert driver.run_event("exited")["run"]["code"] == 0


@pytest.mark.root
@needs_root
def test_root_makes_no_directory_through_a_tasks_symbolic_link(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o755)
    (tmp_path / "private").mkdir()
    with rig(tmp_path) as r:
        driver = r.driver()
        (r.sandbox / ".logs").symlink_to(tmp_path / "private")
        driver.send("start", **r.command("true", user="daemon"))
        assert "stdout" in driver.run_event("not_started")["run"]["error"]
        assert list((tmp_path / "private").iterdir()) == []


@pytest.mark.root
@needs_root
def test_only_root_can_start_as_another_user(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o755)
    as_daemon: dict[str, Any] = {"user": "daemon", "group": "daemon", "extra_groups": []}
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    probe = subprocess.run(
        [python, "-c", "import executor_shim, sys; sys.exit(sys.version_info < (3, 11))"], check=False, **as_daemon
    )
    if probe.returncode:
        pytest.skip("no interpreter that another user can start")
    with rig(tmp_path, python=python, **as_daemon) as r:
        os.chown(r.sandbox, 1, 1)
        driver = r.driver()
        assert driver.event("state")["uid"] == 1
        driver.send("start", **r.command("true", user="nobody"))
        error = driver.run_event("not_started")["run"]["error"]
        assert error == "user 'nobody': only root can start processes as another user"
        # The own name is no change.
        driver.send("start", **r.command("id -un", run=1, user="daemon"))
        assert driver.run_event("exited", run=1)["run"]["code"] == 0
        # What a task of the same user must not do: read the driver's memory files through /proc.
        driver.send("start", **r.command(f"ls /proc/{r.pid}/fd", run=2))
        assert driver.run_event("exited", run=2)["run"]["code"] == 2


def test_shortage_of_descriptors_is_told_and_costs_no_exit(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

    with rig(tmp_path, preexec_fn=few) as r:
        driver = r.driver()
        os.mkfifo(r.sandbox / "go")
        driver.send("start", **r.command("echo up >../up; read x <../go; exit 21"))
        r.wait_for_file("up")
        for number in range(20):
            driver.send("probe", **r.probe("sleep 1001", id=str(number)))
        refused = driver.event("probe")
        assert refused["error"] == "fork: Too many open files"
        driver.send("start", **r.command("true", run=1))
        # An exit that has to be noticed without a descriptor to look around with.
        (r.sandbox / "go").write_text("go\n")
        assert driver.run_event("exited")["run"]["code"] == 21
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()
        driver.send("start", **r.command("exit 22", run=2))
        assert driver.run_event("exited", run=2)["run"]["code"] == 22


def test_sigchld_that_was_ignored_before_the_start_costs_no_status(tmp_path: Path) -> None:
    ignore = (
        "import signal,os,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    with rig(tmp_path, wrapper=["-c", ignore, sys.executable]) as r:
        driver = r.driver()
        driver.send("start", **r.command("exit 3"))
        assert driver.run_event("exited")["run"]["code"] == 3
