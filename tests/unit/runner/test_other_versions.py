"""Journals that another version has written: refused by name, and left as they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from services.common import journal as journals
from services.common.journal import Journal, JournalCorrupt, JournalVersion
from services.runner.store import JournalUnreadable
from tests.unit.runner.rig import Rig, damage, in_loop, launched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def newer_file(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(7)
        file.write(b"\x02")


def newer_header(path: str) -> None:
    _, payloads = Journal.open(path)
    newer = Journal.create(path)
    newer.append_all([payloads[0].replace(b'"format":1', b'"format":2'), *payloads[1:]])
    newer.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / "tasks" / name).read_bytes() for name in os.listdir(directory / "tasks")}


@pytest.mark.parametrize(
    ("make_newer", "words"),
    [
        (newer_file, "format version 2, this program reads version 1"),
        (newer_header, "format 2, this version reads 1"),
    ],
)
def test_a_journal_of_another_version_fails_the_start_names_both_and_stays_as_it_is(
    tmp_path: Path, make_newer: Callable[[str], None], words: str
) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        paths = sorted(launched(rig, "t1", "t2", "t3"))
        rig.runner.close()
        make_newer(paths[1])
        before = contents(tmp_path)
        with pytest.raises(JournalUnreadable) as caught:
            Rig(tmp_path)
        assert str(caught.value).startswith(f"{paths[1]}: {words}; start the version that has written it; ")
        assert "move the file away" in str(caught.value)
        assert contents(tmp_path) == before
        # As it says.
        os.rename(paths[1], tmp_path / "away")
        rig = Rig(tmp_path)
        assert sorted(book.log.path for book in rig.runner.books.values()) == [paths[0], paths[2]]
        rig.runner.close()

    in_loop(scenario)


def test_a_journal_of_another_version_that_was_put_aside_is_shown_and_holds_nobody_up(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        (path,) = launched(rig, "t1")
        rig.runner.close()
        damage(path, 1)
        (damaged,) = Rig(tmp_path).store.damages
        newer_file(damaged.path)
        (shown,) = Rig(tmp_path).store.damages
        assert shown.error == f"{damaged.path}: format version 2, this program reads version 1"

    in_loop(scenario)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_every_other_version_is_named(tmp_path: Path, version: int) -> None:
    path = tmp_path / "j"
    data: Any = journals.MAGIC[:-1] + bytes([version]) + journals.frame(b"one")
    path.write_bytes(data)
    for look in (Journal.open, journals.read):
        with pytest.raises(JournalVersion) as caught:
            look(str(path))
        assert caught.value.version == version
        assert str(caught.value) == f"{path}: format version {version}, this program reads version 1"
    assert path.read_bytes() == data


def test_another_kind_of_file_is_no_other_version(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"#!/bin/sh\necho\n")
    with pytest.raises(JournalCorrupt, match="not a journal") as caught:
        Journal.open(str(tmp_path / "j"))
    assert not isinstance(caught.value, JournalVersion)
