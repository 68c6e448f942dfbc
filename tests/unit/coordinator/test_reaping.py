"""The kernel tells each exit once. Whatever fails between that and the telling, nobody's end gets lost."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from executor_shim.coordinator import tree
from executor_shim.coordinator.child import Command
from executor_shim.coordinator.family import Family
from executor_shim.coordinator.hands import LOST, Hands
from executor_shim.coordinator.logfile import LogRules
from executor_shim.coordinator.poller import Poller
from executor_shim.coordinator.pumps import Pumps
from executor_shim.coordinator.reaper import Reaper
from executor_shim.coordinator.runs import EXITED, FORKED, RUNNING, Run

if TYPE_CHECKING:
    from collections.abc import Callable

# Some tests replace it.
own_children = tree.own_children


class Bench:
    """Hands with real children, and with parts that fail on demand."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int | None, int | None]] = []
        self.emptied: list[str] = []
        self.failures = 0
        self.family = Family()
        poller = Poller()
        self.pumps = Pumps(poller, self._flushed, lambda _line: None)
        self.hands = Hands(
            self.family,
            poller,
            self.pumps,
            self._tell,
            lambda _task: False,
            lambda _task, _pid: None,
        )
        self.reaper = Reaper(
            self.hands,
            self.family,
            self.pumps,
            lambda _task: False,
            lambda _task, _pid: None,
            lambda _probe: None,
            self._emptied,
        )

    def _flushed(self, run: Run) -> None:
        self.reaper.flushed(run)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise MemoryError

    def _tell(self, event: dict[str, Any]) -> None:
        self._fail()
        run = event["run"]
        self.told.append((run["state"], run["code"], event["alive"]))

    def _emptied(self, task: str, *, told: bool) -> None:  # noqa: ARG002 - it only saves the driver a message
        self._fail()
        self.emptied.append(task)

    def run(self, pid: int, process: str = "p", task: str = "t") -> Run:
        run = Run(task, process, 0, f"marker-{pid:016x}", 0.0)
        run.pid, run.state = pid, RUNNING
        self.hands.task(task).runs[process, 0] = run
        self.family.born(run)
        return run


def dead_child(code: int = 0) -> int:
    """A child that has ended and is not reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def sleeping_child() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def alone(test: Callable[[Bench], None]) -> None:
    """Do a test in a fork: hands reap every child that there is, and others' are not theirs."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            test(Bench())
        except BaseException:  # noqa: BLE001 - it is told, and nothing may unwind into pytest
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            for child in own_children():
                os.kill(child, signal.SIGKILL)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read().decode()
    os.waitpid(pid, 0)
    assert not failure, failure


def no_descriptors_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of children cannot be read the first time."""
    real, left = tree.own_children, [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

    def own_children() -> list[int]:
        if left:
            raise left.pop()
        return real()

    monkeypatch.setattr(tree, "own_children", own_children)


def test_exits_of_runs_and_driver_outlive_a_look_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    no_descriptors_once(monkeypatch)

    def test(bench: Bench) -> None:
        bench.run(dead_child(7))
        driver = bench.reaper.driver = dead_child(3)
        with pytest.raises(OSError, match="open files"):
            bench.reaper.reap()
        assert bench.reaper.unfinished
        assert bench.reaper.reap() == (driver, 3, 0)
        assert (bench.told, bench.emptied) == ([("exited", 7, 0)], ["t"])
        assert not bench.reaper.unfinished
        assert bench.reaper.reap() is None

    alone(test)


@pytest.mark.parametrize("failures", [1, 2, 3, 4])
def test_exits_are_told_again_when_telling_fails(failures: int) -> None:
    def test(bench: Bench) -> None:
        bench.run(dead_child(1), "a", "t")
        bench.run(dead_child(2), "b", "u")
        driver = bench.reaper.driver = dead_child(3)
        bench.failures = failures
        ends = []
        for _ in range(failures):
            with pytest.raises(MemoryError):
                ends.append(bench.reaper.reap())
            assert bench.reaper.unfinished
        ends.append(bench.reaper.reap())
        assert ends == [(driver, 3, 0)]
        assert sorted(bench.told) == [("exited", 1, 0), ("exited", 2, 0)]
        assert sorted(bench.emptied) == ["t", "u"]
        assert not bench.reaper.unfinished

    alone(test)


def test_an_exit_whose_output_cannot_be_asked_for_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(bench: Bench) -> None:
        def flush(_run: Run, _now: float) -> bool:
            raise MemoryError

        monkeypatch.setattr(bench.pumps, "flush", flush)
        bench.run(dead_child(7))
        with pytest.raises(MemoryError):
            bench.reaper.reap()
        assert bench.reaper.unfinished
        bench.reaper.reap()
        assert (bench.told, bench.emptied) == ([("exited", 7, 0)], ["t"])

    alone(test)


def test_a_run_whose_pipe_was_never_watched_still_ends() -> None:
    def test(bench: Bench) -> None:
        run = bench.run(dead_child(7))
        run.state = FORKED
        bench.reaper.reap()
        assert (bench.told, run.state) == ([("exited", 7, 0)], EXITED)

    alone(test)


def pump_of(bench: Bench, run: Run) -> int:
    """Starts a real pump. Returns its pid."""
    command = Command(
        argv=[b"true"],
        env={},
        cwd=b"",
        user="",
        sandbox=b"/",
        logging=LogRules(console=False, limit=1 << 20, backups=1),
    )
    for end in bench.pumps.open(run, command):
        os.close(end)
    (pid,) = bench.pumps.pids
    return pid


def test_a_pump_that_is_dead_and_not_reaped_holds_up_nobody() -> None:
    def test(bench: Bench) -> None:
        pid = pump_of(bench, bench.run(sleeping_child()))
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # As when it dies after the last look for ended children: that is its own signal's turn.
        bench.pumps.look_for_stopped(0.0)
        assert bench.pumps.pids == {pid}
        bench.reaper.reap()
        assert not bench.pumps.pids

    alone(test)


def test_a_stopped_pump_is_killed() -> None:
    def test(bench: Bench) -> None:
        pid = pump_of(bench, bench.run(sleeping_child()))
        bench.pumps.look_for_stopped(0.0)
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        bench.pumps.look_for_stopped(0.0)
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert status is not None
        assert status.si_status == signal.SIGKILL

    alone(test)


def test_a_pump_whose_status_somebody_else_got_counts_as_dead() -> None:
    def test(bench: Bench) -> None:
        pid = pump_of(bench, bench.run(sleeping_child()))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        bench.pumps.look_for_stopped(0.0)
        assert not bench.pumps.pids

    alone(test)


def test_children_whose_status_somebody_else_got_are_lost_but_told() -> None:
    def test(bench: Bench) -> None:
        run, driver = bench.run(dead_child(0)), dead_child(0)
        bench.reaper.driver = driver
        os.waitpid(run.pid, 0)
        os.waitpid(driver, 0)
        # Found by a look that is not for reaping: it is told all the same.
        bench.reaper.look_for_orphans()
        assert bench.reaper.unfinished
        assert bench.reaper.reap() == (driver, -1, 0)
        assert (bench.told, run.error) == ([("exited", None, 0)], LOST)
        assert bench.emptied == ["t"]

    alone(test)


def test_of_a_driver_that_is_reaped_the_number_is_forgotten() -> None:
    def test(bench: Bench) -> None:
        driver = bench.reaper.driver = dead_child(5)
        assert bench.reaper.reap() == (driver, 5, 0)
        assert bench.reaper.driver == 0
        # A process that gets the same number is an orphan like any other.
        assert driver not in bench.reaper.helpers()

    alone(test)
