"""RecordIO and HTTP chunks: how one event stands on the stream (Mesos: RecordIO framing)."""

from __future__ import annotations

# Ends the body of a stream that another SUBSCRIBE has replaced; the connection stays open.
FINAL_CHUNK = b"0\r\n\r\n"


def record(payload: bytes) -> bytes:
    """Decimal length, line feed, payload."""
    return b"%d\n%s" % (len(payload), payload)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. `data` may not be empty: that would be the end of the body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event_chunk(payload: bytes) -> bytes:
    """One event as Mesos sends it: exactly one chunk that holds exactly one record."""
    return chunk(record(payload))
