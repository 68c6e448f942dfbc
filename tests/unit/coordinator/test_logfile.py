"""Rules of log files: exact limits, numbered backups, nothing raised, what is dropped is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor_shim.coordinator import logfile
from executor_shim.coordinator.logfile import Console, LogFile, LogRules, Unwritable, open_log


def log(path: Path, limit: int = 0, backups: int = 0) -> LogFile:
    return LogFile(os.fsencode(path), LogRules(limit=limit, backups=backups))


def whole(path: Path) -> bytes:
    """All that is left, oldest first."""
    numbers = [int(file.name.rpartition(".")[2]) for file in path.parent.glob("log.*")]
    files = [path.with_name(f"log.{number}") for number in sorted(numbers, reverse=True)]
    return b"".join(file.read_bytes() for file in [*files, path])


@settings(deadline=None)  # files are as slow as the machine is busy
@given(st.integers(1, 40), st.integers(1, 4), st.lists(st.binary(max_size=90), max_size=12))
def test_no_file_exceeds_the_limit_and_the_newest_bytes_are_all_there(
    limit: int, backups: int, pieces: list[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "log")
        file = log(path, limit, backups)
        for piece in pieces:
            file.write(piece)
            for there in path.parent.iterdir():
                assert there.stat().st_size <= limit
        file.close()
        said = b"".join(pieces)
        if not said:
            return
        kept = whole(path)
        assert said.endswith(kept)
        # Nothing goes before all backups are full to the byte.
        assert len(kept) == len(said) if len(said) <= limit * (backups + 1) else len(kept) > limit * backups
        assert {there.name for there in path.parent.iterdir()} <= {"log", *(f"log.{n + 1}" for n in range(backups))}


def test_backup_1_is_the_newest(tmp_path: Path) -> None:
    file = log(tmp_path / "log", limit=3, backups=2)
    for piece in (b"one", b"two", b"3rd", b"4th"):
        file.write(piece)
    assert {there.name: there.read_bytes() for there in tmp_path.iterdir()} == {
        "log": b"4th", "log.1": b"3rd", "log.2": b"two",
    }  # fmt: skip


def test_a_huge_number_of_backups_costs_nothing(tmp_path: Path) -> None:
    file = log(tmp_path / "log", limit=1, backups=2**31 - 1)
    file.write(b"abc")
    assert whole(tmp_path / "log") == b"abc"


def test_a_file_that_is_there_already_counts(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"12345678")
    file = log(tmp_path / "log", limit=10, backups=1)
    file.write(b"9abc")
    assert (tmp_path / "log.1").read_bytes() == b"123456789a"
    assert (tmp_path / "log").read_bytes() == b"bc"


def test_external_truncation_gives_room_again_and_leaves_no_hole(tmp_path: Path) -> None:
    file = log(tmp_path / "log", limit=10, backups=1)
    file.write(b"123456789")
    os.truncate(tmp_path / "log", 0)
    file.write(b"abcdefgh")
    assert (tmp_path / "log").read_bytes() == b"abcdefgh"
    assert not (tmp_path / "log.1").exists()


def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    file = log(tmp_path / "log")
    file.write(b"gone")
    (tmp_path / "log").unlink()
    file.write(b"here")
    assert (tmp_path / "log").read_bytes() == b"here"


def test_what_was_dropped_is_told_as_soon_as_the_file_can_be_written(tmp_path: Path) -> None:
    file = log(tmp_path / "no" / "log")
    file.write(b"12345")
    file.write(b"678")
    (tmp_path / "no").mkdir()
    file.write(b"more\n")
    expected = b"[trivet: 8 bytes dropped: No such file or directory]\nmore\n"
    assert (tmp_path / "no" / "log").read_bytes() == expected


def test_what_was_dropped_last_is_told_at_the_end(tmp_path: Path) -> None:
    file = log(tmp_path / "no" / "log")
    file.write(b"12345")
    (tmp_path / "no").mkdir()
    file.close()
    assert b"5 bytes dropped" in (tmp_path / "no" / "log").read_bytes()


def test_a_directory_in_place_of_a_backup_costs_the_output_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    file = log(tmp_path / "log", limit=4, backups=1)
    file.write(b"123456")
    file.write(b"7")
    assert (tmp_path / "log").read_bytes() == b"1234"
    (tmp_path / "log.1").rmdir()
    file.write(b"end\n")
    assert whole(tmp_path / "log").endswith(b"end\n")
    assert max(there.stat().st_size for there in tmp_path.iterdir()) <= 4


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_nothing_but_a_file_is_opened_and_no_link_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "victim")
    else:
        path.mkdir()
    with pytest.raises((OSError, Unwritable)):
        open_log(os.fsencode(path))
    log(path).write(b"dropped")
    assert not (tmp_path / "victim").exists()


def test_device_is_no_log() -> None:
    with pytest.raises(Unwritable, match="not a regular file"):
        open_log(b"/dev/null")


# RLIMIT_FSIZE is a full disk for everybody: half of a write goes through, the rest fails.
FULL = """
import os, resource, sys
from executor_shim.coordinator.logfile import LogFile, LogRules
path = sys.argv[1]
file = LogFile(os.fsencode(path), LogRules())
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
for piece in (b"12345678", b"9abc", b"def", b"\\n"):
    file.write(piece)
assert os.path.getsize(path) == 10
resource.setrlimit(resource.RLIMIT_FSIZE, (14, resource.RLIM_INFINITY))
file.write(b"x")
# No half of a note is left behind by an attempt that could not be finished.
assert os.path.getsize(path) == 10, open(path).read()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write(b"healed\\n")
print(open(path).read(), end="")
"""


def test_full_disk_keeps_what_fits_and_heals(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "log")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "123456789a\n[trivet: 7 bytes dropped: File too large]\nhealed\n"


def test_console_that_nobody_reads_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "CONSOLE_WAIT", 1)
    read_end, write_end = os.pipe()
    console = Console(write_end)
    for _ in range(40):
        console.write(b"x" * 4095 + b"\n")
    os.set_blocking(read_end, False)
    first = os.read(read_end, 1 << 20)
    assert first == (b"x" * 4095 + b"\n") * 16
    console.write(b"again\n")
    assert os.read(read_end, 1 << 20) == b"[trivet: %d bytes dropped: nobody reads]\nagain\n" % (24 * 4096)
    os.close(read_end)
    # Even without any reader, nothing is raised.
    console.write(b"into nothing")
    os.close(write_end)


def test_notes_begin_on_a_line_of_their_own(tmp_path: Path) -> None:
    file = log(tmp_path / "log", limit=0)
    file.write(b"half a line")
    (tmp_path / "log").unlink()
    (tmp_path / "log").mkdir()
    file.write(b"lost")
    (tmp_path / "log").rmdir()
    file.write(b"")
    assert re.fullmatch(rb"\n\[trivet: 4 bytes dropped: .*\]\n", (tmp_path / "log").read_bytes())
