"""Format of a journal file: a header, then frames. Pure: bytes in, payloads out.

Layout: an 8-byte header (magic, format version), then frames of length (u32), CRC-32 (u32), payload.

What a reader finds at the end of a file decides what it means:

    incomplete last frame, or zeros to the end     torn by a crash: cut off
    a whole frame with a wrong checksum, then more   damage: `JournalCorrupt` with file and offset
    a wrong checksum in the very last frame        torn (blocks of one write may reach the disk in any order): cut off
    either, and a sound frame behind its start     damage: its length is wrong, and hides what was recorded after it
    a length that is wrong, a checksum that is not   damage
    the header of another format version           `JournalVersion`: not damage, but nothing that can be read here
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
_NAME = b"TRVTJ\x00\x00"
MAGIC = _NAME + bytes([VERSION])
_FRAME = struct.Struct("<II")
# More is refused when written, so when read it is damage, not data. The longest that is written: one executor's call to
# the local agent, 64 MiB and a third more as base64.
MAX_PAYLOAD = 128 << 20
# Where a frame may begin: a length that is neither 0 nor beyond `MAX_PAYLOAD`. Rare in text, so the search is quick.
_MAY_BEGIN = re.compile(rb"(?s)(?=...[\x00-\x08])(?!\x00{4})")
# Bytes that are summed up in the search for a sound frame, and as many times the tail: hostile bytes end it as damage.
_SEARCH_BYTES = 16 << 20
_SEARCH_FACTOR = 4


class JournalCorrupt(Exception):
    """Damage in the middle of a journal: what follows `offset` cannot be trusted."""

    def __init__(self, path: str, offset: int, why: str, payloads: Sequence[bytes] = ()) -> None:
        """`payloads`: the sound records before the damage."""
        super().__init__(f"{path}: damaged at offset {offset}: {why}")
        self.path = path
        self.offset = offset
        self.why = why
        self.payloads = payloads


class JournalVersion(JournalCorrupt):
    """A journal of another format version. It may be sound: only a program of that version can tell."""

    def __init__(self, path: str, version: int) -> None:
        """`version`: of the file."""
        super().__init__(path, len(_NAME), f"format version {version}, this program reads version {VERSION}")
        self.args = (f"{path}: {self.why}",)
        self.version = version


def frame(payload: bytes) -> bytes:
    """One record as it stands in the file."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def parse(path: str, data: bytes, *, keep_first: bool = False) -> tuple[list[bytes], int]:
    """Splits a journal's content; returns the payloads and the length of the sound part.

    Args:
        path: Named in errors.
        data: The whole file.
        keep_first: See `Journal.open`.

    Raises:
        JournalCorrupt: Damage that is not a torn tail.
        JournalVersion: Another format version.
    """
    if len(data) < len(MAGIC):
        if MAGIC.startswith(data):
            return [], 0
        raise JournalCorrupt(path, 0, "not a journal")
    if not data.startswith(MAGIC):
        if data.startswith(_NAME):
            raise JournalVersion(path, data[len(_NAME)])
        raise JournalCorrupt(path, 0, "not a journal of this format")
    payloads: list[bytes] = []
    offset = len(MAGIC)
    while offset < len(data):
        start = offset + _FRAME.size
        if start > len(data):
            break
        length, checksum = _FRAME.unpack_from(data, offset)
        end = start + length
        if length > MAX_PAYLOAD or end > len(data):
            if length > MAX_PAYLOAD and any(data[offset:]):
                raise JournalCorrupt(path, offset, f"record of {length} bytes", payloads)
            break
        payload = data[start:end]
        if zlib.crc32(payload) != checksum:
            if end == len(data):
                break
            raise JournalCorrupt(path, offset, "wrong checksum", payloads)
        if length == 0 and not any(data[offset:]):
            # Blocks that were allocated and never written.
            break
        payloads.append(payload)
        offset = end
    if offset < len(data):
        why = _hidden(data, offset) or ("the first record is not whole" if keep_first and not payloads else "")
        if why:
            raise JournalCorrupt(path, offset, why, payloads)
    return payloads, offset


def _hidden(data: bytes, offset: int) -> str:
    """Why what begins at `offset` is no torn tail, though its first frame is not whole; empty: it is one."""
    start = offset + _FRAME.size
    if start < len(data) and any(data[offset:]):
        length, checksum = _FRAME.unpack_from(data, offset)
        # A torn record lacks bytes, so its sum cannot be right.
        if start + length != len(data) and zlib.crc32(memoryview(data)[start:]) == checksum:
            return f"record of {length} bytes, its checksum is that of {len(data) - start}"
    room = _SEARCH_BYTES + _SEARCH_FACTOR * (len(data) - offset)
    view = memoryview(data)
    for match in _MAY_BEGIN.finditer(data, offset + 1, len(data.rstrip(b"\0")) + _FRAME.size):
        start = match.start() + _FRAME.size
        if start >= len(data):
            break
        length, checksum = _FRAME.unpack_from(data, match.start())
        if start + length > len(data):
            continue
        room -= length
        if room < 0:
            return "not a whole record, and what follows cannot be told from damage"
        if zlib.crc32(view[start : start + length]) == checksum:
            return f"not a whole record, but a sound one follows at offset {match.start()}"
    return ""


def offset_of(payloads: Sequence[bytes], index: int) -> int:
    """Where the record `payloads[index]` begins in its file."""
    return len(MAGIC) + sum(_FRAME.size + len(payload) for payload in payloads[:index])
