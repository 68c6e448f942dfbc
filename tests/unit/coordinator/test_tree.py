from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.coordinator import linux, tree
from executor_shim.coordinator.tree import Proc, members, parse_stat, roots

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = 100


@contextlib.contextmanager
def sleeper(**popen: Any) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "1001"], **popen)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def table(*procs: Proc) -> dict[int, Proc]:
    return {proc.pid: proc for proc in procs}


@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_stat_is_read_whatever_the_name_holds(name: bytes) -> None:
    tail = b"S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 999 1 2"
    proc = parse_stat(b"42 (" + name + b") " + tail)
    assert (proc.pid, proc.ppid, proc.sid, proc.ticks, proc.threads, proc.state) == (42, 7, 9, 12345, 3, "S")


def test_own_stat_is_read_right() -> None:
    proc = tree.read(os.getpid())
    assert proc is not None
    assert (proc.ppid, proc.sid, proc.lives) == (os.getppid(), os.getsid(0), True)
    with pytest.raises(ValueError, match="not the content"):
        parse_stat(b"nonsense")


def test_zombie_with_running_threads_lives() -> None:
    assert not Proc(1, 1, 1, 1, "Z").lives
    assert Proc(1, 1, 1, 1, "Z", threads=2).lives


def test_roots_are_the_own_children_above_each_process() -> None:
    procs = table(
        Proc(1, 0, 1, 0), Proc(ME, 1, ME, 0), Proc(200, ME, 200, 0), Proc(201, 200, 200, 0), Proc(202, 201, 202, 0),
        Proc(300, ME, 300, 0), Proc(400, 1, 400, 0), Proc(401, 400, 400, 0), Proc(500, 9999, 500, 0),
    )  # fmt: skip
    assert roots(procs, ME) == {200: 200, 201: 200, 202: 200, 300: 300}


@given(st.dictionaries(st.integers(1, 30), st.integers(0, 30), max_size=30))
def test_roots_never_loop_and_agree_with_a_plain_walk(parents: dict[int, int]) -> None:
    procs = {pid: Proc(pid, ppid, pid, 0) for pid, ppid in parents.items()}
    me = 5

    def walk(pid: int) -> int:
        seen = set()
        while pid in parents and pid not in seen and pid not in (me, 0):
            seen.add(pid)
            if parents[pid] == me:
                return pid
            pid = parents[pid]
        return 0

    assert roots(procs, me) == {pid: walk(pid) for pid in procs if pid != me and walk(pid)}


def test_members_by_descent_session_and_marker_but_never_driver_or_self() -> None:
    driver = 150
    procs = table(
        Proc(1, 0, 1, 0), Proc(ME, 1, ME, 0), Proc(driver, ME, driver, 0), Proc(151, driver, 200, 0),
        Proc(200, ME, 200, 0), Proc(201, 200, 201, 0), Proc(202, 200, 200, 0, "Z"),
        Proc(300, ME, 300, 0), Proc(600, 1, 200, 0), Proc(601, 1, 601, 0), Proc(602, 1, 602, 0),
    )  # fmt: skip
    markers = {601: "ours", 602: "another's", 1: "ours", ME: "ours", driver: "ours"}
    foreign: dict[int, int] = {}
    found = members(
        procs,
        ME,
        owned=lambda top: top == 200,
        excluded=(driver,),
        pinned_sids={200},
        markers={"ours"},
        foreign=foreign,
        read_marker=lambda pid: markers.get(pid, ""),
    )
    assert {proc.pid for proc in found} == {200, 201, 600, 601}
    assert set(foreign) == {300, 602}


def test_foreign_process_is_read_once_but_a_new_one_with_its_pid_again() -> None:
    reads: list[int] = []

    def read(pid: int) -> str:
        reads.append(pid)
        return ""

    foreign: dict[int, int] = {}
    for ticks in (1, 1, 2):
        members(table(Proc(600, 1, 600, ticks)), ME, lambda _: False, (), set(), {"m"}, foreign, read)
    assert reads == [600, 600]


def test_signal_reaches_the_process_that_was_meant_and_no_later_one_with_its_pid() -> None:
    with sleeper() as child:
        proc = tree.read(child.pid)
        assert proc is not None
        impostor = Proc(proc.pid, proc.ppid, proc.sid, proc.ticks + 1)
        assert tree.send(impostor, signal.SIGKILL) == ""
        # A SIGKILL that is under way goes before every other signal, so it would be what the child dies of.
        assert tree.send(proc, signal.SIGTERM) == ""
        assert child.wait(20) == -signal.SIGTERM
        assert tree.send(proc, signal.SIGKILL) == ""


def test_marker_is_read_from_the_environment_of_a_process() -> None:
    with sleeper(env={"TRIVET_RUN": "abc", "XTRIVET_RUN": "no"}) as child:
        assert tree.marker_of(child.pid) == "abc"
    with sleeper(env={}) as child:
        assert tree.marker_of(child.pid) == ""
    assert tree.marker_of(2**22 + 1) == ""


def test_own_children_are_listed_with_and_without_kernel_support(monkeypatch: pytest.MonkeyPatch) -> None:
    with sleeper() as child:
        assert child.pid in tree.own_children()
        real = linux.read_file

        def without(path: str) -> bytes:
            if path.endswith("/children"):
                raise FileNotFoundError
            return real(path)

        monkeypatch.setattr(linux, "read_file", without)
        assert child.pid in tree.own_children()
