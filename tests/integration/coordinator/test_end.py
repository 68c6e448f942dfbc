"""The end of the coordinator itself: asked for, demanded by Mesos, or violent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.coordinator.rig import PATIENCE, gone, now, rig, wait_until

IGNORES_TERM = "trap '' TERM; echo up >../up; setsid sleep 1001 & sleep 1002; true"


def test_end_kills_all_and_exits_with_the_code(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command(IGNORES_TERM))
        driver.send("start", **r.command("setsid env -i sleep 1003 & exit 0", task="stray"))
        r.wait_for_file("up")
        driver.send("end", code=7)
        driver.exit(0)
        assert r.process.wait(PATIENCE) == 7
        assert r.ours() == {}


def test_driver_that_does_not_leave_after_end_is_killed(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("end", code=0)
        assert r.process.wait(PATIENCE) == 0
        wait_until(lambda: gone(driver.pid))


def test_sigterm_tells_the_driver_and_gives_the_tasks_their_time(tmp_path: Path) -> None:
    with rig(tmp_path, env={"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "3100ms"}) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap 'echo bye >../bye; exit 0' TERM; echo up >../up; sleep 1001 & wait"))
        driver.send("start", **r.command("trap '' TERM; echo up >../up2; sleep 1001; sleep 1001", task="stubborn"))
        r.wait_for_file("up")
        r.wait_for_file("up2")
        before = now()
        r.process.terminate()
        deadline = driver.event("terminate")["deadline"]
        assert deadline == pytest.approx(before + 1.1, abs=0.9)
        assert driver.run_event("exited")["run"]["code"] == 0
        assert driver.run_event("exited", task="stubborn")["run"]["signal"] == signal.SIGKILL
        assert now() >= deadline
        driver.send("end", code=0)
        driver.exit(0)
        assert r.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("grace", ["2secs", "0ns"])
def test_sigterm_with_little_grace_kills_at_once(tmp_path: Path, grace: str) -> None:
    with rig(tmp_path, env={"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": grace}) as r:
        driver = r.driver()
        driver.send("start", **r.command(IGNORES_TERM))
        r.wait_for_file("up")
        r.process.terminate()
        assert driver.run_event("exited")["run"]["signal"] == signal.SIGKILL


def test_second_sigterm_kills_at_once(tmp_path: Path) -> None:
    with rig(tmp_path, env={"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "1hrs"}) as r:
        driver = r.driver()
        driver.send("start", **r.command(IGNORES_TERM))
        r.wait_for_file("up")
        r.process.terminate()
        driver.event("terminate")
        r.process.terminate()
        driver.event("terminate")
        assert driver.run_event("exited")["run"]["signal"] == signal.SIGKILL


def test_sigterm_with_a_silent_driver_ends_all_the_same(tmp_path: Path) -> None:
    with rig(tmp_path, env={"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "2secs"}) as r:
        driver = r.driver()
        driver.send("start", **r.command(IGNORES_TERM))
        r.wait_for_file("up")
        os.kill(driver.pid, signal.SIGSTOP)
        r.process.terminate()
        assert r.process.wait(PATIENCE) == 1
        wait_until(lambda: not r.ours())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_during_the_start_is_handled_as_soon_as_it_can_be(tmp_path: Path, number: signal.Signals) -> None:
    # A driver that signals its parent with its first instruction: the coordinator is still importing then.
    driver = json.dumps(["/bin/sh", "-c", f"kill -{number} $PPID; echo $$ >{tmp_path}/driver; exec sleep 1001"])
    process = subprocess.Popen([sys.executable, "-m", "executor_shim", "--services", "/x", "--driver-argv", driver])
    try:
        if number == signal.SIGTERM:
            assert process.wait(PATIENCE) == 1
        wait_until((tmp_path / "driver").exists)
        assert (process.poll() is None) == (number != signal.SIGTERM)
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 1


def test_other_signals_are_ignored(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.event("state")
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(r.pid, number)
        driver.send("start", **r.command("true"))
        assert driver.run_event("exited")["run"]["code"] == 0


def test_killed_coordinator_takes_its_direct_children_along(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap '' TERM; sleep 1001; true"))
        driver.send("probe", **r.probe("sleep 1001; true"))
        direct = driver.run_event("running")["run"]["pid"]
        r.process.kill()
        r.process.wait()
        wait_until(lambda: gone(direct))
        # The driver outlives it, to look for the rest.
        assert not gone(driver.pid)
        os.kill(driver.pid, signal.SIGKILL)
        for pid in r.ours():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not r.ours())


def test_works_with_nothing_but_a_path_and_without_standard_descriptors(tmp_path: Path) -> None:
    # Closed 0, 1 and 2 must not be taken by anything that a task could then write to.
    script = "import os,sys; os.closerange(0, 3); os.execve(sys.executable, [sys.executable, *sys.argv[1:]], {})"
    marker = tmp_path / "seen"
    driver = json.dumps(
        ["/bin/bash", "-c", f"ls -l /proc/$PPID/fd >{marker}.part; mv {marker}.part {marker}; exec sleep 1001"]
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "-m", "executor_shim", "--services", "/x", "--driver-argv", driver]
    )
    try:
        wait_until(marker.exists)
        lines = [line.split(" ", 8)[-1].split() for line in marker.read_text().splitlines()[1:]]
        links = {line[-3]: line[-1] for line in lines}
        assert [links[fd] for fd in ("0", "1", "2")] == ["/dev/null"] * 3
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        ([], "--services: missing"),
        (["--services"], "--services: needs a value"),
        (["--services", "/x", "--linger", "soon"], "--linger: must be a number of seconds, 0 or more"),
        (["--services", "/x", "--nonsense"], "--nonsense: unknown option"),
    ],
)
def test_wrong_command_line_is_refused_with_the_options_name(argv: list[str], error: str) -> None:
    done = subprocess.run([sys.executable, "-m", "executor_shim", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"trivet-executor: {error}\n"


def test_help_and_version(tmp_path: Path) -> None:
    for option, text in (("--help", "--service-deadline"), ("--version", "trivet-executor ")):
        done = subprocess.run(
            [sys.executable, "-m", "executor_shim", option], capture_output=True, text=True, check=True
        )
        assert text in done.stdout
        assert "driver-argv" not in done.stdout


def test_memory_of_an_idle_coordinator_and_per_process(tmp_path: Path) -> None:
    def memory(pid: int) -> dict[str, int]:
        rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        return {row[0]: int(row[1]) for row in rows}

    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("true", task="first"))
        driver.empty("first")
        idle = memory(r.pid)
        for run in range(50):
            driver.send("start", **r.command(["/bin/sleep", "1001"], run=run))
        running: set[int] = set()
        while len(running) < 50:
            event = driver.wait(lambda e: e["ev"] == "run" and e["run"]["state"] == "running" and e["task"] == "t")
            running.add(event["run"]["run"])
        busy = memory(r.pid)
        print(f"idle: RSS {idle['Rss:']} KiB, anonymous {idle['Anonymous:']} KiB")
        print(f"per live process: {(busy['Rss:'] - idle['Rss:']) / 50:.1f} KiB")
        assert idle["Rss:"] < 16 << 10
        assert busy["Rss:"] - idle["Rss:"] < 50 * 40
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()
