"""Processes of the stack: started, watched, started again when they die, stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from services.cli.waiting import first, within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Asks the kernel for SIGTERM when the parent dies, so that a killed `trivet` leaves nothing behind, then becomes the
# process itself. Not a preexec_fn: that would fork this process, which has gRPC's threads.
_TIED = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
_BACKOFF_SECS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# A process that lived this long has started well: its next death is a new story.
_GOOD_LIFE_SECS = 10.0
_MAX_EARLY_DEATHS = 5
_STOP_SECS = 10.0
_TAIL_BYTES = 2000


class StackFailed(Exception):
    """A process of the stack cannot be kept running; the text says which, and shows the end of its log."""


class Child:
    """One process of the stack, `python -m MODULE`, with its log file.

    It is started again when it dies: at once, then after growing pauses. One that dies five times before it was ever
    `ready` has failed for good.
    """

    def __init__(self, module: str, argv: Sequence[str], *, log: str, note: Callable[[str], None]) -> None:
        self.name = module.rpartition(".")[2].replace("_", " ")
        self.ready = False
        # -P: a directory `services` where the user stands is not ours.
        self._argv = [sys.executable, "-P", "-m", module, *argv]
        self._log = log
        self._note = note
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._in_order = False

    def start(self) -> asyncio.Task[None]:
        """Starts the process and keeps it running until `stop`.

        Returns:
            What ends when it is stopped, with StackFailed when the process does not start.
        """
        self._keeper = asyncio.create_task(self._keep(), name=self.name)
        return self._keeper

    async def stop(self) -> bool:
        """Sends SIGTERM and waits; SIGKILL after 10 s.

        Returns:
            The process ended in order, with exit status 0.
        """
        self._stopping.set()
        if self._keeper is not None:
            await asyncio.gather(self._keeper, return_exceptions=True)
        return self._in_order

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._stopping.is_set():
            started = loop.time()
            process = await self._spawn()
            await first(process.wait(), self._stopping.wait())
            if self._stopping.is_set():
                await self._end(process)
                return
            deaths = 1 if loop.time() - started > _GOOD_LIFE_SECS else deaths + 1
            how = _describe(await process.wait())
            if not self.ready and deaths >= _MAX_EARLY_DEATHS:
                raise StackFailed(f"{self.name} does not start: {how}; {self._log} ends with:\n{tail(self._log)}")
            pause = _BACKOFF_SECS[min(deaths, len(_BACKOFF_SECS)) - 1]
            self._note(f"{self.name} died ({how}), it is started again" + (f" in {pause:g} s" if pause else ""))
            await within(pause, self._stopping.wait())

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        # One that somebody has stopped hears of SIGTERM only when it goes on.
        _signal(process, signal.SIGTERM, signal.SIGCONT)
        if not await within(_STOP_SECS, process.wait()):
            self._note(f"{self.name} does not stop, it is killed")
            _signal(process, signal.SIGKILL)
        self._in_order = await process.wait() == 0

    async def _spawn(self) -> asyncio.subprocess.Process:
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # A session of its own: the terminal's Ctrl-C is for this process alone, which then stops in order.
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *self._argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)


def _signal(process: asyncio.subprocess.Process, *signals: signal.Signals) -> None:
    """Not through asyncio: its `send_signal` looks for the exit status first, and takes it from who waits for it."""
    if process.returncode is not None:
        return
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        for number in signals:
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        # It has ended meanwhile.
        pass
    finally:
        os.close(pidfd)


def _describe(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def tail(path: str) -> str:
    """The last lines of a log file."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"
