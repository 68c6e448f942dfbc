"""How processes are started, and what is told when they cannot be."""

from __future__ import annotations

import json
import os
import pwd
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator_rig import now, rig

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")


def test_first_message_is_the_state(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.event("state")
        state = driver.events[0]
        assert state["ev"] == "state"
        assert state["generation"] == 1
        assert state["incarnation"] == driver.option("--incarnation")
        assert state["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert state["uid"] == os.geteuid()
        assert state["terminating"] is None
        assert state["tasks"] == {}


def test_driver_gets_options_verbatim_and_both_state_files(tmp_path: Path) -> None:
    with rig(tmp_path, "--linger=3", "--service-deadline", "7") as r:
        driver = r.driver()
        assert driver.argv[-5:] == ["--services", "/nowhere", "--linger=3", "--service-deadline", "7"]
        assert "--driver-argv" not in driver.argv
        for fd in driver.state_fds:
            assert "memfd:trivet-state" in os.readlink(f"/proc/self/fd/{fd}")


def test_coordinator_is_recognisable_in_ps(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        r.driver()
        assert "executor_shim.coordinator" in Path(f"/proc/{r.pid}/cmdline").read_text()


def test_run_is_forked_running_exited(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("echo out; echo err >&2; exit 7"))
        forked = driver.run_event("forked")["run"]
        running = driver.run_event("running")["run"]
        ended = driver.run_event("exited")
        assert forked["pid"] == running["pid"] == ended["run"]["pid"] == ended["run"]["sid"]
        assert forked["ticks"] > 0
        assert ended["run"]["code"] == 7
        assert ended["run"]["signal"] is None
        assert ended["run"]["exited_at"] >= forked["forked_at"] > 0
        driver.empty()
        assert r.stdout() == "out\n"
        assert (r.sandbox / ".logs/p/0/stderr").read_text() == "err\n"


def test_death_by_signal_is_told_as_signal(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("kill -SEGV $$"))
        run = driver.run_event("exited")["run"]
        assert run["code"] is None
        assert run["signal"] == 11


def test_child_has_default_signals_own_session_and_no_foreign_descriptors(tmp_path: Path) -> None:
    script = """
import json, os
print(json.dumps({
    "sid": os.getsid(0), "pgid": os.getpgid(0), "pid": os.getpid(),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")), "umask": os.umask(0), "cwd": os.getcwd(),
    "stdin": os.readlink("/proc/self/fd/0"), "environ": dict(os.environ), "ppid": os.getppid(),
}))
"""
    leak, _other = os.pipe()
    os.set_inheritable(leak, True)
    with rig(tmp_path, pass_fds=(leak,), env={"OUTER": "not for tasks"}) as r:
        driver = r.driver()
        # Python changes its own dispositions when it starts: let somebody look who does not.
        driver.send("start", **r.command(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], process="signals"))
        driver.run_event("exited", process="signals")
        assert r.stdout().split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
        files = {"stdout": "out", "stderr": "err"}
        driver.send("start", **r.command([sys.executable, "-I", "-S", "-c", script], **files))
        run = driver.run_event("exited")["run"]
        assert run["code"] == 0, (r.sandbox / "err").read_text()
        seen = json.loads((r.sandbox / "out").read_text())
        assert seen["sid"] == seen["pgid"] == seen["pid"] == run["pid"]
        assert seen["ppid"] == r.pid
        # The listing's own descriptor is 3.
        assert seen["fds"] == [0, 1, 2, 3]
        assert seen["umask"] == 0o022
        assert seen["cwd"] == str(r.sandbox / "sandbox")
        assert seen["stdin"] == "/dev/null"
        assert seen["environ"]["TRIVET_RUN"] == run["marker"]
        assert len(run["marker"]) == 32
        assert seen["environ"]["USER"] == seen["environ"]["LOGNAME"] == pwd.getpwuid(os.geteuid()).pw_name
        assert "OUTER" not in seen["environ"]
    os.close(leak)
    os.close(_other)


def test_files_are_appended_to_and_readable(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for run in (0, 1):
            driver.send("start", **r.command("echo line", run=run))
            driver.run_event("exited", run=run)
        path = r.sandbox / ".logs/p/0/stdout"
        assert path.read_text() == "line\nline\n"
        assert path.stat().st_mode & 0o777 == 0o644


def test_profile_is_read_if_it_exists_at_the_start(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for run in (0, 1):
            fields = r.command(
                'echo "[$SPICE]" >>../out; echo "SPICE=salt" >.profile', run=run, profile="sandbox/.profile"
            )
            driver.send("start", **fields)
            driver.run_event("exited", run=run)
        assert (r.sandbox / "out").read_text() == "[]\n[salt]\n"


def test_command_is_found_by_the_path_of_its_own_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "onlyhere"
    tool.write_text("#!/bin/sh\nexit 42\n")
    tool.chmod(0o755)
    with rig(tmp_path) as r:
        driver = r.driver()
        env = {"PATH": f"/nonexistent:{tmp_path}/bin", "TEST_RIG": r.id}
        driver.send("start", **r.command(["onlyhere"], env=env))
        assert driver.run_event("exited")["run"]["code"] == 42


def test_bytes_that_are_not_utf8_and_blanks_pass_unchanged(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        odd = b"\xff blank \xc3\xa4".decode("utf-8", "surrogateescape")
        driver.send("start", **r.command(["/bin/bash", "-c", 'printf %s "$0" >../out', odd]))
        driver.run_event("exited")
        assert (r.sandbox / "out").read_bytes() == b"\xff blank \xc3\xa4"


def test_known_run_key_is_answered_not_repeated(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for _ in range(3):
            driver.send("start", **r.command("echo once"))
        first = driver.run_event("exited")["run"]
        driver.send("start", **r.command("echo once"))
        again = driver.run_event("exited")["run"]
        assert again == first
        assert r.stdout() == "once\n"


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
def test_user_gets_ids_groups_and_own_files(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o755)
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("id -u; id -g; id -G; echo x >made", user="daemon"))
        run = driver.run_event("exited")["run"]
        assert run["code"] == 0
        account = pwd.getpwnam("daemon")
        uid, gid, groups = r.stdout().splitlines()
        assert (int(uid), int(gid)) == (account.pw_uid, account.pw_gid)
        assert sorted(map(int, groups.split())) == sorted(os.getgrouplist("daemon", account.pw_gid))
        for made in ("sandbox", "sandbox/made", ".logs", ".logs/p/0", ".logs/p/0/stdout"):
            assert (r.sandbox / made).stat().st_uid == account.pw_uid, made
        assert r.sandbox.stat().st_uid == 0


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


def test_status_that_somebody_else_took_is_called_lost(tmp_path: Path) -> None:
    # A coordinator whose children are reaped by the kernel, as SIGCHLD was ignored when it started.
    steal = (
        "import signal,os,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    with rig(tmp_path, wrapper=["-c", steal, sys.executable]) as r:
        driver = r.driver()
        driver.send("start", **r.command("exit 3"))
        assert driver.run_event("exited")["run"]["code"] == 3
