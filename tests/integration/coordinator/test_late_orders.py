"""Orders read late, together, or in the middle of a spawn: no exit gets lost, and lateness refuses nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.coordinator.rig import Rig, gone, now, rig, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAR = 3600.0
OVER = -1.0


@contextlib.contextmanager
def frozen(r: Rig) -> Iterator[None]:
    """What is sent in here is read in one go afterwards, and late."""
    os.kill(r.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, r.pid, os.WSTOPPED)
    yield
    os.kill(r.pid, signal.SIGCONT)


@pytest.mark.parametrize("seconds", [OVER, FAR])
@pytest.mark.parametrize("unreaped", [False, True])
def test_a_late_order_does_not_refuse_what_starts_after_it(tmp_path: Path, seconds: float, *, unreaped: bool) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 1001"))
        pid = driver.run_event("running")["run"]["pid"]
        if not unreaped:
            os.kill(pid, signal.SIGKILL)
            driver.empty()
        with frozen(r):
            if unreaped:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: gone(pid))
            driver.send("terminate", task="t", kill_at=now() + seconds)
            driver.send("start", **r.command("exit 7", run=1))
        assert driver.run_event("exited", run=1)["run"]["code"] == 7
        driver.empty()


def test_a_late_order_refuses_what_starts_while_something_lives(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 1001"))
        driver.run_event("running")
        with frozen(r):
            driver.send("terminate", task="t", kill_at=now() + OVER)
            driver.send("start", **r.command("true", run=1))
        assert driver.run_event("not_started", run=1)["run"]["error"] == "task is being killed"
        driver.empty()
        states = {e["run"]["run"]: e["run"] for e in driver.events if e["ev"] == "run"}
        assert (states[0]["state"], states[0]["signal"]) == ("exited", signal.SIGKILL)


@pytest.mark.parametrize(
    ("order", "seconds", "ended_by"),
    [("terminate", OVER, signal.SIGKILL), ("terminate", FAR, signal.SIGTERM), ("stop", 0.0, signal.SIGKILL)],
)
def test_an_order_meets_a_run_in_the_middle_of_its_spawn(
    tmp_path: Path, order: str, seconds: float, ended_by: int
) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for run in range(10):
            with frozen(r):
                driver.send("start", **r.command("sleep 1001", run=run))
                if order == "stop":
                    driver.send("stop", task="t", process="p", run=run)
                else:
                    driver.send("terminate", task="t", kill_at=now() + seconds)
            assert driver.run_event("exited", run=run)["run"]["signal"] == ended_by
            driver.empty()


@pytest.mark.parametrize("pumped", [False, True])
def test_every_exit_of_a_storm_is_told(tmp_path: Path, *, pumped: bool) -> None:
    logging = {"console": False, "limit": 1 << 20 if pumped else 0, "backups": 1 if pumped else 0}
    with rig(tmp_path) as r:
        driver = r.driver()
        with frozen(r):
            for run in range(60):
                driver.send("start", **r.command(["/bin/sh", "-c", f"exit {run}"], run=run, logging=logging))
        exits: dict[int, int] = {}
        while len(exits) < 60:
            event = driver.wait(lambda e: e["ev"] == "run" and e["run"]["state"] == "exited")
            exits[event["run"]["run"]] = event["run"]["code"]
        assert exits == {run: run for run in range(60)}
        driver.empty()


def test_exits_while_a_driver_dies_are_told_to_the_next(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 1001"))
        pid = driver.run_event("running")["run"]["pid"]
        with frozen(r):
            os.kill(pid, signal.SIGKILL)
            os.kill(driver.pid, signal.SIGKILL)
            # The last words of a dead driver are carried out.
            driver.send("start", **r.command("exit 7", run=1))
            wait_until(lambda: gone(pid) and gone(driver.pid))
        second = r.driver()
        for run in (0, 1):
            second.send("start", **r.command("nothing: the key is known", run=run))
        assert second.run_event("exited")["run"]["signal"] == signal.SIGKILL
        assert second.run_event("exited", run=1)["run"]["code"] == 7
