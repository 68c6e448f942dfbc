"""Which processes a destroy finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from services.local_agent.containers.process_tree import (
    Process,
    find_session_leader,
    kill_orphaned_session,
    members,
    read_process,
)


def process(pid: int, parent: int, group: int, session: int) -> Process:
    return Process(pid, parent, group, session, "S", 0)


INIT = process(1, 0, 1, 1)
AGENT = process(50, 1, 50, 50)
ROOT = process(100, 50, 100, 100)


def test_descendants_are_found_in_whatever_session_they_are() -> None:
    table = [INIT, AGENT, ROOT, process(101, 100, 100, 100), process(102, 101, 102, 102), process(103, 102, 102, 102)]
    assert members(table, 100) == {100, 101, 102, 103}


def test_orphans_are_found_by_the_session_of_the_root_or_of_a_living_descendant() -> None:
    table = [INIT, AGENT, ROOT, process(101, 1, 101, 100), process(102, 100, 102, 102), process(103, 1, 103, 102)]
    assert members(table, 100) == {100, 101, 102, 103}


def test_root_that_is_gone_is_found_by_its_session_only() -> None:
    orphan_elsewhere = process(104, 1, 104, 104)
    table = [INIT, AGENT, process(101, 1, 101, 100), process(102, 101, 102, 102), orphan_elsewhere]
    assert members(table, 100) == {101, 102}


def test_bystanders_are_never_found() -> None:
    table = [INIT, AGENT, ROOT, process(60, 50, 50, 50), process(70, 1, 70, 70)]
    assert members(table, 100) == {100}


def test_name_with_blanks_and_parentheses_does_not_confuse_the_reader(tmp_path: object) -> None:
    code = "import ctypes, sys\nctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0)\nprint(flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        row = read_process(child.pid)
        assert row is not None
        assert (row.parent, row.group) == (os.getpid(), os.getpgrp())
        assert row.start_ticks > 0


def test_session_leader_is_found_by_its_environment() -> None:
    marked = {"MARK": f"here-{os.getpid()}"}
    command = ["/bin/sh", "-c", "echo; read line"]
    child = subprocess.Popen(command, env=marked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        found = find_session_leader(f"MARK=here-{os.getpid()}".encode())
        assert found is not None
        assert found.pid == child.pid
        assert find_session_leader(b"MARK=elsewhere") is None


def _orphaned_session(variable: str) -> tuple[Process, int]:
    """A session whose leader has died; returns the leader's row and the pid of a child that lives on."""
    script = "sleep 1002 </dev/null >/dev/null 2>&1 & echo $!; read _"
    leader = subprocess.Popen(
        ["sh", "-c", script],
        env={**os.environ, "MARK": variable},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    row = read_process(leader.pid)
    assert row is not None
    leader.communicate(b"\n", timeout=30)
    return row, child


def test_orphaned_session_is_killed_when_a_member_proves_whose_it_is() -> None:
    leader, child = _orphaned_session("/sandbox/1")
    try:
        assert kill_orphaned_session(leader.pid, leader.start_ticks, b"MARK=/sandbox/2") == set()
        assert kill_orphaned_session(leader.pid, leader.start_ticks, b"MARK=/sandbox") == set()
        left = read_process(child)
        assert left is not None
        assert left.session == leader.pid
        assert kill_orphaned_session(leader.pid, leader.start_ticks, b"MARK=/sandbox/1") == {child}
        ended = read_process(child)
        assert ended is None or ended.state in "ZX"
    finally:
        _kill(child)


def test_number_that_came_to_somebody_else_is_left_alone() -> None:
    stranger = subprocess.Popen(
        ["sh", "-c", "sleep 1003 & echo $!; wait"],
        env={**os.environ, "MARK": "/sandbox/1"},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert stranger.stdout is not None
    child = int(stranger.stdout.readline())
    try:
        row = read_process(stranger.pid)
        assert row is not None
        # Older than the process that has the number now.
        assert kill_orphaned_session(stranger.pid, row.start_ticks - 1, b"MARK=/sandbox/1") == set()
        assert stranger.poll() is None
    finally:
        _kill(child)
        stranger.communicate(timeout=30)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
