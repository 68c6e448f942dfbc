"""GET /metrics on a loopback address. Bounded in everything: whoever is on the host may ask.

Trouble here is no trouble of the service: an address that is taken is tried again.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import ipaddress
import logging
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.health.prometheus import Snapshot

_LOG = logging.getLogger(__name__)
_HEAD_LIMIT = 16 << 10
_REQUEST_SECS = 5.0
# What a slow reader may take.
_ANSWER_SECS = 30.0
_CONNECTIONS = 16
_RETRY_SECS = 5.0
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")
_PACKAGE = "prometheus_client"


class Address(NamedTuple):
    """A loopback address. `port` 0: the kernel chooses one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """127.0.0.1:PORT or [::1]:PORT of the command line.

    Raises:
        argparse.ArgumentTypeError: It is none, or the metrics cannot be served for want of a package.
    """
    match = _ADDRESS.fullmatch(text)
    try:
        host = ipaddress.ip_address((match["v6"] or match["v4"]) if match else "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address: 127.0.0.1:PORT or [::1]:PORT") from None
    port = int(match["port"]) if match else 0
    if not host.is_loopback:
        raise argparse.ArgumentTypeError(
            f"{text!r}: only this host's loopback, 127.0.0.1 or [::1]: nobody is asked who he is"
        )
    if port > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a port is at most 65535")
    if importlib.util.find_spec(_PACKAGE) is None:
        raise argparse.ArgumentTypeError(f"needs the package {_PACKAGE}: pip install 'trivet[services]'")
    return Address(str(host), port)


class MetricsServer:
    """Serves from `start` to `close`."""

    def __init__(self, where: Address, take: Callable[[], Snapshot]) -> None:
        """`take`: called on the event loop for each request."""
        self._where = where
        self._take = take
        self._connections: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins; returns at once."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """The address is free again, and nobody is served any more."""
        tasks = [task for task in (self._running, *self._connections) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        server = await self._bind()
        try:
            await server.serve_forever()
        finally:
            server.close()

    async def _bind(self) -> asyncio.Server:
        said = False
        while True:
            try:
                server = await asyncio.start_server(
                    self._connected, self._where.host, self._where.port, limit=_HEAD_LIMIT, backlog=_CONNECTIONS
                )
            except OSError as error:
                if not said:
                    fields = {"address": str(self._where), "error": error.strerror or str(error)}
                    _LOG.error("metrics are not served; trying again", extra={"fields": fields})
                said = True
                await asyncio.sleep(_RETRY_SECS)
                continue
            bound = Address(*server.sockets[0].getsockname()[:2])
            _LOG.info("metrics are served", extra={"fields": {"url": f"http://{bound}/metrics"}})
            return server

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS:
            writer.transport.abort()
            return
        # A task of our own: of asyncio's, Python 3.11 logs a traceback when it is cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOG.error("metrics could not be told", exc_info=error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECS):
                head = await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(_ANSWER_SECS):
                writer.write(await self._answer(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            # Not a request, or its sender has gone: nobody is there to be told.
            _LOG.debug("no request for metrics", extra={"fields": {"error": str(error)}})
        finally:
            writer.transport.abort()

    async def _answer(self, head: bytes) -> bytes:
        request, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path not in ("/", "/metrics"):
            return _response("404 Not Found", b"there is only /metrics\n")
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", b"only GET\n", more="Allow: GET, HEAD\r\n")
        from services.health.prometheus import render

        accept = next((line[7:].strip() for line in lines if line[:7].lower() == "accept:"), "")
        # Words for some thousand checks take a while: not on the loop.
        body, content_type = await asyncio.to_thread(render, self._take(), accept)
        return _response("200 OK", body, content_type, send_body=method == "GET")


def _response(
    status: str, body: bytes, content_type: str = "text/plain; charset=utf-8", *, more: str = "", send_body: bool = True
) -> bytes:
    fields = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode("latin-1") + (body if send_body else b"")
