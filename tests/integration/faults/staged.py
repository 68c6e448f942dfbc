"""A task that goes through every stage of its life, and waits for the test in each."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from tests.integration.faults.processes import start_ticks, wait_until
from tests.integration.faults.stack import SERVICES, Stack
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.faults.launched import LaunchedTask

STAGES = ("starting", "running", "killing", "finalizing")


class StagedTask:
    """STARTING until the test says healthy; RUNNING until it says end; a final process until it says done."""

    def __init__(self, stack: Stack, **launch: Any) -> None:
        self.stack = stack
        self._pid, self._go, self._term, self._end = (stack.gate() for _ in range(4))
        self._fin, self._done = stack.gate(), stack.gate()
        self._healthy = f"{stack.dir}/healthy{id(self)}"
        self.task: LaunchedTask = stack.launch(self._definition(), **launch)
        self.pid = 0
        self.ticks = 0

    def _definition(self) -> dict[str, Any]:
        main = (
            f"trap 'echo term > {self._term.path}; head -n1 {self._end.path}; exit 0' TERM; "
            f"echo $$ > {self._pid.path}; "
            f"head -n1 {self._go.path} & wait $!"
        )
        final = f"echo fin > {self._fin.path}; head -n1 {self._done.path}"
        return {
            "task": {
                "processes": [
                    {"name": "main", "cmdline": main},
                    {"name": "final", "cmdline": final, "final": True},
                ],
            },
            "health_check_config": {
                "health_checker": {"shell": {"shell_command": f"test -e {self._healthy}"}},
                "interval_secs": 0.1,
                "initial_interval_secs": 60,
                "timeout_secs": 5,
            },
        }

    def spawned(self) -> None:
        self.pid = int(self._pid.read())
        self.ticks = start_ticks(self.pid)

    def become_healthy(self) -> None:
        with open(self._healthy, "w"):
            pass

    def end(self) -> None:
        self._go.open()

    def kill(self) -> None:
        assert self.task.kill()

    def terminated(self) -> None:
        assert self._term.read() == "term"

    def obey(self) -> None:
        self._end.open()

    def finalizing(self) -> None:
        assert self._fin.read() == "fin"

    def finalized(self) -> None:
        self._done.open()

    def undisturbed(self) -> None:
        """The main process is the one that was started."""
        assert start_ticks(self.pid) == self.ticks

    def live(self, strike: Callable[[StagedTask], None], stage: str) -> None:
        """The whole life, with `strike` at one stage; asserts that nobody can tell."""
        self.spawned()
        self.task.wait_for("TASK_STARTING")
        if stage == "starting":
            strike(self)
        self.become_healthy()
        self.task.wait_for("TASK_RUNNING")
        if stage == "running":
            strike(self)
        self.undisturbed()
        if stage == "killing":
            self.kill()
            self.terminated()
            strike(self)
            self.undisturbed()
            self.obey()
        else:
            self.end()
        self.finalizing()
        if stage == "finalizing":
            strike(self)
        self.finalized()
        expected = "TASK_KILLED" if stage == "killing" else "TASK_FINISHED"
        assert self.task.wait_end() == expected
        self.check(expected)

    def check(self, expected: str) -> None:
        statuses = self.task.statuses
        assert self.task.states == ["TASK_STARTING", "TASK_RUNNING", expected]
        assert len({status.uuid for status in statuses}) == len(statuses)
        runs = self.task.runs()
        assert {name: len(entries) for name, entries in runs.items()} == {"main": 1, "final": 1}
        assert runs["main"][0].pid == self.pid
        assert runs["final"][0].state == runner_pb2.PROCESS_STATE_SUCCESS


def kill_part(victim: str) -> Callable[[StagedTask], None]:
    """SIGKILL for a service, which a new process replaces, or for the driver, which the coordinator replaces."""

    def strike(staged: StagedTask) -> None:
        if victim in SERVICES:
            staged.stack.restart(victim)
        else:
            os.kill(staged.task.driver(), signal.SIGKILL)

    return strike


def freeze_driver(staged: StagedTask) -> int:
    """SIGSTOP for the driver; returns its pid."""
    pid = staged.task.driver()
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: _stopped(pid), "the driver to stop")
    return pid


def _stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"
