"""The agent ends and comes back in the same process."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_FOUND = "--not-found-for"
_UNAVAILABLE = "--unavailable-for"
_STUB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "again.py")


@dataclass(frozen=True)
class Restart:
    """How the agent ends and begins. Durations in seconds."""

    kill: bool
    gap: float
    not_found: float
    unavailable: float


def next_arguments(arguments: Sequence[str], wanted: Restart) -> list[str]:
    """Command line of the next life: this one's, with the phases of its start last, where they win."""
    kept = list(arguments)
    while len(kept) >= 4 and (kept[-4], kept[-2]) == (_NOT_FOUND, _UNAVAILABLE):
        # From the restart before this one, or overruled anyway.
        del kept[-4:]
    return [*kept, _NOT_FOUND, _text(wanted.not_found), _UNAVAILABLE, _text(wanted.unavailable)]


def execute(wanted: Restart) -> NoReturn:
    """Leaves this life at once: every descriptor beyond the standard ones is closed by the kernel, nothing is flushed.

    To be called in the main thread, whose signal mask the next life inherits.

    Raises:
        OSError: The interpreter cannot be executed; the agent is still whole.
    """
    for name in os.listdir("/proc/self/fd"):
        _close_on_exec(int(name))
    # From here on a signal ends the process, as it does in the gap: this life would only note it and be gone.
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    command = [sys.executable, "-I", "-S", _STUB, repr(wanted.gap)]
    try:
        os.execv(sys.executable, [*command, sys.executable, *next_arguments(sys.orig_argv[1:], wanted)])  # noqa: S606 - ourselves
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _close_on_exec(fd: int) -> None:
    if fd <= 2:
        return
    try:
        os.set_inheritable(fd, False)
    except OSError:
        # The one by which the directory was listed.
        return


def _text(seconds: float) -> str:
    """As the flags take it."""
    return f"{round(seconds * 1e9)}ns"
