"""The HTTP side of an executor on plain sockets, protobuf, played by a test. The container's process only sleeps."""

from __future__ import annotations

import socket
import uuid
from typing import Self

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2

TIMEOUT = 20.0
Event = executor_pb2.Event
Call = executor_pb2.Call


class Connection:
    """One TCP connection with blocking reads."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def post(self, call: Call, *headers: str, copies: int = 1) -> None:
        self.post_bytes(call.SerializeToString(), *headers, copies=copies)

    def post_bytes(self, body: bytes, *headers: str, copies: int = 1) -> None:
        lines = [
            "POST /slave(1)/api/v1/executor HTTP/1.1",
            "Host: agent",
            "Content-Type: application/x-protobuf",
            "Accept: application/x-protobuf",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        self.socket.sendall((("\r\n".join(lines) + "\r\n\r\n").encode() + body) * copies)

    def head(self) -> tuple[int, str]:
        """Status and, unless it opens a stream, body of the next response."""
        head = self._until(b"\r\n\r\n").decode()
        status = int(head.split()[1])
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        return status, self._exactly(int(headers.get("Content-Length", "0"))).decode()

    def event(self) -> Event | None:
        """The next event; None: the final chunk."""
        chunk = self.chunk()
        if not chunk:
            return None
        length, _, payload = chunk.partition(b"\n")
        assert int(length) == len(payload)
        return Event.FromString(payload)

    def chunk(self) -> bytes:
        """The next chunk, whatever it holds; empty: the final one."""
        size = int(self._until(b"\r\n"), 16)
        return self._exactly(size + 2)[:-2]

    def through(self, end: bytes) -> bytes:
        """Everything up to these bytes, which must be the last ones that come, and with them."""
        data = bytearray(self._buffer)
        self._buffer = b""
        while not data.endswith(end):
            received = self.socket.recv(1 << 20)
            assert received, "closed by the agent"
            data += received
        return bytes(data)

    def drained(self) -> bool:
        """Everything that was received has been looked at."""
        return not self._buffer

    def rest(self) -> tuple[bytes, bool]:
        """Everything up to the end of the connection; True: a reset was the end."""
        while True:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                return self._buffer, True
            if not data:
                return self._buffer, False
            self._buffer += data

    def ended(self) -> bool:
        """Waits for the end of the connection; False: something came."""
        try:
            return self._buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(mark)
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionResetError("closed by the agent")
        self._buffer += data


class ExecutorDouble:
    """SUBSCRIBE on one connection, calls on another."""

    def __init__(self, port: int, framework_id: str, executor_id: str = "shim") -> None:
        self.port = port
        self.framework_id = framework_id
        self.executor_id = executor_id
        self.stream: Connection | None = None
        self._calls: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        for connection in (self.stream, self._calls):
            if connection is not None:
                connection.socket.close()
        self.stream = self._calls = None

    def call(self, kind: Call.Type) -> Call:
        call = Call(type=kind)
        call.executor_id.value = self.executor_id
        call.framework_id.value = self.framework_id
        return call

    def subscribe(
        self, tasks: tuple[mesos_pb2.TaskInfo, ...] = (), updates: tuple[mesos_pb2.TaskStatus, ...] = ()
    ) -> tuple[int, str]:
        call = self.call(Call.SUBSCRIBE)
        call.subscribe.SetInParent()
        call.subscribe.unacknowledged_tasks.extend(tasks)
        for status in updates:
            call.subscribe.unacknowledged_updates.add().status.CopyFrom(status)
        self.stream = Connection(self.port)
        self.stream.post(call)
        return self.stream.head()

    def event(self, kind: Event.Type) -> Event:
        """The next event, which has to be of this kind."""
        assert self.stream is not None
        event = self.stream.event()
        assert event is not None
        assert event.type == kind, event
        return event

    def update(self, status: mesos_pb2.TaskStatus) -> tuple[int, str]:
        call = self.call(Call.UPDATE)
        call.update.status.CopyFrom(status)
        return self.ask(call)

    def ask(self, call: Call) -> tuple[int, str]:
        if self._calls is None:
            self._calls = Connection(self.port)
        self._calls.post(call)
        return self._calls.head()

    def status(self, task_id: str, state: mesos_pb2.TaskState, message: str = "") -> mesos_pb2.TaskStatus:
        status = mesos_pb2.TaskStatus(state=state, source=mesos_pb2.TaskStatus.SOURCE_EXECUTOR, uuid=uuid.uuid4().bytes)
        status.task_id.value = task_id
        status.executor_id.value = self.executor_id
        status.timestamp = 1.5
        if message:
            status.message = message
        return status
