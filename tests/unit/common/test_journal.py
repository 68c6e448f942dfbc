"""Journals: whole records or none, torn tails cut, damage named."""

from __future__ import annotations

import os
import resource
import signal
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.journal import (
    MAGIC,
    MAX_PAYLOAD,
    Journal,
    JournalCorrupt,
    JournalUnavailable,
    RecordTooLong,
    Syncer,
    frame,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

payloads_strategy = st.lists(st.binary(max_size=60), max_size=10)


@given(payloads_strategy)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_appended_is_read(tmp_path: Path, payloads: list[bytes]) -> None:
    path = str(tmp_path / "j")
    journal = Journal.create(path)
    for payload in payloads:
        journal.append(payload)
    journal.close()
    again, read = Journal.open(path)
    again.close()
    # A trailing empty record cannot be told from blocks that were never written; services write none.
    while payloads and not payloads[-1] and read != payloads:
        payloads = payloads[:-1]
    assert read == payloads


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6), st.data())
def test_a_file_cut_anywhere_gives_a_prefix(payloads: list[bytes], data: st.DataObject) -> None:
    whole = MAGIC + b"".join(map(frame, payloads))
    cut = data.draw(st.integers(0, len(whole)))
    found, end = parse("j", whole[:cut])
    assert found == payloads[: len(found)]
    assert end <= cut
    # Exactly the records that are complete.
    assert len(MAGIC + b"".join(map(frame, payloads[: len(found) + 1]))) > cut or len(found) == len(payloads)


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=2, max_size=6), st.data())
def test_a_changed_byte_is_never_taken_for_a_record(payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(MAGIC + b"".join(map(frame, payloads)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        found, _ = parse("j", bytes(whole))
    except JournalCorrupt:
        return
    assert found == payloads[: len(found)]
    assert len(found) < len(payloads)


def test_damage_in_the_middle_names_file_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(MAGIC + frame(b"one") + frame(b"two")[:-1] + b"X" + frame(b"three"))
    with pytest.raises(JournalCorrupt, match=rf"{path}: damaged at offset {len(MAGIC) + len(frame(b'one'))}"):
        Journal.open(str(path))


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\0\0\0", frame(b"abc")[:-1] + b"X", struct.pack("<II", 99, 0)])
def test_a_torn_tail_is_cut_and_the_journal_goes_on(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(MAGIC + frame(b"one") + tail)
    journal, read = Journal.open(str(path))
    journal.append(b"two")
    journal.close()
    assert read == [b"one"]
    again, both = Journal.open(str(path))
    again.close()
    assert both == [b"one", b"two"]


@pytest.mark.parametrize("content", [b"", b"TRV", b"TRVTJ\0\0"])
def test_a_file_torn_inside_its_header_is_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    journal, read = Journal.open(str(path))
    journal.append(b"one")
    journal.close()
    assert read == []
    assert path.read_bytes() == MAGIC + frame(b"one")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"#!/bin/sh\necho hello\n")
    with pytest.raises(JournalCorrupt, match="not a journal"):
        Journal.open(str(path))


def test_an_absurd_length_is_damage_not_a_tail(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(MAGIC + struct.pack("<II", 1 << 31, 5) + b"x" * 50)
    with pytest.raises(JournalCorrupt, match="record of"):
        Journal.open(str(path))


def test_a_record_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    journal = Journal.create(path)
    journal.append(b"one")
    long = bytes(MAX_PAYLOAD + 1)
    size = os.path.getsize(path)
    for write in (journal.append, lambda record: journal.append_all([b"x", record]), lambda r: journal.rewrite([r])):
        with pytest.raises(RecordTooLong, match=rf"{path}: a record of {len(long)} bytes is longer than {MAX_PAYLOAD}"):
            write(long)
        assert os.path.getsize(path) == size
    assert os.listdir(tmp_path) == ["j"]
    longest = b"z" * MAX_PAYLOAD
    journal.append_all([longest, b"two"])
    journal.close()
    again, read = Journal.open(path)
    again.close()
    assert read == [b"one", longest, b"two"]


@pytest.fixture
def small_files() -> Iterator[int]:
    """Files of this process cannot grow beyond 1000 bytes: real write errors (EFBIG), partial writes included."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_no_partial_record_and_heals(tmp_path: Path, small_files: int) -> None:
    path = str(tmp_path / "j")
    journal = Journal.create(path)
    journal.append(b"a" * 500)
    with pytest.raises(JournalUnavailable, match="File too large"):
        journal.append(b"b" * 600)
    # What fits is still taken.
    journal.append(b"c" * 100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    journal.append(b"d" * 600)
    journal.close()
    again, read = Journal.open(path)
    again.close()
    assert read == [b"a" * 500, b"c" * 100, b"d" * 600]


def test_a_rewrite_that_fails_leaves_the_old_content(tmp_path: Path, small_files: int) -> None:
    path = str(tmp_path / "j")
    journal = Journal.create(path)
    journal.append(b"old")
    with pytest.raises(JournalUnavailable):
        journal.rewrite([b"x" * 2000])
    journal.append(b"more")
    journal.rewrite([b"new"])
    journal.append(b"newer")
    journal.close()
    again, read = Journal.open(path)
    again.close()
    assert read == [b"new", b"newer"]


def test_the_syncer_flushes_what_was_closed_meanwhile(tmp_path: Path) -> None:
    syncer = Syncer(interval=0.0)
    journal = Journal.create(str(tmp_path / "j"), syncer)
    for n in range(50):
        journal.append(b"%d" % n)
    journal.close()
    before = len(os.listdir("/proc/self/fd"))
    syncer.stop()
    assert syncer.errors == 0
    # Its duplicates are closed.
    assert len(os.listdir("/proc/self/fd")) <= before
