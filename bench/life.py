"""How fast a task goes through its life.

The moment of exec comes from the kernel where that is allowed (root). Otherwise, and for the end, a process tells its
own moments: bash's EPOCHREALTIME, written as its first or last command; the millisecond of its start then counts.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tests.integration.faults.processes import wait_dead

if TYPE_CHECKING:
    from bench.execs import ExecWatch
    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.parts import Gate
    from tests.integration.faults.stack import Stack


# Between rounds, so that the end of one does not compete with the start of the next.
SETTLE_SECS = 0.1


def settle() -> None:
    """Lets the stack and the agent come to rest."""
    threading.Event().wait(SETTLE_SECS)


def monotonic_of(epoch: str) -> float:
    """CLOCK_MONOTONIC of a bash EPOCHREALTIME."""
    return float(epoch.replace(",", ".")) - (time.time() - time.monotonic())


def process(command: str, name: str = "p", **fields: Any) -> dict[str, Any]:
    """A process of a task."""
    return {"name": name, "cmdline": command, **fields}


def task(*processes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A task of these processes."""
    return {"processes": list(processes), **fields}


class Anchor:
    """A long-lived task whose executor is there already when others are launched into it."""

    def __init__(self, stack: Stack, executor: str) -> None:
        self.stack = stack
        self.executor = executor
        self.task = stack.launch(task(process("exec sleep 3600")), executor=self.executor)
        self.task.wait_for("TASK_RUNNING")

    def launch(self, definition: dict[str, Any], *, watch: bool = True) -> LaunchedTask:
        """Another task in the same executor."""
        return self.stack.launch(definition, executor=self.executor, watch=watch)

    def end(self) -> None:
        """Ends the executor."""
        coordinator = self.task.coordinator()
        self.task.kill()
        self.task.wait_end()
        wait_dead(coordinator)


def started(gate: Gate, watch: ExecWatch | None) -> float:
    """CLOCK_MONOTONIC of the exec of a process that has written its pid and its first moment to the gate."""
    pid, moment = gate.read().split()
    seen = watch.first_exec(int(pid)) if watch is not None else None
    return monotonic_of(moment) if seen is None else seen


def launch_to_exec(anchor: Anchor, gate: Gate, watch: ExecWatch | None) -> float:
    """Seconds from LAUNCH on the wire to the exec of the process."""
    settle()
    # Nobody watches yet: what the watcher costs is not the executor's time.
    launched = anchor.launch(task(process(f"echo $$ $EPOCHREALTIME > {gate.path}")), watch=False)
    at = started(gate, watch)
    launched.watch()
    launched.wait_end()
    return at - launched.launch_written_at


def exit_to_update(anchor: Anchor, gate: Gate) -> float:
    """Seconds from the last command of the process to the terminal UPDATE at the agent."""
    settle()
    launched = anchor.launch(task(process(f"sleep 0.05; echo $EPOCHREALTIME > {gate.path}")))
    launched.wait_end()
    return launched.received_at[-1] - monotonic_of(gate.read())


def chain(anchor: Anchor, length: int) -> float:
    """Seconds from LAUNCH to TASK_FINISHED of a chain of `true`."""
    names = [f"p{i}" for i in range(length)]
    definition = task(*(process("true", name) for name in names), constraints=[{"order": names}])
    settle()
    launched = anchor.launch(definition)
    launched.wait_end()
    return launched.received_at[-1] - launched.launch_written_at


def parallel(anchor: Anchor, count: int) -> float:
    """Seconds from LAUNCH to TASK_FINISHED of `true`, `count` times side by side."""
    settle()
    launched = anchor.launch(task(*(process("true", f"p{i}") for i in range(count))))
    state = launched.wait_end()
    if state != "TASK_FINISHED":
        raise RuntimeError(f"{count} processes side by side: {state}")
    return launched.received_at[-1] - launched.launch_written_at


def handover(anchor: Anchor, gate: Gate, watch: ExecWatch | None) -> float:
    """Seconds from the end of a process to the fork of the one that waits for it.

    Without a watch: from the last command of the one to the first of the other.
    """
    first = process(f"sleep 0.05; echo $$ $EPOCHREALTIME > {gate.path}", "first")
    second = process(f"echo $$ $EPOCHREALTIME > {gate.path}", "second")
    settle()
    if watch is not None:
        watch.forget()
    launched = anchor.launch(task(first, second, constraints=[{"order": ["first", "second"]}]), watch=False)
    (one, ended), (other, begun) = gate.read().split(), gate.read().split()
    seen = watch.exit_to_fork(int(one), int(other)) if watch is not None else None
    launched.watch()
    launched.wait_end()
    if watch is None:
        return monotonic_of(begun) - monotonic_of(ended)
    if seen is None:
        raise RuntimeError(f"exit of {one} or fork of {other} was not seen")
    return seen


def kill_to_update(anchor: Anchor) -> float:
    """Seconds from KILL on the wire to TASK_KILLED at the agent; the process obeys SIGTERM."""
    launched = anchor.launch(task(process("exec sleep 3600")))
    launched.wait_for("TASK_RUNNING")
    settle()
    launched.kill()
    launched.wait_end()
    return launched.received_at[-1] - launched.kill_written_at()


def cold_start(stack: Stack, gate: Gate, watch: ExecWatch | None) -> tuple[float, float]:
    """Seconds from the executor's launch to SUBSCRIBE at the agent, and to the exec of the first process."""
    settle()
    launched = stack.launch(task(process(f"echo $$ $EPOCHREALTIME > {gate.path}")))
    at = started(gate, watch)
    executor = launched.executor()
    launched.wait_end()
    wait_dead(executor.pid)
    return executor.subscribed_at - executor.launched_at, at - executor.launched_at
