"""Sends updates to the agent on a connection of their own (Mesos: two connections)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from executor_shim.driver.agent.http1 import BadResponse, Response, read_response
from executor_shim.driver.agent.outbox import SendPlan
from executor_shim.driver.agent.wire import update_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.driver.agent.endpoint import Endpoint
    from executor_shim.driver.environment import Environment
    from executor_shim.driver.state.book import Book
    from executor_shim.driver.state.entries import Update

_LOG = logging.getLogger(__name__)
# An agent under load answers slowly; a frozen one must not hold the connection for ever.
_RESPONSE_TIMEOUT = 10.0
_BODY_LIMIT = 4096


class Delivery:
    """The second connection: UPDATE calls, one at a time, oldest first."""

    def __init__(
        self,
        book: Book,
        endpoint: Endpoint,
        environment: Environment,
        *,
        on_dropped: Callable[[Update, str], None],
        on_unsubscribed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._book = book
        self._endpoint = endpoint
        self._environment = environment
        self._on_dropped = on_dropped
        self._on_unsubscribed = on_unsubscribed
        self._clock = clock
        self.plan = SendPlan()
        self._subscribed = False
        self._changed = asyncio.Event()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def subscribed(self) -> None:
        """SUBSCRIBED has come: updates are taken. The SUBSCRIBE itself carried what was unacknowledged then."""
        self._subscribed = True
        self._changed.set()

    def unsubscribed(self) -> None:
        """The stream is gone: updates wait."""
        self._subscribed = False

    def kick(self) -> None:
        """The outbox has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Sends until cancelled."""
        while True:
            self._changed.clear()
            due = self.plan.next(self._book.to_send(), self._clock())
            if due.update is not None and self._subscribed:
                await self._send(due.update)
                continue
            timeout = due.at - self._clock() if self._subscribed and due.at != float("inf") else None
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                continue

    async def _send(self, update: Update) -> None:
        self.plan.sending(update.uuid, self._clock())
        body = update_call(self._environment.executor_id, self._environment.framework_id, update.payload)
        try:
            response = await self._post(body)
        except (OSError, BadResponse, TimeoutError, asyncio.IncompleteReadError) as error:
            _LOG.warning("UPDATE got no answer (%s): will be sent again", type(error).__name__)
            self._close()
            self.plan.failed(update.uuid, self._clock())
            return
        self._answered(update, response)

    def _answered(self, update: Update, response: Response) -> None:
        reason = response.body.decode(errors="replace").strip()[:200]
        if response.status == 202:
            if update.stray:
                # Nobody will acknowledge it: this is all that can be had.
                self._end_stray(update)
            return
        if response.status == 400:
            # The same bytes would be refused again: a defect of ours, or the agent has forgotten the framework.
            _LOG.error("agent refused an update for good: %s", reason)
            if update.stray:
                self._end_stray(update)
                return
            self.plan.done(update.uuid)
            self._on_dropped(update, reason)
            return
        _LOG.warning("UPDATE answered %d %s: will be sent again", response.status, reason)
        self.plan.failed(update.uuid, self._clock())
        if response.status == 403:
            self._on_unsubscribed()

    def _end_stray(self, update: Update) -> None:
        self.plan.done(update.uuid)
        self._book.end_stray(update)

    async def _post(self, body: bytes) -> Response:
        request = self._endpoint.request(body)
        fresh = self._streams is None
        try:
            return await self._exchange(request)
        except (OSError, BadResponse, asyncio.IncompleteReadError):
            if fresh:
                raise
        # The agent may close an idle connection at any time: that is no failure. The uuid makes twice once.
        self._close()
        return await self._exchange(request)

    async def _exchange(self, request: bytes) -> Response:
        async with asyncio.timeout(_RESPONSE_TIMEOUT):
            if self._streams is None:
                self._streams = await asyncio.open_connection(sock=await self._endpoint.connect_async())
            reader, writer = self._streams
            writer.write(request)
            await writer.drain()
            response = await read_response(reader, _BODY_LIMIT)
        if not response.reusable:
            self._close()
        return response

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
