"""Drivers die, freeze and talk nonsense; tasks do not notice."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.coordinator.rig import PATIENCE, gone, now, rig, wait_until
from tests.integration.ready import writable


def test_killed_driver_is_replaced_and_its_successor_told_everything(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        first.send("start", **r.command("exit 5", process="done"))
        first.run_event("exited", process="done")
        first.send("start", **r.command("sleep 1001"))
        pid = first.run_event("running")["run"]["pid"]
        limit = now() + 3600
        first.send("hard", task="t", at=limit)
        os.write(first.state_fds[0], b"remember")
        os.kill(first.pid, signal.SIGKILL)
        second = r.driver()
        state = second.event("state")
        assert second.events[0] is state
        assert state["generation"] == 2
        assert second.option("--generation") == "2"
        assert second.option("--incarnation") == first.option("--incarnation") == state["incarnation"]
        task = state["tasks"]["t"]
        runs = {run["process"]: run for run in task["runs"]}
        assert runs["done"]["code"] == 5
        assert (runs["p"]["state"], runs["p"]["pid"]) == ("running", pid)
        assert task["alive"] == 1
        assert task["hard"] == pytest.approx(limit)
        assert os.pread(second.state_fds[0], 100, 0) == b"remember"
        assert not gone(pid)
        second.send("terminate", task="t", kill_at=now())
        second.empty()


def test_exit_while_no_driver_lives_is_remembered(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        os.mkfifo(r.sandbox / "go")
        first.send("start", **r.command("read x <../go; exit 13"))
        pid = first.run_event("running")["run"]["pid"]
        os.kill(first.pid, signal.SIGKILL)
        (r.sandbox / "go").write_text("go\n")
        wait_until(lambda: gone(pid))
        second = r.driver()
        assert second.event("state")["tasks"]["t"]["runs"][0]["code"] in (13, None)
        second.send("start", **r.command("not started again"))
        assert second.run_event("exited")["run"]["code"] == 13


def test_complete_commands_of_a_dead_driver_are_carried_out_and_half_ones_are_not(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        first.event("state")
        os.kill(r.pid, signal.SIGSTOP)
        first.send("start", **r.command("echo whole >../whole"))
        first.channel.socket.sendmsg([b"\0\0\1\0" + b'{"op":"start"'])
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: gone(first.pid))
        os.kill(r.pid, signal.SIGCONT)
        second = r.driver()
        assert r.wait_for_file("whole") == "whole\n"
        second.send("start", **r.command("known by now"))
        assert second.run_event("exited")["run"]["code"] == 0


def test_silent_driver_is_killed_and_replaced(tmp_path: Path) -> None:
    with rig(tmp_path, "--beat-timeout", "0.5") as r:
        first = r.driver()
        first.event("state")
        os.kill(first.pid, signal.SIGSTOP)
        second = r.driver()
        assert gone(first.pid)
        assert second.event("state")["generation"] == 2


def test_coordinator_that_was_frozen_itself_does_not_blame_the_driver(tmp_path: Path) -> None:
    with rig(tmp_path, "--beat-timeout", "6") as r:
        driver = r.driver()
        driver.event("state")
        os.kill(r.pid, signal.SIGSTOP)
        end = now() + 7.5
        # Waiting for a clock is the point here: only time that passes can be too long.
        wait_until(lambda: now() > end)
        os.kill(r.pid, signal.SIGCONT)
        # Without a word from us: only so it is the coordinator's own insight.
        while [event["ev"] for event in driver.events].count("beat") < 2 and not driver.channel.eof:
            driver.read(0.5)
        driver.send("start", **r.command("true"))
        driver.run_event("exited")
        assert not gone(driver.pid)


def test_stream_descriptor_is_kept_and_handed_to_the_next_driver(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        assert first.option("--stream-fd") == "-1"
        ours, theirs = socket.socketpair()
        older, older_theirs = socket.socketpair()
        first.send("stream", fd=older_theirs.fileno())
        first.send("stream", fd=theirs.fileno())
        older_theirs.close()
        theirs.close()
        # The first one is closed as soon as the second one has come.
        older.settimeout(PATIENCE)
        assert older.recv(1) == b""
        ours.sendall(b"sent while no driver reads")
        os.kill(first.pid, signal.SIGKILL)
        second = r.driver()
        assert os.read(second.stream_fd, 100) == b"sent while no driver reads"
        # Twice: what is handed over stays with the coordinator.
        os.kill(second.pid, signal.SIGKILL)
        third = r.driver()
        ours.sendall(b"again")
        assert os.read(third.stream_fd, 100) == b"again"
        ours.close()
        older.close()


def test_driver_that_exits_unasked_is_replaced_even_with_code_0(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        r.driver().exit(0)
        assert r.driver().option("--generation") == "2"


def test_driver_that_speaks_out_of_step_is_replaced(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        first.event("state")
        first.channel.socket.sendmsg([b"\xff\xff\xff\xff nonsense"])
        assert r.driver().option("--generation") == "2"
        assert gone(first.pid)


def test_driver_that_reads_nothing_is_replaced_before_it_fills_the_memory(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        first.event("state")
        sent = 0
        # Each known run key is answered; the answers are never read.
        first.send("start", **r.command("x", argv=["/no/such"], process="p" * 100_000))
        while not gone(first.pid):
            first.send("start", **r.command("x", argv=["/no/such"], process="p" * 100_000))
            sent += 1
            assert sent < 2000
            while first.channel.pending > 1 << 20 and not gone(first.pid):
                writable(first.channel, 0.1)
                first.channel.flush()
        second = r.driver()
        assert len(second.event("state")["tasks"]["t"]["runs"]) == 1


def test_driver_that_dies_again_and_again_ends_everything(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        first = r.driver()
        first.send("start", **r.command("trap '' TERM; setsid sleep 1001 & sleep 1002; true"))
        pid = first.run_event("running")["run"]["pid"]
        first.exit(1)
        for _ in range(9):
            r.driver().exit(1)
        assert r.process.wait(PATIENCE) == 1
        assert gone(pid)


def test_token_reaches_every_driver_and_nobody_elses_environment(tmp_path: Path) -> None:
    secret = "eyJhbGciOiJIUzI1NiJ9.top.secret"
    with rig(tmp_path, env={"MESOS_EXECUTOR_AUTHENTICATION_TOKEN": secret}) as r:
        first = r.driver()
        assert os.pread(first.token_fd, 1000, 0) == secret.encode()
        first.send("start", **r.command("env; cat /proc/$PPID/environ; sleep 1001"))
        first.run_event("running")
        for pid in r.ours():
            assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
            assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        os.kill(first.pid, signal.SIGKILL)
        second = r.driver()
        assert os.pread(second.token_fd, 1000, 0) == secret.encode()
        assert secret not in r.log.read_text()
        second.send("terminate", task="t", kill_at=now())
        second.empty()
        assert secret not in r.stdout()
