"""Command probes: answered once and in time, whatever they do, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.coordinator.rig import PATIENCE, Event, gone, now, rig, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_probe_tells_code_and_output(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("probe", **r.probe("echo out; echo err >&2; pwd; exit 3"))
        event = driver.event("probe")
        assert (event["id"], event["task"], event["code"], event["signal"]) == ("i", "t", 3, None)
        assert event["output"] == f"out\nerr\n{r.sandbox}/sandbox\n"
        assert event["timeout"] is False
        assert event["error"] == ""
        assert 0 < event["secs"] < 20


def test_only_the_end_of_a_long_output_is_kept(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("probe", **r.probe("head -c 3000000 /dev/zero | tr '\\0' x; printf '\\377end'"))
        output = driver.event("probe")["output"]
        assert output.endswith("xxx\N{REPLACEMENT CHARACTER}end")
        assert len(output) == 1024


def test_probe_that_hangs_is_killed_with_all_its_sessions(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        script = "trap '' TERM; setsid bash -c 'echo $$ >../pid; sleep 8001; true' & echo working; sleep 8002; true"
        driver.send("probe", **r.probe(script, timeout=0.5))
        event = driver.event("probe")
        assert event["timeout"] is True
        assert event["signal"] == signal.SIGKILL
        assert event["output"] == "working\n"
        assert 0.5 <= event["secs"] < 10
        driver.empty()
        assert gone(int(r.wait_for_file("pid")))


@pytest.mark.parametrize("writer", ["sleep 8001", "yes"])
def test_grandchild_that_holds_the_pipe_does_not_hold_the_answer_and_is_killed(tmp_path: Path, writer: str) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        script = (
            f"mkfifo ../f\nsetsid bash -c 'echo $$ >../f; exec {writer}' &\nread pid <../f; echo $pid >../pid; exit 0"
        )
        driver.send("probe", **r.probe(script))
        event = driver.event("probe")
        assert event["code"] == 0
        assert event["timeout"] is False
        driver.empty()
        assert gone(int(r.wait_for_file("pid")))


def test_daemon_of_a_run_is_left_alone_by_a_probe(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("sleep 8001"))
        pid = driver.run_event("running")["run"]["pid"]
        driver.send("probe", **r.probe("sleep 8002", timeout=0.05))
        assert driver.event("probe")["timeout"] is True
        assert not gone(pid)
        driver.send("terminate", task="t", kill_at=now())
        assert driver.run_event("exited")["alive"] == 0


def test_probe_that_cannot_be_made_is_no_failed_probe(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("probe", **r.probe("true", user="nobody-of-that-name"))
        event = driver.event("probe")
        assert event["error"] == "user 'nobody-of-that-name': unknown"
        assert event["code"] is None
        assert event["signal"] is None


def test_command_that_cannot_be_run_fails_as_it_would_in_a_shell(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        (r.sandbox / "plain").write_text("true\n")
        (r.sandbox / "binary").write_bytes(b"\x7fnothing")
        (r.sandbox / "binary").chmod(0o755)
        for argv, code, why in (
            (["/no/such"], 127, "No such file or directory"),
            (["no-such-on-the-path"], 127, "No such file or directory"),
            ([f"{r.sandbox}/plain/below"], 127, "Not a directory"),
            ([f"{r.sandbox}/plain"], 126, "Permission denied"),
            ([f"{r.sandbox}/binary"], 126, "Exec format error"),
            (["/bin/true", "x" * (1 << 18)], 126, "Argument list too long"),
        ):
            driver.send("probe", **r.probe(argv))
            event = driver.event("probe")
            assert (event["code"], event["signal"], event["error"]) == (code, None, "")
            assert event["output"] == f"exec {argv[0]}: {why}"


def test_without_a_timeout_it_may_take_its_time(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        os.mkfifo(r.sandbox / "go")
        driver.send("probe", **r.probe("echo up >../up; read x <../go; exit 7", timeout=0))
        r.wait_for_file("up")
        # Whatever is due at once would have been done before this is answered.
        driver.send("start", **r.command("true"))
        driver.run_event("exited")
        (r.sandbox / "go").write_text("go\n")
        event = driver.event("probe")
        assert (event["code"], event["timeout"]) == (7, False)
        driver.empty()


def test_bash_reads_the_profile_first(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("probe", **r.probe("echo $WORD", profile="sandbox/.thermos_profile"))
        assert driver.event("probe")["output"] == "\n"
        (r.sandbox / "sandbox" / ".thermos_profile").write_text("WORD=profiled\n")
        driver.send("probe", **r.probe("echo $WORD", profile="sandbox/.thermos_profile"))
        assert driver.event("probe")["output"] == "profiled\n"


def test_one_probe_is_stopped_and_not_its_neighbours(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        os.mkfifo(r.sandbox / "go")
        driver.send("probe", **r.probe("echo $$ >../one; sleep 8001", id="one"))
        driver.send("probe", **r.probe("echo up >../two; read x <../go", id="two"))
        pid = int(r.wait_for_file("one"))
        r.wait_for_file("two")
        driver.send("stop_probe", id="one")
        driver.send("stop_probe", id="never heard of")
        event = driver.event("probe")
        assert (event["id"], event["error"]) == ("one", "cancelled")
        assert gone(pid)
        (r.sandbox / "go").write_text("go\n")
        event = driver.event("probe")
        assert (event["id"], event["code"]) == ("two", 0)
        driver.empty()


DAEMON = """
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 100)
open("../daemon", "w").write(f"{os.getpid()}\\n")
os.execve("/bin/sleep", ["sleep", "8003"], {})
"""


@pytest.mark.parametrize("end", ["answer", "timeout", "stop_probe"])
def test_daemon_that_was_taken_in_before_the_end_of_its_probe_ends_with_it(tmp_path: Path, end: str) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        os.mkfifo(r.sandbox / "go")
        (r.sandbox / "daemon.py").write_text(DAEMON)
        # Two tasks: so that it is not simply the only one's.
        driver.send("start", **r.command("exec sleep 8004", process="other", task="other"))
        script = f"{sys.executable} ../daemon.py; read x <../go"
        driver.send("probe", **r.probe(script, timeout=2.0 if end == "timeout" else PATIENCE))
        daemon = int(r.wait_for_file("daemon"))
        # The death of another child is the occasion to take in orphans.
        driver.send("start", **r.command("true"))
        driver.run_event("exited")
        if end == "answer":
            (r.sandbox / "go").write_text("go\n")
        elif end == "stop_probe":
            driver.send("stop_probe", id="i")
        event = driver.event("probe")
        assert event["timeout"] is (end == "timeout")
        try:
            wait_until(lambda: gone(daemon))
        finally:
            # Nothing of it tells the rig whose it is.
            if not gone(daemon):
                os.kill(daemon, signal.SIGKILL)
        driver.send("terminate", task="other", kill_at=now())
        driver.empty("other")


def test_probes_count_as_alive_and_end_with_their_task(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("probe", **r.probe("echo up >../up; sleep 8001"))
        r.wait_for_file("up")
        driver.send("forget", task="t")
        # Unknown as a task, but alive.
        assert driver.event("error")["error"] == "forget.task: 1 of its processes are alive"
        driver.send("terminate", task="t", kill_at=now() + 3600)
        assert driver.event("probe")["signal"] == signal.SIGTERM
        driver.empty()


def test_stop_probes_cancels_those_of_the_task_only(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for task in ("a", "b"):
            driver.send("probe", **r.probe(f"echo up >../{task}; sleep 8001", id=task, task=task))
            r.wait_for_file(task)
        driver.send("stop_probes", task="a")
        event = driver.event("probe")
        assert (event["id"], event["error"]) == ("a", "cancelled")
        driver.empty("a")
        driver.send("stop_probes", task="b")
        assert driver.event("probe")["id"] == "b"


def test_id_that_is_running_is_not_started_twice(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        os.mkfifo(r.sandbox / "go")
        for _ in range(2):
            driver.send("probe", **r.probe("echo x >>../count; read x <../go"))
        r.wait_for_file("count")
        driver.send("forget", task="t")
        driver.event("error")
        (r.sandbox / "go").write_text("go\n")
        assert driver.event("probe")["code"] == 0
        driver.empty()
        assert (r.sandbox / "count").read_text() == "x\n"


def test_probes_of_a_dead_driver_are_stopped_and_not_told_to_its_successor(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        first.send("probe", **r.probe("echo $$ >../pid; sleep 8001", id="old"))
        pid = int(r.wait_for_file("pid"))
        os.kill(first.pid, signal.SIGKILL)
        second = r.driver()
        wait_until(lambda: gone(pid))
        second.send("probe", **r.probe("true", id="new"))
        second.wait(lambda e: e["ev"] == "probe" and e["id"] == "new")
        told: list[Event] = [e for e in second.events if e["ev"] == "probe" and e["id"] == "old"]
        # Its end may be reported as cancelled; an answer it must not be.
        assert all(e["error"] == "cancelled" for e in told)
