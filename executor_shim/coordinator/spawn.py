"""Fork and report: the parent's half of starting a process."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` makes an enum of each of 64 signals: 0.1 ms on either side.
import os

from executor_shim.coordinator import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_EVERY_SIGNAL = sorted(_signal.valid_signals())


def spawn(command: child.Command, outputs: tuple[int, int] | None = None) -> tuple[int, int]:
    """Fork a child that becomes `command`. Does not wait for it.

    Args:
        command: what to become.
        outputs: descriptors for its stdout and stderr; None: the command's own files.

    Returns:
        pid, and the read end of a pipe (non-blocking): end of file means that exec has happened, text is the error.

    Raises:
        OSError: no pipe or no process could be had.
    """
    parent = os.getpid()
    child.own_name()
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(read_end, False)
        pid = fork(lambda: child.run(command, write_end, outputs, parent))
    except OSError:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return pid, read_end


def exec_error(pipe: int) -> str | None:
    """Read the pipe of `spawn`: None: nothing yet; empty: exec has happened; else the error.

    A child that dies before exec shows as exec'ed here and as ended by its signal right after.
    """
    try:
        return os.read(pipe, 4096).decode("utf-8", "replace")
    except BlockingIOError:
        return None


def fork(work: Callable[[], NoReturn]) -> int:
    """Fork a child that does `work` with all signals blocked. Returns its pid. Raises OSError."""
    # A signal between fork and the child's own dispositions would write into the parent's wake-up pipe.
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _EVERY_SIGNAL)
    try:
        pid = os.fork()
        if pid == 0:
            work()
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    return pid
