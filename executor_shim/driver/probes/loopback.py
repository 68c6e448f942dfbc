"""Connections to the container's own loopback: sockets and literal addresses, nothing is resolved."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from executor_shim.driver.probes.results import NoAnswer, NotMade
from trivet.health.v1 import health_pb2

IPV4 = "127.0.0.1"
IPV6 = "::1"
_HOSTS = {
    health_pb2.LOOPBACK_UNSPECIFIED: (IPV4, IPV6),
    health_pb2.LOOPBACK_IPV4: (IPV4,),
    health_pb2.LOOPBACK_IPV6: (IPV6,),
}
# Descriptors, memory or local ports have run out: of the driver, not of the target.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})


def hosts(loopback: health_pb2.Loopback) -> tuple[str, ...]:
    """Addresses to try, in this order (`localhost`: the task listens on one of them)."""
    return _HOSTS.get(loopback, (IPV4, IPV6))


async def connect(port: int, addresses: tuple[str, ...] = (IPV4, IPV6)) -> socket.socket:
    """A non-blocking connection to the first address that takes one. The caller closes it.

    Args:
        port: 1 to 65535.
        addresses: Literal ones. When all refuse, what the first one said is told: people expect to read that.

    Raises:
        NoAnswer: Refused, or not to be reached.
        NotMade: Descriptors, memory or local ports have run out.
    """
    refused: OSError | None = None
    for host in addresses:
        try:
            return await _connect(host, port)
        except OSError as error:
            _check_ours(error, host)
            refused = refused or error
    raise NoAnswer(why(refused) if refused is not None else "no address")


async def _connect(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await _establish(sock, (host, port))
        _check_not_itself(sock, host, port)
    except BaseException:
        sock.close()
        raise
    return sock


async def _establish(sock: socket.socket, address: tuple[str, int]) -> None:
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        # On the loopback the answer is there before the call returns; to ask again is cheaper than to wait for it.
        code = sock.connect_ex(address)
    if code in {errno.EINPROGRESS, errno.EALREADY}:
        await asyncio.get_running_loop().sock_connect(sock, address)
    elif code not in {0, errno.EISCONN}:
        raise OSError(code, os.strerror(code))


def _check_not_itself(sock: socket.socket, host: str, port: int) -> None:
    """Linux lets a socket connect to itself when it happens to get the very port that nobody listens on."""
    if sock.getsockname()[:2] == (host, port):
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _check_ours(error: OSError, host: str) -> None:
    """Raises NotMade when it was not the target's fault."""
    if error.errno not in _OURS:
        return
    if error.errno == errno.EADDRNOTAVAIL and ":" in host and not _has_ipv6():
        # Nobody can listen there: as good as refused.
        return
    raise NotMade(f"cannot connect: {why(error)}") from error


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind((IPV6, 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True


def why(error: OSError) -> str:
    """The kernel's words, not asyncio's own."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
