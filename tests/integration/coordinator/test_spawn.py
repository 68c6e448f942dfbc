"""How processes are started."""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

import pytest

from tests.integration.coordinator.rig import rig

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


def test_driver_gets_options_in_pairs_and_both_state_files(tmp_path: Path) -> None:
    with rig(tmp_path, "--linger=3", "--service-deadline", "7") as r:
        driver = r.driver()
        assert driver.argv[-6:] == ["--services", "/nowhere", "--linger", "3", "--service-deadline", "7"]
        assert "--driver-argv" not in driver.argv
        for fd in driver.state_fds:
            assert "memfd:trivet-state" in os.readlink(f"/proc/self/fd/{fd}")


def test_coordinator_is_recognisable_in_ps(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        r.driver()
        assert "executor_shim.coordinator" in Path(f"/proc/{r.pid}/cmdline").read_text()


def test_run_is_running_exited(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("echo out; echo err >&2; exit 7"))
        running = driver.run_event("running")["run"]
        ended = driver.run_event("exited")
        assert running["pid"] == ended["run"]["pid"] == ended["run"]["sid"]
        assert running["ticks"] == ended["run"]["ticks"] > 0
        assert ended["run"]["code"] == 7
        assert ended["run"]["signal"] is None
        assert ended["run"]["exited_at"] >= running["forked_at"] > 0
        # It repeats what the exit has said.
        assert ended["alive"] == 0
        assert driver.empty()["told"]
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
    with rig(tmp_path, pass_fds=(leak,), umask=0o077, env={"OUTER": "not for tasks"}) as r:
        driver = r.driver()
        # Python changes its own dispositions when it starts: let somebody look who does not.
        driver.send("start", **r.command(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], process="signals"))
        driver.run_event("exited", process="signals")
        blocked, ignored = r.stdout().split()[1::2]
        # 32 and 33 are libc's own: its posix_spawn may leave them ignored, and lets nobody change them.
        internal = 1 << 31 | 1 << 32
        assert (int(blocked, 16), int(ignored, 16) & ~internal) == (0, 0)
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
        # It begins with the incarnation, by which a driver finds the leftovers of a dead coordinator.
        assert len(run["marker"].partition(".")[0]) == 32
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
