"""Sans-I/O decoder of the SUBSCRIBE response: HTTP head, chunks, RecordIO records (Mesos: executor HTTP API).

Chunk borders and record borders have nothing to do with each other. The decoder's whole state can be taken out and put
back between any two bytes, so that another driver goes on where this one was killed.
"""

from __future__ import annotations

# A TaskInfo's data may be some MB; more than this is not a record but a lost border.
MAX_RECORD = 64 << 20
_MAX_LINE = 4096
_MAX_HEAD = 64 << 10

HEAD = "head"
CHUNK_SIZE = "chunk-size"
CHUNK_DATA = "chunk-data"
CHUNK_END = "chunk-end"
TRAILER = "trailer"
DONE = "done"


class StreamBroken(Exception):
    """The bytes are not what an agent sends: only a new SUBSCRIBE helps."""


class StreamDecoder:
    """Feed bytes, take records."""

    def __init__(self) -> None:
        self.phase = HEAD
        # HTTP status once the head is complete.
        self.status = 0
        # Bytes of the current line or head.
        self._line = b""
        self._chunk_left = 0
        # Body bytes of the current, incomplete record with its length line.
        self._record = bytearray()
        self._need = 0
        # Body of a response other than 200: the agent's one line of explanation.
        self.error_body = b""
        self._plain_left = -1

    @property
    def finished(self) -> bool:
        """The final chunk has come (another SUBSCRIBE took over, or SHUTDOWN), or an error response is complete."""
        return self.phase == DONE

    @property
    def inside_record(self) -> bool:
        """A part of a record has come."""
        return bool(self._record)

    def feed(self, data: bytes, records: list[bytes]) -> None:
        """Takes bytes of the connection and appends the records that they complete to `records`.

        Raises:
            StreamBroken: Framing is lost; the records before that have been appended.
        """
        view = memoryview(data)
        while view:
            if self.phase == CHUNK_DATA:
                taken = min(len(view), self._chunk_left)
                self._body(view[:taken], records)
                self._chunk_left -= taken
                view = view[taken:]
                if not self._chunk_left:
                    self.phase = CHUNK_END
            elif self.phase == DONE:
                break
            elif self._plain_left >= 0:
                self.error_body += bytes(view[: self._plain_left])
                self._plain_left -= min(len(view), self._plain_left)
                if not self._plain_left:
                    self.phase = DONE
                break
            else:
                view = self._line_feed(view)

    def snapshot(self) -> tuple[dict[str, int | str], bytes]:
        """The state, as plain values and bytes."""
        state: dict[str, int | str] = {
            "phase": self.phase,
            "status": self.status,
            "chunk_left": self._chunk_left,
            "need": self._need,
            "line": len(self._line),
        }
        return state, self._line + bytes(self._record)

    def restore(self, state: dict[str, int | str], data: bytes) -> None:
        """Puts a `snapshot` back."""
        self.phase = str(state["phase"])
        self.status = int(state["status"])
        self._chunk_left = int(state["chunk_left"])
        self._need = int(state["need"])
        border = int(state["line"])
        self._line = data[:border]
        self._record = bytearray(data[border:])

    def _line_feed(self, view: memoryview) -> memoryview:
        """Takes bytes up to and including the next line end."""
        raw = bytes(view)
        end = raw.find(b"\n")
        if end < 0:
            self._line += raw
            view = view[len(view) :]
        else:
            self._line += raw[: end + 1]
            view = view[end + 1 :]
        if len(self._line) > (_MAX_HEAD if self.phase == HEAD else _MAX_LINE):
            raise StreamBroken(f"line too long in {self.phase}")
        if end >= 0:
            if self.phase == HEAD:
                if self._line.endswith((b"\r\n\r\n", b"\n\n")):
                    head, self._line = self._line, b""
                    self._head(head)
            else:
                line, self._line = self._line.strip(), b""
                self._chunk_line(line)
        return view

    def _head(self, head: bytes) -> None:
        status_line, *fields = head.decode("latin-1").split("\n")
        parts = status_line.split()
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise StreamBroken(f"not an HTTP response: {status_line[:80]!r}")
        self.status = int(parts[1])
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self.phase = CHUNK_SIZE
        elif self.status == 200:
            raise StreamBroken("SUBSCRIBE was answered without chunks")
        else:
            length = headers.get("content-length", "0")
            self._plain_left = min(int(length), _MAX_LINE) if length.isdigit() else 0
            if not self._plain_left:
                self.phase = DONE

    def _chunk_line(self, line: bytes) -> None:
        if self.phase == CHUNK_END:
            if line:
                raise StreamBroken("chunk is longer than it said")
            self.phase = CHUNK_SIZE
        elif self.phase == TRAILER:
            if not line:
                self.phase = DONE
        else:
            size = line.split(b";")[0].strip()
            try:
                self._chunk_left = int(size, 16)
            except ValueError:
                raise StreamBroken(f"chunk size {size[:20]!r}") from None
            if not 0 <= self._chunk_left <= MAX_RECORD:
                raise StreamBroken(f"chunk of {self._chunk_left} bytes")
            self.phase = CHUNK_DATA if self._chunk_left else TRAILER

    def _body(self, data: memoryview, records: list[bytes]) -> None:
        if self.status != 200:
            self.error_body = (self.error_body + bytes(data))[:_MAX_LINE]
            return
        self._record += data
        while True:
            if not self._need:
                border = self._record.find(b"\n", 0, 21)
                if border < 0:
                    if len(self._record) > 20:
                        raise StreamBroken("record length has more than 20 digits")
                    return
                digits = bytes(self._record[:border])
                if not digits.isdigit() or int(digits) > MAX_RECORD:
                    raise StreamBroken(f"record length {digits[:20]!r}")
                # Counted with the length line; a record of length 0 is legal and empty.
                self._need = border + 1 + int(digits)
            if len(self._record) < self._need:
                return
            border = self._record.index(b"\n")
            records.append(bytes(self._record[border + 1 : self._need]))
            del self._record[: self._need]
            self._need = 0
