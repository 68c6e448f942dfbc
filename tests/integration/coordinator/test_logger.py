"""Where output goes: files with limits, the console, nowhere; and that nothing on the way harms the process."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.coordinator.rig import PATIENCE, Rig, gone, now, rig, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users and mount")


def logging(*, console: bool = False, limit: int = 0, backups: int = 0) -> dict[str, Any]:
    return {"console": console, "limit": limit, "backups": backups}


ROTATE = logging(limit=1 << 20, backups=1)
CONSOLE = {"stdout": "", "stderr": "", "logging": logging(console=True)}


def pumps(r: Rig) -> list[int]:
    """Pumps of the coordinator, those that have just ended left out."""
    children = Path(f"/proc/{r.pid}/task/{r.pid}/children").read_text().split()
    found = []
    for pid in children:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "trivet-pump\n" and not gone(int(pid)):
                found.append(int(pid))
    return found


def pump(r: Rig) -> int:
    wait_until(lambda: len(pumps(r)) == 1)
    return pumps(r)[0]


def test_rotated_files_never_exceed_the_limit_and_are_complete_when_the_exit_is_told(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("seq 1 20000; echo done >&2", logging=logging(limit=10_000, backups=3)))
        assert driver.run_event("exited")["run"]["code"] == 0
        logs = r.sandbox / ".logs/p/0"
        files = {file.name: file.read_text() for file in logs.iterdir()}
        assert set(files) == {"stdout", "stdout.1", "stdout.2", "stdout.3", "stderr"}
        assert [len(files[f"stdout.{n}"]) for n in (1, 2, 3)] == [10_000] * 3
        assert len(files["stdout"]) <= 10_000
        said = "".join(f"{n}\n" for n in range(1, 20_001))
        assert said.endswith(files["stdout.3"] + files["stdout.2"] + files["stdout.1"] + files["stdout"])
        assert files["stderr"] == "done\n"
        driver.empty()
        wait_until(lambda: not pumps(r))


def test_both_writes_file_and_console_and_console_alone_makes_no_file(tmp_path: Path) -> None:
    console = tmp_path / "console"
    with console.open("wb") as stdout, rig(tmp_path, stdout=stdout) as r:
        driver = r.driver()
        driver.send("start", **r.command("echo to both; echo err both >&2", logging=logging(console=True)))
        driver.run_event("exited")
        assert r.stdout() == "to both\n"
        assert (r.sandbox / ".logs/p/0/stderr").read_text() == "err both\n"
        driver.send("start", **r.command("echo console alone; echo err alone >&2", process="q", **CONSOLE))
        driver.run_event("exited", process="q")
        assert console.read_text() == "to both\nconsole alone\n"
        assert "err both\nerr alone\n" in r.log.read_text()
        assert not (r.sandbox / ".logs/q").exists()


def test_none_is_dev_null(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("readlink /proc/$$/fd/1 /proc/$$/fd/2 >../seen", stdout="", stderr=""))
        driver.run_event("exited")
        assert (r.sandbox / "seen").read_text() == "/dev/null\n/dev/null\n"
        assert not (r.sandbox / ".logs").exists()
        assert pumps(r) == []


def test_external_truncation_of_a_standard_file_leaves_no_hole(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        os.mkdir(r.sandbox / "sandbox")
        os.mkfifo(r.sandbox / "go")
        driver = r.driver()
        driver.send("start", **r.command("echo a long first line; echo up >../up; read x <../go; echo second"))
        r.wait_for_file("up")
        os.truncate(r.sandbox / ".logs/p/0/stdout", 0)
        (r.sandbox / "go").write_text("go\n")
        driver.run_event("exited")
        assert r.stdout() == "second\n"


@pytest.mark.parametrize("rules", [logging(), ROTATE])
def test_grandchild_that_keeps_stdout_does_not_hold_back_the_end_of_the_run(
    tmp_path: Path, rules: dict[str, Any]
) -> None:
    with rig(tmp_path) as r:
        os.mkfifo(r.sandbox / "go")
        os.mkfifo(r.sandbox / "there")
        driver = r.driver()
        late = "setsid bash -c 'echo >../there; read x <../go; echo late; sleep 9001' &"
        body = f"{late} read x <../there; echo said; exit 5"
        driver.send("start", **r.command(body, logging=rules))
        ended = driver.run_event("exited")
        assert ended["run"]["code"] == 5
        assert ended["alive"] == 1
        assert r.stdout() == "said\n"
        # What it says later is still taken.
        (r.sandbox / "go").write_text("go\n")
        wait_until(lambda: r.stdout() == "said\nlate\n")
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()
        wait_until(lambda: not pumps(r))


def test_dead_pump_is_replaced_and_its_process_never_notices(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        os.mkfifo(r.sandbox / "go")
        driver = r.driver()
        # Much more than a pipe holds, while there is no pump again and again.
        body = "echo first; echo up >../up; read x <../go; seq 1 200000; echo last; exit 3"
        driver.send("start", **r.command(body, logging=ROTATE | {"limit": 10 << 20}))
        r.wait_for_file("up")
        wait_until(lambda: r.stdout() == "first\n")
        killed = []
        for turn in range(2):
            killed.append(pump(r))
            os.kill(killed[-1], signal.SIGKILL)
            wait_until(lambda: gone(killed[-1]) and pumps(r))
            if turn == 0:
                (r.sandbox / "go").write_text("go\n")
        assert driver.run_event("exited")["run"]["code"] == 3
        text = r.stdout()
        note = "[trivet: the log pump was started anew, some output may be missing]\n"
        assert text.startswith(f"first\n{note}")
        # The second death may come when everything is written already.
        assert text.removesuffix(note).endswith("200000\nlast\n")
        # A pump takes at most one handful with it.
        assert len(text) > len("".join(f"{n}\n" for n in range(1, 200_001))) - 2 * (1 << 16)
        assert f"the log pump {killed[0]} has died" in r.log.read_text()


def test_stopped_pump_is_replaced(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        os.mkfifo(r.sandbox / "go")
        driver = r.driver()
        driver.send("start", **r.command("echo up >../up; read x <../go; seq 1 100000", logging=ROTATE))
        r.wait_for_file("up")
        stopped = pump(r)
        os.kill(stopped, signal.SIGSTOP)
        (r.sandbox / "go").write_text("go\n")
        assert driver.run_event("exited")["run"]["code"] == 0
        assert gone(stopped)
        assert r.stdout().endswith("100000\n")


def test_console_that_nobody_reads_stops_neither_process_nor_others(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with rig(tmp_path, stdout=write_end) as r:
        driver = r.driver()
        driver.send("start", **r.command("seq 1 300000", logging=logging(console=True)))
        driver.send("start", **r.command("exit 4", task="other"))
        assert driver.run_event("exited", task="other")["run"]["code"] == 4
        assert driver.run_event("exited")["run"]["code"] == 0
        wait_until(lambda: r.stdout().endswith("300000\n"))
        os.set_blocking(read_end, False)
        assert os.read(read_end, 1 << 20).startswith(b"1\n2\n")
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("rules", [logging(), ROTATE])
def test_log_that_cannot_be_is_told_at_the_start_in_every_mode(tmp_path: Path, rules: dict[str, Any]) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        os.mkfifo(r.sandbox / "fifo")
        driver.send("start", **r.command("true", stdout="fifo", logging=rules))
        assert driver.run_event("not_started")["run"]["error"] == "stdout fifo: No such device or address"
        driver.empty()
        driver.send("start", **r.command("true", run=1, user="no-such-user", logging=rules))
        assert driver.run_event("not_started", run=1)["run"]["error"] == "user 'no-such-user': unknown"
        driver.send("start", **r.command(["/no/such"], run=2, logging=rules))
        assert driver.run_event("not_started", run=2)["run"]["error"] == "exec /no/such: No such file or directory"
        wait_until(lambda: not pumps(r))


def test_pump_is_no_process_of_the_task_and_stays_for_its_last_words(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        body = "trap 'seq 1 50000; exit 0' TERM; echo up >../up; while :; do sleep 0.01; done"
        driver.send("start", **r.command(body, logging=ROTATE))
        r.wait_for_file("up")
        assert driver.run_event("running")["alive"] == 1
        driver.send("terminate", task="t", kill_at=now() + 3600)
        ended = driver.run_event("exited")
        assert (ended["run"]["code"], ended["alive"]) == (0, 0)
        assert r.stdout().endswith("50000\n")
        driver.empty()


def test_end_of_the_executor_waits_for_the_last_words(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("seq 1 11000; echo up >../up; sleep 9001", logging=ROTATE))
        r.wait_for_file("up")
        driver.send("end", code=0)
        driver.exit(0)
        assert r.process.wait(PATIENCE) == 0
        assert r.stdout().endswith("11000\n")


def test_pump_goes_with_a_killed_coordinator(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("echo said; setsid sleep 9001 & sleep 9001", logging=ROTATE))
        driver.run_event("running")
        wait_until(lambda: r.stdout() == "said\n")
        its = pump(r)
        r.process.kill()
        r.process.wait()
        wait_until(lambda: gone(its))
        for pid in (driver.pid, *r.ours()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not r.ours())


def test_a_next_run_of_the_same_process_has_its_own_files(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for run in range(5):
            files = {"stdout": f".logs/p/{run}/stdout", "stderr": f".logs/p/{run}/stderr"}
            driver.send("start", **r.command(f"echo run {run}", run=run, logging=ROTATE, **files))
            driver.run_event("exited", run=run)
            assert r.stdout(run=run) == f"run {run}\n"


@pytest.mark.root
@needs_root
def test_pump_works_as_the_tasks_user_and_holds_nothing_of_the_coordinators(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o755)
    with rig(tmp_path) as r:
        driver = r.driver()
        # Opening /dev/stdout anew needs the right to the pipe.
        body = "echo one >/dev/stdout; echo up >up; exec sleep 9001"
        driver.send("start", **r.command(body, user="daemon", logging=logging(limit=3, backups=1)))
        r.wait_for_file("sandbox/up")
        daemon = pwd.getpwnam("daemon")
        wait_until((r.sandbox / ".logs/p/0/stdout.1").exists)
        for name in ("stdout", "stdout.1", "stderr"):
            assert (r.sandbox / ".logs/p/0" / name).stat().st_uid == daemon.pw_uid
        its = pump(r)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{its}/status").read_text().splitlines())
        assert status["Uid"].split() == [str(daemon.pw_uid)] * 4
        assert sorted(map(int, status["Groups"].split())) == sorted(os.getgrouplist("daemon", daemon.pw_gid))
        held = [os.readlink(f"/proc/{its}/fd/{fd}") for fd in sorted(os.listdir(f"/proc/{its}/fd"), key=int)]
        kinds = [link.partition(":[")[0] for link in held[3:]]
        # One socket, two pipes, two files, its directory and what is asked for readiness: no memory file, no stream.
        assert kinds.count("socket") == 1
        assert kinds.count("pipe") == 2
        assert all(link.startswith((str(r.sandbox), "socket:", "pipe:")) for link in held[3:]), held
        # Nobody of the same user may look into it: it has been the coordinator.
        look = subprocess.run(["cat", f"/proc/{its}/environ"], user="daemon", capture_output=True, check=False)
        assert look.returncode != 0
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "trivet-test", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.root
@needs_root
def test_full_disk_kills_nothing_and_what_was_dropped_is_told(tmp_path: Path) -> None:
    with rig(tmp_path) as r, small_disk(r.sandbox / "disk"):
        os.mkfifo(r.sandbox / "go")
        driver = r.driver()
        files = {"stdout": "disk/stdout", "stderr": "disk/stderr", "logging": ROTATE | {"limit": 100 << 20}}
        body = "head -c 3000000 /dev/zero | tr '\\0' x || exit 9; echo up >../up; read x <../go; echo healed"
        driver.send("start", **r.command(body, **files))
        r.wait_for_file("up")
        assert (r.sandbox / "disk/stdout").stat().st_size <= 256 << 10
        kept = (r.sandbox / "disk/stdout").stat().st_size
        os.truncate(r.sandbox / "disk/stdout", 0)
        (r.sandbox / "go").write_text("go\n")
        assert driver.run_event("exited")["run"]["code"] == 0
        text = (r.sandbox / "disk/stdout").read_text()
        note = re.search(r"\[trivet: (\d+) bytes dropped: No space left on device\]\n", text)
        assert note is not None, text[-200:]
        # A last handful may have come after the truncation.
        assert kept + int(note[1]) + text.count("x") == 3_000_000
        assert text.endswith("healed\n")
        driver.empty()


def test_weight_of_a_pump(tmp_path: Path) -> None:
    def private(pid: int) -> int:
        rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        return sum(int(row[1]) for row in rows if row[0] in ("Private_Dirty:", "Private_Clean:"))

    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("seq 1 100000; echo up >../up; exec sleep 9001", logging=ROTATE))
        r.wait_for_file("up")
        wait_until(lambda: r.stdout().endswith("100000\n"))
        try:
            weight = private(pump(r))
        except PermissionError:
            pytest.skip("only root can look into it")
        print(f"a pump's own memory: {weight} KiB")
        assert weight < 4 << 10
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()
