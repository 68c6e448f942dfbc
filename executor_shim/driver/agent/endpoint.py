"""Where the agent listens, how to connect to it, and the head of a request.

Loaded before SUBSCRIBE is sent, so it imports next to nothing.
"""

from __future__ import annotations

import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from executor_shim.driver.environment import Environment

# A connection attempt has to fit several times into the agent's 2 s window for re-registration.
CONNECT_TIMEOUT = 0.5
# Keepalive: silence before the first probe and between probes in seconds, probes without an answer. The agent's own
# heartbeats, every 30 minutes, are no proof of life (Mesos: heartbeats and dead peers).
KEEPALIVE = (30, 10, 3)
# sockaddr_un.sun_path with its terminating zero.
_MAX_SOCKET_PATH = 107


class Endpoint:
    """The agent's executor API."""

    def __init__(self, environment: Environment, token: str) -> None:
        """Takes the address from the environment.

        Args:
            environment: Of the executor.
            token: Bearer token, empty when the agent gave none. Goes into every request, and nowhere else.
        """
        self._host = environment.agent_host
        self._port = environment.agent_port
        self._domain_socket = environment.domain_socket
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        # The unix socket serves the long path only.
        prefix = f"/{environment.libprocess_id}" if environment.libprocess_id else ""
        self._path = f"{prefix}/api/v1/executor"
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = f"{host}:{self._port}"

    def request(self, body: bytes, *, subscribe: bool = False) -> bytes:
        """A whole POST."""
        accept = "Accept: application/x-protobuf\r\n" if subscribe else ""
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host_header}\r\n{self._authorization}{accept}"
            f"Content-Type: application/x-protobuf\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def addresses(self) -> Iterator[tuple[int, Any]]:
        """(family, address) in the order to try: the unix socket first when the agent has one.

        Each is good until the next one is asked for. A container with a root filesystem of its own has the variable but
        not the file: then it is TCP.
        """
        path = self._domain_socket
        if path and os.path.exists(path):
            if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
                yield socket.AF_UNIX, path
            else:
                # Too long for a socket address, so it is named by the descriptor of its directory.
                directory, name = os.path.split(path)
                fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
                try:
                    yield socket.AF_UNIX, f"/proc/self/fd/{fd}/{name}"
                finally:
                    os.close(fd)
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        yield family, (self._host, self._port)

    def connect(self) -> socket.socket:
        """A connected socket, waiting at most CONNECT_TIMEOUT for each address.

        Raises:
            OSError: Nobody answers.
        """
        refused: OSError = ConnectionRefusedError()
        for family, address in self.addresses():
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(CONNECT_TIMEOUT)
                sock.connect(address)
                return prepare(sock)
            except OSError as error:
                sock.close()
                refused = error
        raise refused

    async def connect_async(self) -> socket.socket:
        """The same without blocking the loop; the socket is non-blocking.

        Raises:
            OSError: Nobody answers.
        """
        import asyncio

        refused: OSError = ConnectionRefusedError()
        for family, address in self.addresses():
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, address), CONNECT_TIMEOUT)
                return prepare(sock)
            except (OSError, TimeoutError) as error:
                sock.close()
                refused = error if isinstance(error, OSError) else ConnectionRefusedError("timed out")
        raise refused


def prepare(sock: socket.socket) -> socket.socket:
    """No Nagle (two small writes would wait 40 ms for a delayed ACK), and keepalive to find half-open connections."""
    if sock.family == socket.AF_UNIX:
        return sock
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in zip((socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), KEEPALIVE, strict=True):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock
