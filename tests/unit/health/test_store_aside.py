"""What becomes of damaged journals."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from services.health.store import KEEP_DAMAGED, MOST_DAMAGED, Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checks"
    folder.mkdir()
    return folder


def put(path: Path, age: float) -> None:
    path.write_bytes(b"no journal")
    at = time.time() - age
    os.utime(path, (at, at))


def start(folder: Path) -> list[str]:
    assert list(Store(str(folder.parent), "boot").load()) == []
    return sorted(os.listdir(folder))


def test_what_was_put_aside_is_removed_after_7_days(folder: Path) -> None:
    put(folder / "old.journal.damaged", KEEP_DAMAGED + 60)
    put(folder / "new.journal.damaged", KEEP_DAMAGED - 600)
    assert start(folder) == ["new.journal.damaged"]


def test_the_7_days_begin_when_it_is_put_aside(folder: Path) -> None:
    put(folder / "quiet.journal", 2 * KEEP_DAMAGED)
    assert start(folder) == ["quiet.journal.damaged"]
    assert start(folder) == ["quiet.journal.damaged"]


def test_of_what_was_put_aside_the_newest_20_are_kept(folder: Path) -> None:
    for number in range(MOST_DAMAGED + 3):
        put(folder / f"{number:02}.journal.damaged", 60 * number + 60)
    put(folder / "another.journal", 0)
    kept = [f"{number:02}.journal.damaged" for number in range(MOST_DAMAGED - 1)]
    assert start(folder) == [*kept, "another.journal.damaged"]


def test_nothing_else_is_removed(folder: Path) -> None:
    for name in ("note.damaged", "copy.journal.damaged.gz"):
        put(folder / name, 2 * KEEP_DAMAGED)
    (folder / "made.journal.damaged").mkdir()
    os.utime(folder / "made.journal.damaged", (1, 1))
    assert start(folder) == ["copy.journal.damaged.gz", "made.journal.damaged", "note.damaged"]
