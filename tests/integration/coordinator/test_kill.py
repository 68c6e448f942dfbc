"""Ending tasks: whole trees, deadlines, daemons that hide."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.integration.coordinator.rig import PATIENCE, gone, now, rig, wait_until

FAR = 3600.0


def test_terminate_reaches_the_whole_tree(tmp_path: Path) -> None:
    script = """
    note() { trap "echo $1 >>../terms; exit" TERM; echo up >>../ups; sleep 9001 & wait; }
    (note inner) & (setsid bash -c "$(declare -f note); note session") & note outer
    """
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command(script))
        wait_until(lambda: (r.sandbox / "ups").exists() and (r.sandbox / "ups").read_text().count("up") == 3)
        driver.send("terminate", task="t", kill_at=now() + FAR)
        event = driver.empty()
        assert event["stuck"] is False
        assert sorted((r.sandbox / "terms").read_text().split()) == ["inner", "outer", "session"]


def test_an_order_that_comes_twice_signals_once(tmp_path: Path) -> None:
    script = "trap 'echo t >>../terms' TERM; echo up >../up; until test -e ../go; do sleep 0.01; done"
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command(script))
        r.wait_for_file("up")
        for _ in range(3):
            driver.send("terminate", task="t", kill_at=now() + FAR)
        r.wait_for_file("terms")
        # What is started afterwards, such as a final process, is asked as well.
        driver.send("start", **r.command("trap 'echo f >>../terms; exit' TERM; echo up >../up2; sleep 9 & wait", run=1))
        r.wait_for_file("up2")
        driver.send("terminate", task="t", kill_at=now() + FAR)
        wait_until(lambda: (r.sandbox / "terms").read_text().split() == ["t", "f"])
        (r.sandbox / "go").touch()
        driver.empty()
        assert (r.sandbox / "terms").read_text().split() == ["t", "f"]


def test_an_order_does_not_meet_what_starts_after_it(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for run in range(20):
            # Order and start are read in one go; nothing is left of the run before.
            driver.send("terminate", task="t", kill_at=now() + 0.05)
            driver.send("start", **r.command("sleep 0.1; exit 7", run=run))
            assert driver.run_event("exited", run=run)["run"]["code"] == 7


def test_what_a_process_forks_to_obey_is_left_to_it(tmp_path: Path) -> None:
    script = (
        "trap 'echo asked >>../asked; read <../go; /bin/cat ../go2 && echo cleaned >>../cleaned; exit 0' TERM;"
        "echo up >../up; while :; do sleep 0.01; done"
    )
    with rig(tmp_path) as r:
        os.mkfifo(r.sandbox / "go")
        os.mkfifo(r.sandbox / "go2")
        driver = r.driver()
        driver.send("start", **r.command(script))
        r.wait_for_file("up")
        driver.send("terminate", task="t", kill_at=now() + FAR)
        r.wait_for_file("asked")
        (r.sandbox / "go").write_text("go\n")
        with (r.sandbox / "go2").open("w"):
            # The helper is there now; the same order again is not for it.
            driver.send("terminate", task="t", kill_at=now() + FAR)
            driver.send("start", **r.command("true", run=7))
            driver.run_event("exited", run=7)
        assert driver.run_event("exited")["run"]["code"] == 0
        assert (r.sandbox / "cleaned").exists()
        driver.empty()


def test_what_a_process_leaves_behind_when_it_obeys_is_asked_as_well(tmp_path: Path) -> None:
    late = "setsid bash -c 'trap \"echo asked >>../asked; exit\" TERM; echo up >>../late; sleep 9001 & wait' &"
    script = (
        f"leave() {{ {late} read <../late; exit 0; }}; trap leave TERM; echo up >../up; while :; do sleep 0.01; done"
    )
    with rig(tmp_path) as r:
        os.mkfifo(r.sandbox / "late")
        driver = r.driver()
        driver.send("start", **r.command(script))
        r.wait_for_file("up")
        driver.send("terminate", task="t", kill_at=now() + FAR)
        driver.empty()
        assert (r.sandbox / "asked").exists()


def test_terminate_wakes_stopped_processes(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send(
            "start", **r.command("trap 'echo bye >../bye; exit 3' TERM; echo up >../up; kill -STOP $$; sleep 9 & wait")
        )
        r.wait_for_file("up")
        pid = driver.run_event("running")["run"]["pid"]
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        driver.send("terminate", task="t", kill_at=now() + FAR)
        assert driver.run_event("exited")["run"]["code"] == 3


def test_who_ignores_term_is_killed_at_the_deadline_and_not_before(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap '' TERM; echo up >../up; sleep 1001 & sleep 1002; sleep 1003"))
        r.wait_for_file("up")
        deadline = now() + 0.4
        driver.send("terminate", task="t", kill_at=deadline)
        event = driver.run_event("exited")
        assert now() >= deadline
        assert event["run"]["signal"] == signal.SIGKILL
        driver.empty()


def test_later_kill_at_replaces_the_earlier_one(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap '' TERM; echo up >../up; sleep 1001; sleep 1003"))
        r.wait_for_file("up")
        driver.send("terminate", task="t", kill_at=now() + FAR)
        driver.send("terminate", task="t", kill_at=now() - 1)
        assert driver.run_event("exited")["run"]["signal"] == signal.SIGKILL
        driver.empty()


@pytest.mark.parametrize(
    "daemonise",
    [
        "(DAEMON &) &",
        "setsid bash -c '(sleep 5003 &) ; DAEMON & sleep 5002' &",
        "env -i DAEMON &",
        "(trap '' TERM HUP; DAEMON &)",
    ],
)
def test_daemons_that_outlive_their_run_are_counted_and_killed(tmp_path: Path, daemonise: str) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        # The leader goes when its daemon is up. There is one of another task, to be left alone.
        body = 'setsid bash -c "echo \\$\\$ >../fifo; exec sleep 5001"'
        for task, cmdline in (("other", f"{body} &"), ("t", daemonise.replace("DAEMON", body))):
            script = f"mkfifo ../fifo\n{cmdline}\nread pid <../fifo; rm ../fifo; echo $pid >../{task}; exit 6"
            driver.send("start", **r.command(script, task=task))
            ended = driver.run_event("exited", task=task)
            assert ended["run"]["code"] == 6
        other, daemon = int(r.wait_for_file("other")), int(r.wait_for_file("t"))
        assert ended["alive"] >= 1
        assert not gone(daemon)
        driver.send("terminate", task="t", kill_at=now() + 0.2)
        driver.empty()
        assert gone(daemon)
        assert not gone(other)
        driver.send("terminate", task="other", kill_at=now())
        driver.empty("other")
        assert gone(other)


def test_what_is_left_in_the_group_goes_with_its_leader(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 7001 & echo $! >../pid; exit 4"))
        assert driver.run_event("exited")["run"]["code"] == 4
        driver.empty()
        assert gone(int((r.sandbox / "pid").read_text()))


def test_task_that_kills_its_group_hits_only_itself(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("kill -KILL 0"))
        assert driver.run_event("exited")["run"]["signal"] == signal.SIGKILL
        driver.empty()
        driver.send("start", **r.command("true", run=1))
        assert driver.run_event("exited", run=1)["run"]["code"] == 0


def test_fork_storm_is_killed(tmp_path: Path) -> None:
    storm = """
