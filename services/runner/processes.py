"""One run of one process: its states, which may follow which, and what the hands' record of it means.

(Thermos: process state machine.)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from services.runner.plan import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping


class ProcessState(enum.IntEnum):
    """Numbers of trivet.runner.v1.ProcessState."""

    WAITING = 1
    FORKED = 2
    RUNNING = 3
    SUCCESS = 4
    FAILED = 5
    KILLED = 6
    LOST = 7


class HandsState(enum.IntEnum):
    """Numbers of trivet.link.v1.RunState."""

    FORKED = 1
    RUNNING = 2
    EXITED = 3
    NOT_STARTED = 4


LIVING = frozenset({HandsState.FORKED, HandsState.RUNNING})
_S = ProcessState
# To -> from. None: there was no such run. The next run of a process begins at WAITING once its last one has ended.
TRANSITIONS: Mapping[ProcessState, frozenset[ProcessState | None]] = MappingProxyType(
    {
        _S.WAITING: frozenset({None}),
        _S.FORKED: frozenset({_S.WAITING}),
        _S.RUNNING: frozenset({_S.FORKED}),
        _S.SUCCESS: frozenset({_S.RUNNING}),
        # FORKED: exec was never reached, the hands say which step failed.
        _S.FAILED: frozenset({_S.FORKED, _S.RUNNING}),
        # FORKED: the task was ended before the start reached the hands.
        _S.KILLED: frozenset({_S.FORKED, _S.RUNNING}),
        _S.LOST: frozenset({_S.FORKED, _S.RUNNING}),
    }
)
ENDED: Mapping[ProcessState, Outcome] = MappingProxyType(
    {
        _S.SUCCESS: Outcome.SUCCESS,
        _S.FAILED: Outcome.FAILED,
        _S.KILLED: Outcome.KILLED,
        _S.LOST: Outcome.LOST,
    }
)
OPEN = frozenset({_S.FORKED, _S.RUNNING})


class IllegalTransition(Exception):
    """A record says what cannot be: the journal is not one of this task."""


class Exit(NamedTuple):
    """How a process ended: one of the two is set, or neither when it is not known."""

    code: int | None = None
    signal: int | None = None
    core_dumped: bool = False

    def __str__(self) -> str:
        if self.code is not None:
            return f"exit code {self.code}"
        if self.signal is not None:
            return f"signal {self.signal}{' (core dumped)' if self.core_dumped else ''}"
        return "exit status unknown"


@dataclass(slots=True)
class Run:
    """One run of one process. Times are wall clock seconds, for showing only; 0: not yet."""

    process: str
    # Counted from 0 for each process, as in the names of the log directories.
    run: int
    state: ProcessState = ProcessState.WAITING
    pid: int = 0
    start_ticks: int = 0
    exit: Exit | None = None
    error: str = ""
    waiting_at: float = 0.0
    forked_at: float = 0.0
    running_at: float = 0.0
    ended_at: float = 0.0
    # When the start was recorded, CLOCK_BOOTTIME; 0: not yet.
    forked_boot: float = 0.0


class HandsRun(NamedTuple):
    """What the hands know of one run (trivet.link.v1.Run)."""

    process: str
    run: int
    state: int
    pid: int = 0
    start_ticks: int = 0
    exit: Exit | None = None
    error: str = ""
    forked_at: float = 0.0
    exited_at: float = 0.0


class Change(NamedTuple):
    """One transition of one run, to be recorded."""

    state: ProcessState
    exit: Exit | None = None
    error: str = ""


def check(before: ProcessState | None, after: ProcessState) -> None:
    """Refuses a transition that the table does not have.

    Raises:
        IllegalTransition: Names both states.
    """
    if before not in TRANSITIONS[after]:
        raise IllegalTransition(f"{'nothing' if before is None else before.name} -> {after.name}")


def check_next(newest: Run | None, number: int, *, found: bool) -> None:
    """Refuses a new run that cannot follow the newest one of its process.

    Args:
        newest: None: there was no run.
        number: Of the new run.
        found: The hands had it: they do not keep the records of old runs, so numbers may be missing before it.

    Raises:
        IllegalTransition: The newest run has not ended, or the number is not the next one.
    """
    if newest is not None and newest.state not in ENDED:
        raise IllegalTransition(f"run {number} begins while run {newest.run} is {newest.state.name}")
    following = 0 if newest is None else newest.run + 1
    if number < following or (number > following and not found):
        raise IllegalTransition(f"run {number} where run {following} is the next")


def exit_change(exit_: Exit | None, error: str) -> Change:
    """What an ended process has come to. A lost exit status is LOST, never success (Thermos: LOST)."""
    if exit_ is None or (exit_.code is None and exit_.signal is None):
        return Change(ProcessState.LOST, None, error or "exit status lost")
    if exit_.signal is not None:
        return Change(ProcessState.KILLED, exit_, error)
    return Change(ProcessState.SUCCESS if exit_.code == 0 else ProcessState.FAILED, exit_, error)


def changes(before: ProcessState | None, seen: HandsRun) -> list[Change]:
    """Transitions that lead from our record of a run to what the hands know of it.

    The hands tell whole states, so steps may be missing and old news may come again: every missing step is recorded,
    and nothing ever goes back.
    """
    try:
        state = HandsState(seen.state)
    except ValueError:
        # A newer driver's state that we do not know; the next message will have one that we do.
        return []
    if before in ENDED:
        return []
    if state is HandsState.FORKED:
        last: list[Change] = []
    elif state is HandsState.RUNNING:
        last = [Change(ProcessState.RUNNING)]
    elif state is HandsState.NOT_STARTED:
        last = [Change(ProcessState.FAILED, None, seen.error or "could not be started")]
    else:
        last = [Change(ProcessState.RUNNING), exit_change(seen.exit, seen.error)]
    path = [Change(ProcessState.WAITING), Change(ProcessState.FORKED), *last]
    rank = 0 if before is None else int(before)
    return [change for change in path if change.state > rank]
