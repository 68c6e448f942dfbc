"""Messages between coordinator and driver, for both ends.

A message is a 4-byte big-endian length and one JSON object in UTF-8, on a stream socketpair. File descriptors travel
beside the first byte of their message (SCM_RIGHTS) and are queued in the order in which they came.
"""

from __future__ import annotations

import _socket  # `socket` would cost the coordinator 2 ms and 0.4 MiB for wrappers that it does not use.
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

MAX_MESSAGE = 32 << 20
"""Bytes of the longest message. A longer one means that the stream is out of step."""

_CHUNK = 1 << 16
# `json.dumps` would make a new one for each message.
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_MAX_FDS = 8


class WireError(Exception):
    """The stream cannot be read any further; only a new connection helps."""


class MalformedMessageError(Exception):
    """One message is not a JSON object; the next one can be read."""


def encode(message: Message) -> bytes:
    """Frame a message.

    Raises:
        WireError: it is longer than `MAX_MESSAGE`.
    """
    body = _to_json(message).encode("ascii")
    if len(body) > MAX_MESSAGE:
        raise WireError(f"message of {len(body)} bytes is longer than {MAX_MESSAGE}")
    return len(body).to_bytes(4, "big") + body


class Decoder:
    """Bytes in, messages out, however the bytes are cut."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        self._buffer += data

    def take(self) -> Message | None:
        """The next complete message, or None.

        Raises:
            MalformedMessageError: the message was dropped; call again for the next one.
            WireError: the announced length cannot be right.
        """
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        length = int.from_bytes(buffer[:4], "big")
        if length > MAX_MESSAGE:
            raise WireError(f"message of {length} bytes announced, {MAX_MESSAGE} is the limit")
        if len(buffer) < 4 + length:
            return None
        body = bytes(buffer[4 : 4 + length])
        del buffer[: 4 + length]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            # The text of a JSON error holds a position, never the content.
            reason = error.args[0] if isinstance(error, json.JSONDecodeError) else type(error).__name__
            raise MalformedMessageError(f"not JSON: {reason}") from None
        if not isinstance(message, dict):
            raise MalformedMessageError("not a JSON object")
        return message


class Channel:
    """One end of the socketpair. Never blocks: what the peer does not take is kept."""

    __slots__ = ("_decoder", "_fds", "_out", "eof", "pending", "socket")

    def __init__(self, sock: _socket.socket) -> None:
        """Take over `sock`: any object with `sendmsg`, `recvmsg`, `setblocking`, `close` and `fileno` will do."""
        sock.setblocking(False)
        self.socket = sock
        self.pending = 0
        """Bytes that the peer has not taken yet."""
        self.eof = False
        """The peer has closed its end."""
        self._decoder = Decoder()
        self._fds: list[int] = []
        self._out: list[tuple[bytes, int]] = []

    def fileno(self) -> int:
        """For `select`."""
        return self.socket.fileno()

    def send(self, message: Message, fd: int = -1) -> None:
        """Queue a message and send what the peer takes now. A peer that is gone shows as `eof`, not as an error.

        `fd` is duplicated on the way; the caller keeps and closes its own.
        """
        data = encode(message)
        # The queue outlives the caller's descriptor.
        self._out.append((data, os.dup(fd) if fd >= 0 else -1))
        self.pending += len(data)
        self.flush()

    def flush(self) -> None:
        """Send as much as the peer takes now."""
        while self._out and not self.eof:
            data, fd = self._out[0]
            beside = []
            if fd >= 0:
                beside = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]
            try:
                sent = self.socket.sendmsg([data], beside, _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                # EPIPE, ECONNRESET: what it sent before it went can still be read, so only sending ends here.
                self._drop_output()
                return
            if fd >= 0:
                os.close(fd)
            self.pending -= sent
            if sent < len(data):
                self._out[0] = (data[sent:], -1)
                return
            del self._out[0]

    def receive(self) -> None:
        """Read all that is there; messages come out of `take`."""
        while not self.eof:
            try:
                data, beside, _flags, _address = self.socket.recvmsg(
                    _CHUNK, _socket.CMSG_SPACE(4 * _MAX_FDS), _socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                self.eof = True
                return
            for level, kind, content in beside:
                if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                    whole = len(content) - len(content) % 4
                    self._fds += [int.from_bytes(content[i : i + 4], sys.byteorder) for i in range(0, whole, 4)]
            if not data:
                self.eof = True
                return
            self._decoder.feed(data)
            if len(data) < _CHUNK and not beside:
                # A short read has emptied the socket: saves the call that would say so.
                return

    def take(self) -> Message | None:
        """The next complete message, or None. Raises what `Decoder.take` raises."""
        return self._decoder.take()

    def take_fd(self) -> int | None:
        """The oldest descriptor that came and was not taken. The caller closes it."""
        return self._fds.pop(0) if self._fds else None

    def _drop_output(self) -> None:
        for _data, fd in self._out:
            if fd >= 0:
                os.close(fd)
        self._out.clear()
        self.pending = 0

    def close(self) -> None:
        """Close the socket and all descriptors that nobody took."""
        self._drop_output()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self.eof = True
        self.socket.close()