import os, time
def go(depth):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if os.fork() == 0:
            os.setsid()
        else:
            os._exit(0)
for _ in range(5):
    if os.fork() == 0:
        go(0)
        os._exit(0)
print("up", file=open("../up", "w"), flush=True)
time.sleep(20)
"""
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command([sys.executable, "-I", "-S", "-c", storm]))
        r.wait_for_file("up")
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()
        assert set(r.ours()) == {r.pid, driver.pid}


def test_terminate_of_what_is_not_there_is_answered(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("terminate", task="never heard of", kill_at=now() + FAR)
        assert driver.empty("never heard of")["alive"] == 0


def test_finalizer_may_start_after_a_terminate_has_emptied_the_task(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 1001"))
        driver.run_event("running")
        driver.send("terminate", task="t", kill_at=now() + FAR)
        driver.empty()
        driver.send("start", **r.command("true", process="final"))
        assert driver.run_event("exited", process="final")["run"]["code"] == 0


def test_hard_deadline_kills_and_refuses_later_starts_and_probes(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap '' TERM; sleep 1001; sleep 1002"))
        driver.run_event("running")
        driver.send("hard", task="t", at=now() + 0.2)
        driver.send("hard", task="t", at=now() + FAR)
        assert driver.run_event("exited")["run"]["signal"] == signal.SIGKILL
        driver.empty()
        driver.send("start", **r.command("true", run=1))
        assert driver.run_event("not_started", run=1)["run"]["error"] == "task is being killed"
        driver.send("probe", **r.probe("true"))
        assert driver.event("probe")["error"] == "task is being killed"
        driver.send("start", **r.command("true", task="other"))
        driver.run_event("exited", task="other")


def test_hard_deadline_of_all_tasks_holds_for_future_ones(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for task in ("a", "b"):
            driver.send("start", **r.command("sleep 1001", task=task))
            driver.run_event("running", task=task)
        driver.send("hard", task="", at=now())
        driver.empty("a")
        driver.empty("b") if not any(e["ev"] == "task" and e["task"] == "b" for e in driver.events) else None
        driver.send("start", **r.command("true", task="c"))
        assert driver.run_event("not_started", task="c")["run"]["error"] == "task is being killed"


def test_deadlines_are_kept_while_the_driver_is_frozen(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap '' TERM; sleep 1001; sleep 1002"))
        pid = driver.run_event("running")["run"]["pid"]
        driver.send("hard", task="t", at=now() + 0.3)
        os.kill(driver.pid, signal.SIGSTOP)
        wait_until(lambda: gone(pid))
        os.kill(driver.pid, signal.SIGCONT)
        driver.empty()


def test_deadlines_are_kept_while_drivers_die(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("trap '' TERM; echo up >../up; sleep 1001; sleep 1002"))
        r.wait_for_file("up")
        driver.send("terminate", task="t", kill_at=now() + 0.3)
        os.kill(driver.pid, signal.SIGKILL)
        second = r.driver()
        second.empty()
        second.send("start", **r.command("nothing: the key is known"))
        assert second.run_event("exited")["run"]["signal"] == signal.SIGKILL


def test_forget_drops_records_only_when_nothing_lives(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 1001"))
        driver.run_event("running")
        driver.send("forget", task="t")
        assert driver.event("error")["error"] == "forget.task: 1 of its processes are alive"
        driver.send("terminate", task="t", kill_at=now())
        driver.empty()
        driver.send("forget", task="t")
        driver.send("start", **r.command("exit 9"))
        assert driver.run_event("exited")["run"]["code"] == 9


def test_settled_runs_are_dropped_and_never_repeated(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for run in (0, 1):
            driver.send("start", **r.command("true", run=run))
            driver.run_event("exited", run=run)
        driver.send("settle", task="t", process="p", below=1)
        driver.send("start", **r.command("true"))
        assert driver.event("error")["error"] == "start.run: run 0 of process 'p' is settled"
        driver.exit(1)
        tasks = r.driver().event("state")["tasks"]
        assert [run["run"] for run in tasks["t"]["runs"]] == [1]


def test_exit_is_told_within_milliseconds(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 1001"))
        pid = driver.run_event("running")["run"]["pid"]
        before = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        driver.run_event("exited")
        took = time.monotonic() - before
        print(f"kill -> told: {took * 1000:.1f} ms")
        assert took < PATIENCE / 10
