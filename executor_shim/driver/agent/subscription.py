"""The event stream: subscribing, reading, adopting, re-subscribing.

Each piece of the stream is recorded before it is taken from the socket, and each event is marked before and after it is
handled, so that the next driver knows what this one was busy with when it died.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from executor_shim.driver.agent import cadence
from executor_shim.driver.agent.adoption import peek
from executor_shim.driver.agent.cadence import Answer
from executor_shim.driver.agent.wire import subscribe_call

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from executor_shim.driver.agent.endpoint import Endpoint
    from executor_shim.driver.environment import Environment
    from executor_shim.driver.state.book import Book

_LOG = logging.getLogger(__name__)
# Drivers that may die on one event before it is skipped.
MAX_ATTEMPTS = 3


class Listener(Protocol):
    """What happens on the stream."""

    def on_event(self, record: bytes) -> None:
        """A serialised Event."""

    def on_poison(self, record: bytes, attempts: int) -> None:
        """An event that several drivers have died on: it is skipped."""

    def on_subscribed(self) -> None:
        """The agent takes calls; the lists of the SUBSCRIBE have reached it."""

    def on_stream_lost(self) -> None:
        """No events for now."""

    def on_agent_gone(self, why: str) -> None:
        """There is no use in waiting any longer."""


class Subscription:
    """Holds the stream, over and over."""

    def __init__(
        self,
        book: Book,
        endpoint: Endpoint,
        environment: Environment,
        listener: Listener,
        *,
        keep: Callable[[socket.socket], None],
        clock: Callable[[], float],
    ) -> None:
        """Nothing happens yet.

        Args:
            book: The driver's memory.
            endpoint: The agent.
            environment: Of the executor.
            listener: Told what happens.
            keep: Hands a stream's socket to the coordinator, which keeps it for the next driver.
            clock: CLOCK_BOOTTIME, seconds.
        """
        self._book = book
        self._endpoint = endpoint
        self._environment = environment
        self._listener = listener
        self._keep = keep
        self._clock = clock
        self._sock: socket.socket | None = None
        # When SUBSCRIBED came on the current stream (CLOCK_BOOTTIME); None: it has not.
        self.subscribed_at: float | None = None
        self._closed = False
        # SHUTDOWN has come: an end of the stream in order is the last one.
        self._final = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._started_at = clock()
        # When the last attempt to subscribe began.
        self._attempted_at = self._started_at

    def start(self, sock: socket.socket | None, *, adopted: bool) -> None:
        """Goes on with a stream, or opens one.

        Args:
            sock: A stream on which SUBSCRIBE was sent, if there is one.
            adopted: It is an older driver's.
        """
        self._handle_pending()
        if self._closed:
            return
        if sock is None:
            self._lost("no stream")
            return
        self._use(sock)
        if adopted and self._book.decoder.status == 200 and self._book.identity:
            self.confirm()
        self._readable()

    def confirm(self) -> None:
        """The agent knows the stream: SUBSCRIBED, or SHUTDOWN in its place."""
        if self.subscribed_at is not None or self._sock is None:
            return
        self.subscribed_at = self._clock()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._book.find_agent()
        self._listener.on_subscribed()

    def read_waiting(self) -> bool:
        """Handles what waits on the socket; whether the rest of an event is still on its way."""
        self._readable()
        return self._sock is not None and self._book.decoder.inside_record

    def close(self) -> None:
        """No stream any more: SHUTDOWN has come, or the executor ends."""
        self._closed = True
        self._drop()
        if self._task is not None:
            self._task.cancel()

    def stop_reconnecting(self) -> None:
        """SHUTDOWN has come. A stream that the agent ends now in order is not opened again.

        One that breaks is: an agent that was restarted in the meantime would destroy the container within its window.
        """
        self._final = True

    def renew(self) -> None:
        """The agent says that we are not subscribed."""
        if self._sock is not None:
            self._lost("the agent does not know the stream")

    def _use(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.subscribed_at = None
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._readable)
        self._timer = loop.call_later(cadence.HEAD_TIMEOUT, self._lost, "no answer to SUBSCRIBE")

    def _readable(self) -> None:
        while (sock := self._sock) is not None:
            try:
                piece = peek(sock)
                if piece is None:
                    return
                if piece:
                    self._book.take_bytes(piece)
                    sock.recv(len(piece))
            except OSError as error:
                self._lost(type(error).__name__)
                return
            self._handle_pending()
            if self._book.stream_error:
                self._lost(self._book.stream_error)
            elif self._book.decoder.finished:
                self._finished()
            elif not piece:
                self._lost("closed by the agent")

    def _handle_pending(self) -> None:
        while self._book.pending:
            record = self._book.pending[0]
            attempts = self._book.begin_event()
            if attempts > MAX_ATTEMPTS:
                self._listener.on_poison(record, attempts)
            else:
                self._listener.on_event(record)
            self._book.end_event()

    def _finished(self) -> None:
        decoder = self._book.decoder
        answer = cadence.meaning(decoder.status)
        detail = decoder.error_body.decode(errors="replace").strip()[:200]
        if answer is Answer.SUBSCRIBED and self._final:
            # Calls are still taken on the other connection.
            self._drop()
        elif answer is Answer.SUBSCRIBED:
            self._lost("ended by the agent")
        elif answer is Answer.RETRY:
            self._lost(f"SUBSCRIBE answered {decoder.status} {detail}")
        else:
            self._drop()
            self._closed = True
            # The body may echo claims of a token; the status says enough.
            told = f": {detail}" if answer is Answer.DISOWNED else ""
            self._listener.on_agent_gone(f"SUBSCRIBE answered {decoder.status}{told}")

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None
            self._book.close_stream()

    def _lost(self, why: str) -> None:
        self._drop()
        stood, self.subscribed_at = self.subscribed_at is not None, None
        if self._closed:
            return
        _LOG.warning("no event stream: %s", why)
        self._book.lose_agent(self._clock())
        self._listener.on_stream_lost()
        if self._closed:
            return
        if self._clock() >= self._give_up_at():
            self._closed = True
            self._listener.on_agent_gone(f"agent lost: {why}")
            return
        since = self._clock() if stood else self._attempted_at
        self._task = asyncio.get_running_loop().create_task(self._reconnect(since))

    def _give_up_at(self) -> float:
        return cadence.give_up_at(
            lost_at=self._book.agent_lost_at or self._started_at,
            ever_subscribed=bool(self._book.identity),
            checkpoint=self._environment.checkpoint,
            recovery_timeout=self._environment.recovery_timeout,
        )

    async def _reconnect(self, since: float) -> None:
        # Not at the start, where it would cost 2 ms.
        import random

        while not self._closed:
            chance = random.random()  # noqa: S311 - spreads attempts, hides nothing
            backoff_max = self._environment.subscription_backoff_max
            at = cadence.next_attempt_at(since, self._clock(), backoff_max, chance)
            await asyncio.sleep(at - self._clock())
            if self._clock() >= self._give_up_at():
                self._closed = True
                self._listener.on_agent_gone("agent lost: it did not come back in time")
                return
            since = self._attempted_at = self._clock()
            try:
                sock = await self._endpoint.connect_async()
            except OSError:
                continue
            try:
                await self._subscribe(sock)
            except OSError:
                sock.close()
                self._book.close_stream()
                continue
            self._use(sock)
            return

    async def _subscribe(self, sock: socket.socket) -> None:
        book = self._book
        call = subscribe_call(
            self._environment.executor_id,
            self._environment.framework_id,
            book.unacknowledged_tasks(),
            book.unacknowledged_updates(),
        )
        book.open_stream()
        self._keep(sock)
        await asyncio.wait_for(
            asyncio.get_running_loop().sock_sendall(sock, self._endpoint.request(call, subscribe=True)),
            cadence.HEAD_TIMEOUT,
        )
