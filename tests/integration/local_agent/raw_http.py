"""Requests of any shape to the executor API, over TCP or a unix socket, and answers with every header."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesos.v1.executor import executor_pb2
from services.local_agent.wire import dialect_writer
from tests.integration.local_agent.executor_double import TIMEOUT, Connection, ExecutorDouble
from tests.integration.local_agent.rig import task_info

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2
    from tests.integration.local_agent.rig import AgentUnderTest

LONG = "/slave(1)/api/v1/executor"
SHORT = "/api/v1/executor"
JSON = "application/json"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Answer:
    """`headers` without Date, in the order in which they came."""

    status: int
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class RawConnection(Connection):
    """To a TCP port, or to a unix socket's path."""

    def __init__(self, where: int | str) -> None:
        if isinstance(where, int):
            super().__init__(where)
            return
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(where)
        self._buffer = b""

    def send(self, body: bytes = b"", *headers: str, method: str = "POST", path: str = LONG, kind: str = JSON) -> None:
        """`kind`: Content-Type; empty: none."""
        lines = [f"{method} {path} HTTP/1.1", *headers]
        if kind:
            lines.append(f"Content-Type: {kind}")
        if not any(header.startswith("Transfer-Encoding") for header in headers):
            lines.append(f"Content-Length: {len(body)}")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    def answer(self) -> Answer:
        head = self._until(b"\r\n\r\n").decode()
        first, *lines = head.split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines) if name != "Date"]
        assert len(headers) == len(lines) - 1, "every answer has a Date"
        size = int(dict(headers).get("Content-Length", "0"))
        return Answer(int(first.split()[1]), headers, self._exactly(size).decode(errors="surrogateescape"))

    def ask(self, body: bytes = b"", *headers: str, method: str = "POST", path: str = LONG, kind: str = JSON) -> Answer:
        self.send(body, *headers, method=method, path=path, kind=kind)
        return self.answer()

    def json_event(self) -> dict[str, Any] | None:
        """The next event of a JSON stream; None: the final chunk."""
        size = int(self._until(b"\r\n"), 16)
        chunk = self._exactly(size + 2)[:-2]
        if not size:
            return None
        length, _, payload = chunk.partition(b"\n")
        assert int(length) == len(payload)
        event: dict[str, Any] = json.loads(payload)
        return event


def ask(where: int | str, body: bytes = b"", *headers: str, **how: Any) -> Answer:
    """One request on a connection of its own."""
    with RawConnection(where) as connection:
        return connection.ask(body, *headers, **how)


def json_call(kind: str, framework_id: str, executor_id: str, **members: Any) -> bytes:
    ids = {"executor_id": {"value": executor_id}, "framework_id": {"value": framework_id}}
    body = {"subscribe": {}} if kind == "SUBSCRIBE" and not members else members
    return json.dumps({**ids, "type": kind, **body}).encode()


def json_update(executor: ExecutorDouble, status: mesos_pb2.TaskStatus, **changes: Any) -> bytes:
    value = json.loads(dialect_writer.encode(status)) | changes
    return json_call("UPDATE", executor.framework_id, executor.executor_id, update={"status": value})


def subscribed(agent: AgentUnderTest, executor_id: str) -> ExecutorDouble:
    """An executor with one task, named as the executor, that has got its LAUNCH."""
    launched = agent.launch(task_info(executor_id, executor_id=executor_id))
    executor = ExecutorDouble(agent.port, launched.framework_id, executor_id)
    assert executor.subscribe()[0] == 200
    executor.event(executor_pb2.Event.SUBSCRIBED)
    executor.event(executor_pb2.Event.LAUNCH)
    return executor
