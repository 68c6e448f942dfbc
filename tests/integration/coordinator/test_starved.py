"""A coordinator without a free descriptor: what dies meanwhile is told when there are some again."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from typing import TYPE_CHECKING

from tests.integration.coordinator.rig import Rig, gone, now, rig, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAR = 3600.0


@contextlib.contextmanager
def starved(r: Rig) -> Iterator[None]:
    """No descriptor is to be had, and the coordinator has felt it before this ends."""
    before = resource.prlimit(r.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(r.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    yield
    wait_until(lambda: "Too many open files" in r.log.read_text())
    resource.prlimit(r.pid, resource.RLIMIT_NOFILE, before)


def test_the_death_of_a_driver_is_not_forgotten(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 1001"))
        pid = driver.run_event("running")["run"]["pid"]
        driver.send("probe", **r.probe("echo up >up; sleep 1002"))
        r.wait_for_file("sandbox/up")
        with starved(r):
            os.kill(pid, signal.SIGKILL)
            os.kill(driver.pid, signal.SIGKILL)
        second = r.driver()
        second.send("start", **r.command("nothing: the key is known"))
        assert second.run_event("exited")["run"]["signal"] == signal.SIGKILL
        # The probe was the dead driver's: it does not outlive it.
        wait_until(lambda: not any("sleep 1002" in line for line in r.ours().values()))


def test_an_exit_is_not_forgotten(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("exec sleep 1001"))
        pid = driver.run_event("running")["run"]["pid"]
        with starved(r):
            os.kill(pid, signal.SIGKILL)
        assert driver.run_event("exited")["run"]["signal"] == signal.SIGKILL
        driver.empty()


def test_a_deadline_is_not_forgotten(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap '' TERM; while :; do sleep 1; done"))
        pid = driver.run_event("running")["run"]["pid"]
        with starved(r):
            driver.send("hard", task="t", at=now() + 0.1)
        wait_until(lambda: gone(pid))
        assert driver.run_event("exited")["run"]["signal"] == signal.SIGKILL
        driver.empty()


def test_a_start_is_refused_and_says_why(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("terminate", task="never heard of", kill_at=now())
        driver.empty("never heard of")
        before = resource.prlimit(r.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(r.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        driver.send("start", **r.command("true"))
        run = driver.run_event("not_started")["run"]
        resource.prlimit(r.pid, resource.RLIMIT_NOFILE, before)
        assert run["error"] == "fork: Too many open files"
        driver.send("start", **r.command("exit 7", run=1))
        assert driver.run_event("exited", run=1)["run"]["code"] == 7
