"""A recording proxy between an executor and the agent: what really went over the wire, call by call.

It passes bytes on as they come, on TCP or on a unix socket, and says nothing of its own unless a test injects an event.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from mesos.v1.executor import executor_pb2
from tests.integration.faults.processes import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    Address = str | tuple[str, int]

_PIECE = 1 << 16
# SO_LINGER with time 0: close() sends RST.
_RESET = struct.pack("ii", 1, 0)


class Call(NamedTuple):
    """A whole request of the executor."""

    # CLOCK_MONOTONIC, seconds, when its last byte was read.
    at: float
    connection: int
    head: str
    body: bytes
    message: executor_pb2.Call

    def headers(self, name: str) -> list[str]:
        """All values of a header."""
        return re.findall(rf"(?mi)^{re.escape(name)}: *(.*?)\r?$", self.head)

    @property
    def path(self) -> str:
        return self.head.split(" ", 2)[1]


class Wiretap:
    """Listens at `address` and connects to `upstream()` for each connection. A listening path may be a unix socket."""

    def __init__(self, upstream: Callable[[], Address], address: Address = ("127.0.0.1", 0)) -> None:
        self._upstream = upstream
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(address)
        self._listener.listen(64)
        if isinstance(address, str):
            os.chmod(address, 0o666)
            self.endpoint = address
        else:
            self.endpoint = "{}:{}".format(*self._listener.getsockname())
        self._changed = threading.Condition()
        self._calls: list[Call] = []
        # Moments of all connection attempts, CLOCK_MONOTONIC.
        self.connected_at: list[float] = []
        self._links: dict[int, _Link] = {}
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    # What was seen

    @property
    def calls(self) -> list[Call]:
        with self._changed:
            return list(self._calls)

    def of(self, kind: executor_pb2.Call.Type) -> list[Call]:
        """All calls of a type so far."""
        return [call for call in self.calls if call.message.type == kind]

    @property
    def subscribes(self) -> list[Call]:
        return self.of(executor_pb2.Call.SUBSCRIBE)

    @property
    def updates(self) -> list[Call]:
        return self.of(executor_pb2.Call.UPDATE)

    def updates_of(self, task_id: str) -> list[Call]:
        return [call for call in self.updates if call.message.update.status.task_id.value == task_id]

    def wait(self, what: str, found: Callable[[list[Call]], bool], timeout: float = TIMEOUT) -> list[Call]:
        """Until the calls are as `found` wants them; returns them."""
        with self._changed:
            assert self._changed.wait_for(lambda: found(self._calls), timeout), f"waited for {what}: {self._kinds()}"
            return list(self._calls)

    def wait_subscribes(self, count: int, timeout: float = TIMEOUT) -> list[Call]:
        """Until there were `count` SUBSCRIBE calls."""
        kind = executor_pb2.Call.SUBSCRIBE
        calls = self.wait(f"{count} SUBSCRIBE", lambda calls: _count(calls, kind) >= count, timeout)
        return [call for call in calls if call.message.type == kind]

    def wait_updates(self, count: int, timeout: float = TIMEOUT) -> list[Call]:
        """Until there were `count` UPDATE calls."""
        kind = executor_pb2.Call.UPDATE
        calls = self.wait(f"{count} UPDATE", lambda calls: _count(calls, kind) >= count, timeout)
        return [call for call in calls if call.message.type == kind]

    def _kinds(self) -> list[str]:
        return [executor_pb2.Call.Type.Name(call.message.type) for call in self._calls]

    def answer_head(self, call: Call) -> str:
        """Head of the first response on the call's connection."""
        return self._links[call.connection].answer.split(b"\r\n\r\n")[0].decode("latin-1")

    def wait_stream(self, call: Call) -> None:
        """Until a SUBSCRIBE is answered by a stream."""
        link = self._links[call.connection]
        with self._changed:
            assert self._changed.wait_for(lambda: b"HTTP/1.1 200 OK\r\n" in link.answer, TIMEOUT), link.answer

    # What a test may do

    def inject(self, event: executor_pb2.Event) -> None:
        """Writes an event into the newest stream, in a chunk of its own. Only while the agent is writing nothing."""
        record = event.SerializeToString()
        data = b"%d\n%s" % (len(record), record)
        self._links[self.subscribes[-1].connection].to_executor(b"%x\r\n%s\r\n" % (len(data), data))

    def cut_stream(self) -> None:
        """Ends the newest stream, without a final chunk."""
        self._links[self.subscribes[-1].connection].cut()

    def close(self) -> None:
        self._closed = True
        # Wakes the thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in list(self._links.values()):
            link.cut()

    # Passing on

    def _accept(self) -> None:
        while not self._closed:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            self.connected_at.append(time.monotonic())
            upstream = self._upstream()
            theirs = socket.socket(socket.AF_UNIX if isinstance(upstream, str) else socket.AF_INET, socket.SOCK_STREAM)
            try:
                theirs.connect(upstream)
            except OSError:
                # The nearest to a refused connection that a proxy can do.
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                ours.close()
                theirs.close()
                continue
            number = len(self.connected_at)
            self._links[number] = _Link(number, ours, theirs, self._note, self._heard)
            self._links[number].start()

    def _note(self, call: Call) -> None:
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()

    def _heard(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _Link:
    """One connection and its twin."""

    def __init__(
        self,
        number: int,
        executor: socket.socket,
        agent: socket.socket,
        note: Callable[[Call], None],
        heard: Callable[[], None],
    ) -> None:
        self._number = number
        self._executor = executor
        self._agent = agent
        self._note = note
        self._heard = heard
        self._lock = threading.Lock()
        self._request = bytearray()
        self._ended = 0
        # The first bytes that the agent has sent.
        self.answer = b""
        for sock in (executor, agent):
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        threading.Thread(target=self._up, daemon=True).start()
        threading.Thread(target=self._down, daemon=True).start()

    def to_executor(self, data: bytes) -> None:
        with self._lock:
            self._executor.sendall(data)

    def cut(self) -> None:
        for sock in (self._executor, self._agent):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _up(self) -> None:
        """Calls to the agent. Noted before they are passed on, so that nothing the agent does comes first."""
        try:
            while piece := self._executor.recv(_PIECE):
                self._take(piece)
                self._agent.sendall(piece)
        except OSError:
            # One side is gone: so is the other.
            pass
        self._end()

    def _down(self) -> None:
        try:
            while piece := self._agent.recv(_PIECE):
                if len(self.answer) < _PIECE:
                    self.answer += piece
                    self._heard()
                self.to_executor(piece)
        except OSError:
            # As above.
            pass
        self._end()

    def _end(self) -> None:
        self.cut()
        with self._lock:
            self._ended += 1
            if self._ended == 2:
                self._executor.close()
                self._agent.close()

    def _take(self, piece: bytes) -> None:
        self._request += piece
        while (border := self._request.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._request[:border]).decode("latin-1")
            length = re.search(r"(?mi)^content-length: *(\d+)\r?$", head)
            assert length, head
            end = border + 4 + int(length[1])
            if len(self._request) < end:
                return
            body = bytes(self._request[border + 4 : end])
            del self._request[:end]
            message = executor_pb2.Call.FromString(body)
            self._note(Call(time.monotonic(), self._number, head, body, message))


def _count(calls: list[Call], kind: executor_pb2.Call.Type) -> int:
    return sum(call.message.type == kind for call in calls)
