"""Reads recordings of a real Mesos agent: rows, and what the agent's bytes mean (README.md beside them)."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.wire import dialect_reader

ROOT = Path(__file__).resolve().parents[2]


def directory() -> Path:
    """TRIVET_TRACES, else ../shared/traces beside the checkout."""
    given = os.environ.get("TRIVET_TRACES")
    return Path(given) if given else ROOT.parent / "shared" / "traces"


@dataclass(frozen=True)
class Row:
    """One line of a recording."""

    at: float
    kind: str
    connection: str
    data: bytes
    note: str


@dataclass(frozen=True)
class Response:
    """A response with its whole body; the value of Date is cut out of `head`. `date`: it, seconds since 1970."""

    status: int
    head: bytes
    body: bytes = b""
    date: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Event:
    """One record of the stream. `single`: it was alone in its chunk."""

    content_type: str
    payload: bytes
    single: bool = True

    def message(self) -> executor_pb2.Event:
        if self.content_type == "application/json":
            return dialect_reader.decode(executor_pb2.Event, self.payload)
        return executor_pb2.Event.FromString(self.payload)


@dataclass(frozen=True)
class StreamEnd:
    """The final chunk."""


Unit = Response | Event | StreamEnd
_DATE = re.compile(rb"\r\nDate: ([A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT)\r\n")


class AgentBytes:
    """Turns what an agent sends on one connection into units."""

    def __init__(self) -> None:
        self._buffer = b""
        self._content_type = ""

    @property
    def whole(self) -> bool:
        """Nothing is half read."""
        return not self._buffer

    def feed(self, data: bytes) -> list[Unit]:
        self._buffer += data
        units: list[Unit] = []
        while True:
            unit = self._next()
            if unit is None:
                return units
            units.append(unit)

    def _next(self) -> Unit | None:
        if self._content_type and not self._buffer.startswith(b"HTTP"):
            return self._chunk()
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        date = _DATE.search(head + b"\r\n")
        assert date, head
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = int(headers.get("Content-Length", "0"))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        if headers.get("Transfer-Encoding") == "chunked":
            self._content_type = headers["Content-Type"]
        return Response(
            int(lines[0].split()[1]),
            _DATE.sub(b"\r\nDate:\r\n", head + b"\r\n"),
            rest[:length],
            parsedate_to_datetime(date[1].decode()).timestamp(),
        )

    def _chunk(self) -> Unit | None:
        size_text, separator, rest = self._buffer.partition(b"\r\n")
        if not separator:
            return None
        size = int(size_text, 16)
        if len(rest) < size + 2:
            return None
        data, self._buffer = rest[:size], rest[size + 2 :]
        if not size:
            self._content_type = ""
            return StreamEnd()
        length, _, payload = data.partition(b"\n")
        assert len(payload) >= int(length), "a record over several chunks"
        return Event(self._content_type, payload[: int(length)], single=len(payload) == int(length))


@dataclass
class Recording:
    """One flow."""

    name: str
    rows: list[Row]
    options: dict[str, str]
    # Of each executor, in the order of their starts.
    environments: list[dict[str, str]]
    # Index of the row that completes it -> units.
    units: dict[int, list[Unit]] = field(default_factory=dict)
    # What the scheduler received.
    statuses: list[mesos_pb2.TaskStatus] = field(default_factory=list)

    # Executor id and data of what executors told the scheduler.
    messages: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The first executor's; empty: none was started."""
        return self.environments[0] if self.environments else {}

    @property
    def events(self) -> list[executor_pb2.Event]:
        return [unit.message() for _, units in sorted(self.units.items()) for unit in units if isinstance(unit, Event)]

    def answers(self, connection: str) -> list[int]:
        """Status codes on a connection."""
        return [
            unit.status
            for index, units in sorted(self.units.items())
            for unit in units
            if self.rows[index].connection == connection and isinstance(unit, Response)
        ]


def load(name: str) -> Recording:
    rows = []
    for line in (directory() / f"{name}.jsonl").read_text().splitlines():
        value = json.loads(line)
        data = base64.b64decode(value.get("b64", ""))
        rows.append(Row(value["t"], value["dir"], value.get("conn", ""), data, value.get("note", "")))
    options = re.search(r"agent options: (.*)", "\n".join(row.note for row in rows if row.kind == "note"))
    pairs = re.findall(r"(\w+)=([^,\s]+)", options[1]) if options else []
    environments = [json.loads(row.note.split(": ", 1)[1]) for row in rows if row.kind == "env"]
    recording = Recording(name, rows, dict(pairs), environments)
    parsers: dict[str, AgentBytes] = {}
    for index, row in enumerate(rows):
        if row.kind == "agent->executor":
            units = parsers.setdefault(row.connection, AgentBytes()).feed(row.data)
            if units:
                recording.units[index] = units
        elif row.kind == "scheduler" and row.note.startswith("UPDATE "):
            text = json.dumps(json.loads(row.note[7:])["status"]).encode()
            recording.statuses.append(dialect_reader.decode(mesos_pb2.TaskStatus, text))
        elif row.kind == "scheduler" and row.note.startswith("MESSAGE "):
            value = json.loads(row.note[8:])
            recording.messages.append((value["executor_id"]["value"], base64.b64decode(value["data"])))
    return recording
