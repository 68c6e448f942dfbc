"""Journals: whole records or none, torn tails cut, damage named."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import time
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
    frame,
    offset_of,
    parse,
    read,
)
from services.common.syncer import Syncer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

payloads_strategy = st.lists(st.binary(max_size=60), max_size=10)


@given(payloads_strategy)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
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


def test_a_disk_that_takes_no_flush_is_reported_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    syncer = Syncer(interval=0.0)
    journal = Journal.create(str(tmp_path / "j"), syncer)
    journal.append(b"one")
    syncer.stop()
    journal.append(b"two")
    journal.close()
    assert syncer.errors > 0
    (record,) = caplog.records
    assert record.getMessage() == "journal not flushed to the disk"
    assert record.__dict__["fields"]["path"] == str(tmp_path / "j")
    assert read(str(tmp_path / "j"))[0] == [b"one", b"two"]


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    torn = MAGIC + frame(b"one") + frame(b"two")[:-1]
    path.write_bytes(torn)
    assert read(str(path)) == ([b"one"], len(MAGIC + frame(b"one")))
    assert path.read_bytes() == torn


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


@given(
    st.lists(st.binary(min_size=1, max_size=60), min_size=2, max_size=6),
    st.data(),
)
def test_a_changed_bit_of_a_length_never_hides_what_was_recorded_after_it(
    payloads: list[bytes], data: st.DataObject
) -> None:
    whole = bytearray(MAGIC + b"".join(map(frame, payloads)))
    record = data.draw(st.integers(0, len(payloads) - 1))
    offset = offset_of(payloads, record)
    bit = data.draw(st.integers(0, 31))
    whole[offset + bit // 8] ^= 1 << bit % 8
    with pytest.raises(JournalCorrupt, match=f"damaged at offset {offset}: ") as caught:
        parse("j", bytes(whole))
    assert list(caught.value.payloads) == payloads[:record]


def test_a_damaged_length_is_damage_and_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = bytearray(MAGIC + frame(b"one") + frame(b"two") + frame(b"three"))
    offset = len(MAGIC + frame(b"one"))
    # Says a megabyte more than there is: no longer than a record may be.
    whole[offset + 2] ^= 1 << 4
    path.write_bytes(whole)
    sound = offset + len(frame(b"two"))
    with pytest.raises(JournalCorrupt, match=rf"{path}: damaged at offset {offset}: .* follows at offset {sound}"):
        Journal.open(str(path))
    assert path.read_bytes() == whole


def test_a_torn_long_record_is_told_from_damage_in_linear_time() -> None:
    record = json.dumps({"data": "x" * (8 << 20)}).encode()
    for torn in (frame(record)[:-1], frame(record)[:4096] + bytes(4 << 20)):
        began = time.process_time()
        assert parse("j", MAGIC + frame(b"one") + torn) == ([b"one"], len(MAGIC + frame(b"one")))
        assert time.process_time() - began < 5
    # Every byte may begin a record of a megabyte: nobody sums up all of them.
    hostile = frame(bytes(range(1, 9)) * (1 << 19))[:-1]
    began = time.process_time()
    with pytest.raises(JournalCorrupt, match="cannot be told from damage"):
        parse("j", MAGIC + frame(b"one") + struct.pack("<II", len(hostile), 1) + b"\x01\x01\x01\x00" * (1 << 20))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("tail", [frame(b"one")[:-1], struct.pack("<I", 9), bytes(40)])
def test_a_first_record_that_is_not_whole_is_kept_for_those_who_ask(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(MAGIC + tail)
    with pytest.raises(JournalCorrupt, match=rf"offset {len(MAGIC)}: the first record is not whole"):
        Journal.open(str(path), keep_first=True)
    assert path.read_bytes() == MAGIC + tail


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null"])
def test_what_is_no_regular_file_is_refused_and_not_read(tmp_path: Path, target: str) -> None:
    path = tmp_path / "device.journal"
    path.symlink_to(target)
    for reading in (Journal.open, read):
        with pytest.raises(JournalCorrupt, match="not a regular file"):
            reading(str(path))
