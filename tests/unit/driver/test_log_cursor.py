"""Reading a log that its owner writes, rotates, cuts off and turns into traps meanwhile. Real files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor_shim.driver.logs.cursor import GAP, NOTHING, PIECE_BYTES, ROTATED, TRUNCATED, Cursor, Piece
from executor_shim.driver.logs.files import LogMissing, LogRefused
from tests.effort import examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOG = "sandbox/.logs/p/0/stdout"
BIG = 1 << 40


class Log:
    """The task's side, and cursors that are closed in the end."""

    def __init__(self, sandbox: Path) -> None:
        self.sandbox = sandbox
        self.path = sandbox / LOG
        self.path.parent.mkdir(parents=True)
        self.cursors: list[Cursor] = []

    def cursor(self, path: str = LOG, *, file: int = 0, offset: int = 0, tail_lines: int = 0) -> Cursor:
        cursor = Cursor(str(self.sandbox), path)
        self.cursors.append(cursor)
        cursor.open(file=file, offset=offset, tail_lines=tail_lines)
        return cursor

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def rotate(self, keep: int = 5) -> None:
        """As the pump does it."""
        for number in range(keep, 1, -1):
            older = self.path.with_name(f"stdout.{number - 1}")
            if older.exists():
                older.rename(self.path.with_name(f"stdout.{number}"))
        self.path.rename(self.path.with_name("stdout.1"))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    for cursor in log.cursors:
        cursor.close()


def read_all(cursor: Cursor) -> list[Piece]:
    pieces = []
    while not (piece := cursor.read(BIG)).at_end:
        pieces.append(piece)
    return pieces


def text(cursor: Cursor) -> bytes:
    return b"".join(piece.data for piece in read_all(cursor))


def test_pieces_have_at_most_64_kib_and_their_offsets(log: Log) -> None:
    log.write(os.urandom(3 * PIECE_BYTES + 5))
    pieces = read_all(log.cursor())
    assert [(piece.offset, len(piece.data)) for piece in pieces] == [
        (0, PIECE_BYTES),
        (PIECE_BYTES, PIECE_BYTES),
        (2 * PIECE_BYTES, PIECE_BYTES),
        (3 * PIECE_BYTES, 5),
    ]
    assert b"".join(piece.data for piece in pieces) == log.path.read_bytes()


def test_reading_begins_at_an_offset_and_goes_on_with_what_is_written(log: Log) -> None:
    log.write(b"0123456789")
    cursor = log.cursor(offset=7)
    assert text(cursor) == b"789"
    log.write(b"abc")
    (piece,) = read_all(cursor)
    assert (piece.data, piece.offset) == (b"abc", 10)


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
        (b"no end", 1, b"no end"),
        (b"\n\n\n", 1, b"\n"),
        (b"", 3, b""),
        (b"x" * 70_000 + b"\n" + b"y" * 70_000 + b"\n", 1, b"y" * 70_000 + b"\n"),
        (b"a\n" + b"y" * (PIECE_BYTES - 1) + b"\n", 1, b"y" * (PIECE_BYTES - 1) + b"\n"),
    ],
)
def test_the_last_lines(log: Log, content: bytes, lines: int, expected: bytes) -> None:
    log.write(content)
    assert text(log.cursor(tail_lines=lines)) == expected


def test_the_last_lines_are_looked_for_within_16_mib(log: Log) -> None:
    log.path.touch()
    os.truncate(log.path, 1 << 40)
    cursor = log.cursor(tail_lines=1)
    assert (1 << 40) - (17 << 20) < cursor.offset < 1 << 40


def test_a_file_that_was_cut_off_is_read_from_its_start(log: Log) -> None:
    log.write(b"0123456789")
    cursor = log.cursor()
    text(cursor)
    os.truncate(log.path, 0)
    log.write(b"new")
    assert [(p.event, p.offset, p.data) for p in read_all(cursor)] == [(TRUNCATED, 0, b""), (NOTHING, 0, b"new")]


def test_a_rotated_log_is_read_to_its_end_and_then_the_next(log: Log) -> None:
    log.write(b"one")
    cursor = log.cursor()
    assert text(cursor) == b"one"
    log.write(b" two")
    log.rotate()
    assert text(cursor) == b" two"
    log.write(b"three")
    pieces = read_all(cursor)
    assert [(p.event, p.offset, p.data) for p in pieces] == [(ROTATED, 0, b""), (NOTHING, 0, b"three")]
    assert pieces[0].file == log.path.stat().st_ino


def test_several_rotations_while_nobody_looked_lose_nothing(log: Log) -> None:
    log.write(b"0")
    cursor = log.cursor()
    for number in range(1, 5):
        log.rotate()
        log.write(b"%d" % number)
    pieces = read_all(cursor)
    assert b"".join(p.data for p in pieces) == b"01234"
    assert [p.event for p in pieces if p.event] == [ROTATED] * 4


