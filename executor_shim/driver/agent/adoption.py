"""Going on with the event stream of a driver that is gone.

The bytes are recorded before they are taken from the socket. A driver that was killed between the two leaves the last
piece in both places; which of them it is can be told, so that nothing is read twice or lost.

Loaded before SUBSCRIBE is sent, so it imports next to nothing.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

# struct tcp_info, tcpi_bytes_received: the bytes that the peer has sent so far (Linux 4.1).
_BYTES_RECEIVED = 128
_PIECE = 1 << 16


def settle(sock: socket.socket, offset: int, last_piece: bytes) -> None:
    """Removes the last recorded piece from the socket if it is still there.

    Args:
        sock: The stream.
        offset: Bytes recorded of this stream.
        last_piece: The newest of them.
    """
    if last_piece and _is_waiting(sock, offset, last_piece):
        left = len(last_piece)
        while left:
            taken = len(sock.recv(left))
            if not taken:
                return
            left -= taken


def peek(sock: socket.socket) -> bytes | None:
    """The bytes that wait, without taking them; None: nothing yet; empty: the peer has closed.

    Raises:
        OSError: The connection broke.
    """
    try:
        return sock.recv(_PIECE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None


def _is_waiting(sock: socket.socket, offset: int, last_piece: bytes) -> bool:
    if sock.family != socket.AF_UNIX:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        if len(info) >= _BYTES_RECEIVED + 8:
            received = struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0]
            unread = struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, b"\0" * 4))[0]
            return bool(received - unread < offset)
    # A unix socket does not count. Events may safely come twice, so the same bytes are taken for the same event.
    waiting = peek(sock)
    return waiting is not None and waiting[: len(last_piece)] == last_piece and bool(waiting)
