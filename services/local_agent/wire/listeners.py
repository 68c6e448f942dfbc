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
    server: asyncio.Server | None = None
    # While nobody listens: a socket that is only bound, so that nobody else gets the port.
    bound: socket.socket | None = None


class Listeners:
    """All listening sockets of an agent. `refusing`: new ones do not listen either."""

    def __init__(self) -> None:
        self.refusing = False
        self._all: list[_Listener] = []

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
        """From now on connections are refused, or accepted again.

        Raises:
            OSError: An address is not to be had again.
        """
        self.refusing = refusing
        for listener in self._all:
            if refusing and listener.server is not None:
                listener.server.close()
                listener.server = None
                if not isinstance(listener.address, str):
                    listener.bound = _bind(listener.address)
            elif not refusing and listener.server is None:
                await self._serve(listener)

    def close(self) -> None:
        """Connections live on."""
        for listener in self._all:
            if listener.server is not None:
                listener.server.close()
            elif listener.bound is not None:
                listener.bound.close()
        self._all.clear()

    async def _open(self, listener: _Listener) -> None:
        if self.refusing:
            # A unix socket's file that nobody listens on refuses as well.
            if isinstance(listener.address, str) and listener.bound is not None:
                listener.bound.close()
                listener.bound = None
        else:
            try:
                await self._serve(listener)
            except OSError:
                if listener.bound is not None:
                    listener.bound.close()
                raise
        self._all.append(listener)

    async def _serve(self, listener: _Listener) -> None:
        bound = listener.bound
        if bound is None:
            bound = domain_socket.bind(str(listener.address))
        listener.bound = None
        # Not create_unix_server: some versions of it remove the file at the end.
        loop = asyncio.get_running_loop()
        listener.server = await loop.create_server(listener.factory, sock=bound, backlog=_BACKLOG)


def _bind(address: tuple[str, int]) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{address[0]}:{address[1]}: {error.strerror}") from error
    return bound