def test_what_was_rotated_away_altogether_is_a_gap(log: Log) -> None:
    log.write(b"0")
    cursor = log.cursor()
    assert text(cursor) == b"0"
    for number in range(1, 9):
        log.rotate(keep=3)
        log.write(b"%d" % number)
    pieces = read_all(cursor)
    assert pieces[0].event == GAP
    assert b"".join(p.data for p in pieces) == b"5678"


def test_a_reader_comes_back_after_rotations_to_where_it_was(log: Log) -> None:
    log.write(b"0123")
    before = log.cursor().read(2)
    log.rotate()
    log.write(b"45")
    log.rotate()
    log.write(b"67")
    again = log.cursor(file=before.file, offset=before.offset + len(before.data))
    assert text(again) == b"234567"


def test_a_reader_that_comes_back_too_late_is_told_of_the_gap(log: Log) -> None:
    log.write(b"0123")
    before = log.cursor().read(2)
    for number in range(4):
        log.rotate(keep=2)
        log.write(b"%d" % number)
    pieces = read_all(log.cursor(file=before.file, offset=2))
    assert pieces[0].event == GAP
    assert b"".join(p.data for p in pieces) == b"123"


def test_a_removed_log_stays_readable_until_there_is_a_new_one(log: Log) -> None:
    log.write(b"old")
    cursor = log.cursor()
    log.path.unlink()
    assert text(cursor) == b"old"
    log.write(b"new")
    pieces = read_all(cursor)
    assert [(p.event, p.data) for p in pieces] == [(GAP, b""), (NOTHING, b"new")]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(min_size=1, max_size=20), st.sampled_from(["rotate", "look"])), max_size=30))
def test_whatever_is_written_and_rotated_is_read_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | str]
) -> None:
    log = Log(tmp_path_factory.mktemp("log"))
    log.path.touch()
    cursor, written, seen = log.cursor(), b"", b""
    for step in steps:
        if isinstance(step, bytes):
            log.write(step)
            written += step
        elif step == "look":
            seen += text(cursor)
        else:
            log.rotate(keep=100)
            log.path.touch()
    seen += text(cursor)
    cursor.close()
    assert seen == written


# Traps


def test_a_missing_log_is_named(log: Log) -> None:
    with pytest.raises(LogMissing, match=r"^sandbox/\.logs/p/0/stdout: no such file$"):
        log.cursor()
    with pytest.raises(LogMissing, match=r"^sandbox/\.logs/q: no such file$"):
        log.cursor("sandbox/.logs/q/0/stdout")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "sandbox/../../x", "sandbox//x", "", ".", "a/./b", "a\0b/c"])
def test_a_path_that_leads_out_of_the_sandbox_is_refused(log: Log, path: str) -> None:
    with pytest.raises(LogRefused, match="not a path below the sandbox"):
        log.cursor(path)


def test_a_symbolic_link_instead_of_the_log_is_refused(log: Log) -> None:
    log.path.symlink_to("/etc/passwd")
    with pytest.raises(LogRefused, match=r"stdout: a symbolic link"):
        log.cursor()


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_symbolic_link_on_the_way_is_refused(log: Log, tmp_path: Path, depth: int) -> None:
    log.write(b"secret")
    place = [log.path.parent, *log.path.parent.parents][depth]
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LogRefused, match="not a directory, or a symbolic link"):
        log.cursor()


def test_a_backup_that_is_a_link_is_refused(log: Log) -> None:
    log.write(b"x")
    cursor = log.cursor()
    text(cursor)
    log.path.unlink()
    log.path.symlink_to("/etc/passwd")
    with pytest.raises(LogRefused):
        read_all(cursor)


def test_nothing_but_a_regular_file_is_opened(log: Log) -> None:
    os.mkfifo(log.path)
    with pytest.raises(LogRefused, match="not a regular file"):
        log.cursor()
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(LogRefused, match="not a regular file"):
        log.cursor()


def test_a_hard_link_to_a_file_of_somebody_else_is_refused(log: Log, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    os.link(tmp_path / "secret", log.path)
    with pytest.raises(LogRefused, match="has 2 names"):
        log.cursor()


def test_no_descriptor_is_left_open(log: Log) -> None:
    log.write(b"x")
    before = len(os.listdir("/proc/self/fd"))
    for path in (LOG, "sandbox/.logs/q/0/stdout", "sandbox/.logs/p/0/stderr", "sandbox"):
        cursor = Cursor(str(log.sandbox), path)
        try:
            cursor.open(file=0, offset=0, tail_lines=0)
        except (LogMissing, LogRefused):
            pass
        cursor.close()
    assert len(os.listdir("/proc/self/fd")) == before
