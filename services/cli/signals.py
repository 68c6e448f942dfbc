"""From which moment on an interrupt means what: nothing between two of them, and never a traceback.

| until                                   | an interrupt                                             |
|-----------------------------------------|----------------------------------------------------------|
| the command's modules are imported      | ends the process: nothing was begun                      |
| the event loop is made                  | KeyboardInterrupt: what was begun is taken back          |
| somebody in the loop handles signals    | waits until then (`held_back`, `let_in`)                 |
| the command is over                     | is what the command makes of it                          |
| the interpreter is gone                 | nothing (`let_go`, `ignore`)                             |
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = 130
"""Exit status, as a shell says it of SIGINT."""

LINE = "trivet: interrupted\n"

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """An interrupt ends the process with `LINE`. For imports: an exception could fall into anything there."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(_number: int, _frame: object) -> NoReturn:
    os.write(2, LINE.encode())
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Around `asyncio.run`: the signals that end a command wait until `let_in`, and are not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_in() -> None:
    """In the loop, before it starts anything: there are handlers for what was held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def let_go() -> None:
    """In the loop, as its last step: it would be closing its pipe for signals while they still come."""
    # Not above: the first steps of a command should be quick.
    import asyncio

    loop = asyncio.get_running_loop()
    for signum in ENDING:
        loop.remove_signal_handler(signum)
    ignore()


def ignore() -> None:
    """The command is over, and its exit status stands."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
