"""The sockets on which executors connect: opened, closed as if nobody were there, and opened again."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.local_agent.wire import domain_socket

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[[], asyncio.Protocol]

_BACKLOG = 128


@dataclass
class _Listener:
    factory: Factory
    # An IP address and a port, or a path.
    address: tuple[str, int] | str
    # At most one of the two: somebody listens; or a socket is only bound, so that nobody else gets the port. Neither: a
    # unix socket's file that nobody listens on, or an address that was not to be had again.
    server: asyncio.Server | None = None
    bound: socket.socket | None = None


class Listeners:
    """All listening sockets of an agent. `refusing`: new ones do not listen either."""

    def __init__(self) -> None:
        self.refusing = False
        self._all: list[_Listener] = []
        # To listen takes turns of the loop, in which others may want the opposite: one change at a time.
        self._change = asyncio.Lock()
        self._closed = False

    async def listen_tcp(self, factory: Factory, ip: str, port: int) -> int:
        """Returns the port.

        Raises:
            OSError: The address cannot be used.
        """
        bound = _bind((ip, port))
        address: tuple[str, int] = bound.getsockname()
        await self._open(_Listener(factory, address, None, bound))
        return address[1]

    async def listen_unix(self, factory: Factory, path: str) -> None:
        """The file is made or replaced.

        Raises:
            OSError: The path cannot be used.
        """
        await self._open(_Listener(factory, path, None, domain_socket.bind(path)))

    async def refuse(self, refusing: bool) -> None:
        """From now on connections are refused, or accepted again. Of calls that overlap the last one counts.

        Raises:
            OSError: An address is not to be had again.
        """
        self.refusing = refusing
        # Carried out even if the caller goes away: what is in force must be so.
        await asyncio.shield(asyncio.create_task(self._apply_to_all()))

    async def _apply_to_all(self) -> None:
        async with self._change:
            for listener in self._all:
                await self._apply(listener)

    def close(self) -> None:
        """Connections live on."""
        self._closed = True
        for listener in self._all:
            _close(listener)

    async def _open(self, listener: _Listener) -> None:
        async with self._change:
            try:
                await self._apply(listener)
            except OSError:
                _close(listener)
                raise
            self._all.append(listener)

    async def _apply(self, listener: _Listener) -> None:
        """Makes of a listener what is wanted at the moment; it may be in any state."""
        if not self._wanted():
            self._refuse(listener)
        elif listener.server is None:
            bound, listener.bound = listener.bound or _bind(listener.address), None
            # Not create_unix_server: some versions of it remove the file at the end.
            create = asyncio.get_running_loop().create_server
            try:
                server = await create(listener.factory, sock=bound, backlog=_BACKLOG, start_serving=False)
            except BaseException:
                bound.close()
                raise
            # From here on the server closes the socket, even if somebody wants that while it begins to listen.
            listener.server = server
            if not self._wanted():
                self._refuse(listener)
                return
            try:
                await server.start_serving()
            except OSError:
                _close(listener)
                raise

    def _wanted(self) -> bool:
        """Whether connections are to be accepted."""
        return not self.refusing and not self._closed

    def _refuse(self, listener: _Listener) -> None:
        is_file = isinstance(listener.address, str)
        if listener.server is not None or is_file:
            # A unix socket's file that nobody listens on refuses as well.
            _close(listener)
        if listener.bound is None and not is_file and not self._closed:
            listener.bound = _bind(listener.address)


def _close(listener: _Listener) -> None:
    if listener.server is not None:
        listener.server.close()
    if listener.bound is not None:
        listener.bound.close()
    listener.server = listener.bound = None


def _bind(address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, str):
        return domain_socket.bind(address)
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{address[0]}:{address[1]}: {error.strerror}") from error
    return bound
