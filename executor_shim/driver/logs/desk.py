"""The readers of logs that the runner has asked for: one piece at a time each, and only when it was asked for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from executor_shim.driver.aside import aside
from executor_shim.driver.logs.cursor import PIECE_BYTES, Cursor
from executor_shim.driver.logs.files import LogMissing, LogRefused
from executor_shim.driver.logs.watch import NoWatch, Watches
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.driver.logs.cursor import Piece

_LOG = logging.getLogger(__name__)
# At the same time, those included that hang on a disk.
MAX_READERS = 32
# Seconds in which more is collected when a process writes again after a silence.
GATHER_SECS = 0.05

_ERRORS: dict[type[Exception], runner_pb2.LogError] = {
    LogMissing: runner_pb2.LOG_ERROR_MISSING,
    LogRefused: runner_pb2.LOG_ERROR_REFUSED,
    NoWatch: runner_pb2.LOG_ERROR_BUSY,
}


class LogDesk:
    """All readers of one stream to the runner."""

    def __init__(self, sandbox: str, send: Callable[[runner_pb2.LogPiece], None], on_idle: Callable[[], None]) -> None:
        """`on_idle` is called when the last reader has ended."""
        self._sandbox = sandbox
        self._send = send
        self._on_idle = on_idle
        self._watches = Watches()
        self._readers: dict[int, _Reader] = {}
        self._working: set[asyncio.Task[None]] = set()

    def open(self, order: runner_pb2.OpenLog, is_over: Callable[[], bool]) -> None:
        """Begins to read; `is_over` tells whether the run has ended."""
        if len(self._working) >= MAX_READERS:
            detail = f"{MAX_READERS} logs of this executor are being read"
            answer = runner_pb2.LogPiece(key=order.key, id=order.id, error=runner_pb2.LOG_ERROR_BUSY, detail=detail)
            self._send(answer)
            return
        reader = _Reader(order, Cursor(self._sandbox, order.path), self._watches, is_over)
        self._readers[order.id] = reader
        work = asyncio.ensure_future(self._serve(reader))
        self._working.add(work)
        work.add_done_callback(self._done)

    def next(self, number: int) -> None:
        """The reader may send one more piece."""
        if (reader := self._readers.get(number)) is not None:
            reader.wanted.set()

    def close(self, number: int) -> None:
        """Nobody reads any more."""
        if (reader := self._readers.pop(number, None)) is not None:
            reader.stop()

    @property
    def reading(self) -> bool:
        """Somebody reads."""
        return bool(self._readers)

    def close_all(self) -> None:
        """The stream is gone, and with it everybody who reads."""
        for number in list(self._readers):
            self.close(number)

    def look(self) -> None:
        """Runs have changed: who waits for the end of one looks again."""
        for reader in self._readers.values():
            reader.news.set()

    async def _serve(self, reader: _Reader) -> None:
        order = reader.order
        try:
            await reader.begin()
            while (piece := await reader.piece()) is not None:
                self._send(runner_pb2.LogPiece(key=order.key, id=order.id, piece=piece))
                if piece.eof:
                    break
        except (LogMissing, LogRefused, NoWatch, OSError) as error:
            code = _ERRORS.get(type(error), runner_pb2.LOG_ERROR_FAILED)
            self._send(runner_pb2.LogPiece(key=order.key, id=order.id, error=code, detail=str(error)))
        finally:
            reader.close()
        # The last piece may still be on its way: until the runner has it, somebody reads.
        await reader.stopped.wait()
        if not self._readers:
            self._on_idle()

    def _done(self, work: asyncio.Task[None]) -> None:
        self._working.discard(work)
        if not self._working:
            self._watches.close()
        if not work.cancelled() and (error := work.exception()) is not None:
            _LOG.error("reading a log failed", exc_info=error)


class _Reader:
    """One log that is read. Never cancelled: a thread may still hold its descriptors."""

    def __init__(
        self, order: runner_pb2.OpenLog, cursor: Cursor, watches: Watches, is_over: Callable[[], bool]
    ) -> None:
        self.order = order
        self.wanted = asyncio.Event()
        self.wanted.set()
        self.news = asyncio.Event()
        self._cursor = cursor
        self._watches = watches
        self._is_over = is_over
        self.stopped = asyncio.Event()
        self._left = order.limit or (1 << 63)

    def stop(self) -> None:
        """Ends `piece` as soon as that is possible."""
        self.stopped.set()
        self.wanted.set()
        self.news.set()

    def close(self) -> None:
        """After the last `piece`."""
        self._watches.disarm(self.news)
        self._cursor.close()

    async def begin(self) -> None:
        """Opens the log. Raises LogMissing, LogRefused, OSError."""
        order, cursor = self.order, self._cursor
        await aside(lambda: cursor.open(file=order.file, offset=order.offset, tail_lines=order.tail_lines))

    async def piece(self) -> runner_pb2.ReadLogResponse | None:
        """Waits until one is wanted and there is one; None: stopped. Raises NoWatch, OSError."""
        await self.wanted.wait()
        self.wanted.clear()
        watching = False
        while not self.stopped.is_set():
            # Asked before reading: what was written before the end is read then.
            over = self._is_over()
            piece = await aside(self._cursor.read, min(self._left, PIECE_BYTES))
            if not piece.at_end or over or not self.order.follow:
                self._left -= len(piece.data)
                return self._response(piece)
            if watching:
                await self.news.wait()
                if not self._is_over():
                    # More is likely to come at once: collected, it makes fewer pieces.
                    await asyncio.sleep(GATHER_SECS)
                watching = False
            else:
                # And read once more: it may have come between the two.
                self.news.clear()
                self._watches.arm(self._cursor.fd, self._cursor.directory, self.news)
                watching = True
        return None

    def _response(self, piece: Piece) -> runner_pb2.ReadLogResponse:
        return runner_pb2.ReadLogResponse(
            data=piece.data,
            offset=piece.offset,
            file=piece.file,
            event=runner_pb2.LogEvent.Name(piece.event),
            eof=piece.at_end or self._left <= 0,
            run=self.order.run,
        )
