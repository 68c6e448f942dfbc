"""TLS for probes: encrypted, not verified, as the certificate says nothing about health (Mesos: curl -k)."""

from __future__ import annotations

import asyncio
import functools
import ssl
from typing import TYPE_CHECKING

from executor_shim.driver.probes.results import NoAnswer

if TYPE_CHECKING:
    import socket

_CHUNK = 1 << 16


class Tls:
    """The client's side of one TLS connection over a connected, non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context().wrap_bio(self._incoming, self._outgoing)

    async def handshake(self) -> None:
        """Raises NoAnswer when the peer does not speak TLS, or none that suits; OSError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive("the connection was closed inside the TLS handshake")
            except ssl.SSLError as error:
                # The alert that says why, to those who read logs on the other side.
                await self._send()
                raise NoAnswer(f"TLS handshake: {_reason(error)}") from error
            else:
                await self._send()
                return

    async def send(self, data: bytes) -> None:
        """Raises OSError; NoAnswer when the peer ends TLS."""
        # A memory BIO takes all that it is given.
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise NoAnswer(f"TLS: {_reason(error)}") from error
        await self._send()

    async def recv(self) -> bytes:
        """Some bytes; none at the end. Raises OSError; NoAnswer for what is not TLS."""
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._send()
                data = await self._loop.sock_recv(self._sock, _CHUNK)
                if not data:
                    # Many servers close without a word; HTTP itself tells where its body ends.
                    return b""
                self._incoming.write(data)
            except ssl.SSLError as error:
                raise NoAnswer(f"TLS: {_reason(error)}") from error

    async def _send(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._loop.sock_sendall(self._sock, data)

    async def _receive(self, closed: str) -> None:
        data = await self._loop.sock_recv(self._sock, _CHUNK)
        if not data:
            raise NoAnswer(closed)
        self._incoming.write(data)


@functools.cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unknown error").replace("_", " ").lower()
