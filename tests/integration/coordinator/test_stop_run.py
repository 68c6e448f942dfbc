"""One run is given up: killed alone, or never started."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.integration.coordinator.rig import gone, rig, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_a_stopped_run_dies_with_its_group_and_the_others_live(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 9001 & echo $! >../child; wait"))
        driver.send("start", **r.command("exec sleep 9001", process="q"))
        other = driver.run_event("running", process="q")["run"]["pid"]
        child = int(r.wait_for_file("child"))
        driver.send("stop", task="t", process="p", run=0)
        event = driver.run_event("exited")
        assert event["run"]["signal"] == 9
        wait_until(lambda: gone(child))
        os.kill(other, 0)
        assert event["alive"] >= 1


def test_a_stop_that_comes_before_its_start_keeps_it_from_ever_starting(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("stop", task="t", process="p", run=0)
        assert driver.run_event("not_started")["run"]["error"] == "given up by the runner"
        driver.send("start", **r.command("touch ../started"))
        assert driver.run_event("not_started")["run"]["error"] == "given up by the runner"
        # The next run is another one.
        driver.send("start", **r.command("touch ../next", run=1))
        assert driver.run_event("exited", run=1)["run"]["code"] == 0
        assert (r.sandbox / "next").exists()
        assert not (r.sandbox / "started").exists()


def test_a_stop_of_a_run_that_is_over_only_tells_its_record(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("exit 3"))
        driver.run_event("exited")
        driver.send("stop", task="t", process="p", run=0)
        assert driver.run_event("exited")["run"]["code"] == 3


def test_a_frozen_run_is_stopped_too(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("echo up >../up; exec sleep 9001"))
        r.wait_for_file("up")
        os.kill(driver.run_event("running")["run"]["pid"], signal.SIGSTOP)
        driver.send("stop", task="t", process="p", run=0)
        event = driver.run_event("exited")
        assert (event["run"]["signal"], event["alive"]) == (9, 0)
