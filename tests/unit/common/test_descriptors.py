"""Journals share a bounded number of open files, and nobody who writes notices."""

from __future__ import annotations

import os
import resource
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common import journal as journals
from services.common.descriptors import Descriptors
from services.common.journal import MAGIC, Journal, JournalUnavailable, frame, read
from services.common.syncer import Syncer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def open_files(directory: Path) -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(directory))
        except FileNotFoundError:
            # The descriptor of the listing itself.
            continue
    return found


@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["append", "rewrite", "again", "close"])), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_order_they_are_used_in_nothing_is_lost_and_few_are_open(
    tmp_path: Path, steps: list[tuple[int, str]]
) -> None:
    descriptors = Descriptors(3)
    files: dict[int, Journal] = {}
    content: dict[int, list[bytes]] = {}
    for count, (number, step) in enumerate(steps):
        path, record = str(tmp_path / str(number)), b"%d" % count
        if number not in files:
            files[number], content[number] = Journal.create(path, None, descriptors), []
        if step == "append":
            files[number].append(record)
            content[number].append(record)
        elif step == "rewrite":
            files[number].rewrite([record])
            content[number] = [record]
        elif step == "again":
            files[number].close()
            files[number], payloads = Journal.open(path, None, descriptors)
            assert payloads == content[number]
        else:
            files.pop(number).close()
            assert read(path)[0] == content.pop(number)
        assert len(descriptors) <= 3
    assert open_files(tmp_path) == len(descriptors)
    for number, each in files.items():
        each.close()
        assert read(each.path)[0] == content[number]
    assert open_files(tmp_path) == len(descriptors) == 0


def test_the_one_that_was_not_used_for_longest_is_closed_first(tmp_path: Path) -> None:
    descriptors = Descriptors(2)
    one, two, three = (Journal.create(str(tmp_path / name), None, descriptors) for name in "123")
    two.append(b"a")
    one.append(b"a")
    assert {os.readlink(f"/proc/self/fd/{each._fd}") for each in (one, two)} == {one.path, two.path}
    assert three._fd == -1
    for each in (one, two, three):
        each.close()


def test_by_default_half_of_the_soft_limit_is_for_journals(descriptor_limit: int) -> None:
    assert Descriptors().limit == descriptor_limit // 2


def test_when_others_have_taken_the_descriptors_journals_give_theirs_up(tmp_path: Path, descriptor_limit: int) -> None:
    descriptors = Descriptors(descriptor_limit)
    held = [Journal.create(str(tmp_path / str(number)), None, descriptors) for number in range(8)]
    others = []
    try:
        while True:
            others.append(os.dup(0))
    except OSError:
        pass
    try:
        with closing(Journal.create(str(tmp_path / "new"), None, descriptors)) as new:
            new.append(b"there")
        for each in held:
            each.append(b"still")
            each.rewrite([b"short"])
    finally:
        for fd in others:
            os.close(fd)
    for each in held:
        each.close()
        assert read(each.path)[0] == [b"short"]


def test_a_file_that_somebody_else_has_changed_while_it_was_closed_is_not_written_to(tmp_path: Path) -> None:
    journal = Journal.create(str(tmp_path / "j"), None, Descriptors(2))
    journal.append(b"one")
    journal.release()
    for data, why in (
        (MAGIC + frame(b"one") + b"x", "is 20 bytes long and was 19"),
        (MAGIC, "is 8 bytes long and was 19"),
    ):
        (tmp_path / "j").write_bytes(data)
        with pytest.raises(JournalUnavailable, match=why):
            journal.append(b"two")
        assert (tmp_path / "j").read_bytes() == data
    # Compaction brings what it should have been.
    journal.rewrite([b"whole"])
    journal.close()
    assert read(journal.path)[0] == [b"whole"]


def test_a_file_that_is_gone_is_said_and_not_made_anew(tmp_path: Path) -> None:
    journal = Journal.create(str(tmp_path / "j"), None, Descriptors(2))
    journal.release()
    os.unlink(journal.path)
    with pytest.raises(JournalUnavailable, match="No such file"):
        journal.append(b"one")
    assert os.listdir(tmp_path) == []
    journal.close()


@pytest.mark.parametrize("closed_between", [False, True])
def test_half_a_record_that_could_not_be_cut_off_is_cut_off_before_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_between: bool
) -> None:
    journal = Journal.create(str(tmp_path / "j"), None, Descriptors(2))
    journal.append(b"one")
    real = journals._write_all

    def half(fd: int, data: bytes) -> None:
        real(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(journals, "_write_all", half)
        patch.setattr(os, "ftruncate", refuse)
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match="Input/output error"):
                journal.append(b"two, which is long")
    if closed_between:
        journal.release()
    journal.append(b"three")
    journal.close()
    assert read(journal.path)[0] == [b"one", b"three"]


def test_any_number_of_dirty_journals_is_flushed_with_one_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptor_limit: int
) -> None:
    most, flushed = 0, set()
    real = os.fdatasync

    def watched(fd: int) -> None:
        nonlocal most
        most = max(most, open_files(tmp_path))
        flushed.add(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", watched)
    syncer = Syncer(interval=60.0)
    descriptors = Descriptors(4)
    files = [Journal.create(str(tmp_path / str(number)), syncer, descriptors) for number in range(100)]
    gone = files.pop()
    gone.close()
    os.unlink(gone.path)
    for each in files:
        each.append(b"x")
    syncer.stop()
    assert syncer.errors == 0
    assert flushed == {each.path for each in files}
    assert most <= 4 + 1
    for each in files:
        each.close()


@pytest.fixture
def descriptor_limit() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = len(os.listdir("/proc/self/fd")) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
