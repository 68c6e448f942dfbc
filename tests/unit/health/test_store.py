"""Journals of checks on a real file system: read back, damaged, of another boot, on a full disk."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from services.common.keys import Executor, TaskKey
from services.health import checks, records
from services.health.model import Check, Phase
from services.health.rules import Limits
from services.health.rules.aurora_time import Stage, State
from services.health.spec import HttpTarget, Spec
from services.health.store import COMPACT_AT, Store

if TYPE_CHECKING:
    from pathlib import Path

SPEC = Spec(HttpTarget(31001, "/health", "ok", 0), 1, Limits(15, 10, 0, 1), "aurora-time")
HALF = Check(
    phase=Phase.PROBING,
    rule=State(Stage.SETTLED, True, False, 2, 0),
    message="failed",
    version=12345,
    elapsed=12.5,
    last_done=999.25,
    probes=9,
    failures=3,
    transients=1,
    remaining=None,
)


def header(task_id: str = "t", spec: Spec | None = SPEC, boot_id: str = "boot") -> records.Header:
    return records.Header(TaskKey(Executor("f", "e/../..", "i"), task_id, 1), b"\1" * 32, boot_id, spec)


def files(path: Path) -> list[str]:
    return sorted(os.listdir(path / "checks"))


def load(path: Path, boot_id: str = "boot") -> dict[str, Check | None]:
    loaded = {}
    for log, check in Store(str(path), boot_id).load():
        loaded[log.header.key.task_id] = check
        log.close()
    return loaded


def make(path: Path, head: records.Header, *states: Check | None) -> None:
    store = Store(str(path), head.boot_id)
    list(store.load())
    log = store.new(head)
    for state in states:
        assert log.save(state)
    log.close()


def test_the_last_state_is_read_back(tmp_path: Path) -> None:
    make(tmp_path, header(), checks.new("aurora-time"), HALF)
    assert load(tmp_path) == {"t": HALF}


def test_header_and_spec_are_read_back() -> None:
    for head in (header(), header(spec=None), header("tä\ud800sk\n")):
        assert records.decode_header(records.encode_header(head)) == head


def test_a_task_without_a_check_is_read_back(tmp_path: Path) -> None:
    make(tmp_path, header(spec=None), None)
    assert load(tmp_path) == {"t": None}


def test_a_header_alone_is_a_check_that_has_just_begun(tmp_path: Path) -> None:
    make(tmp_path, header(), None)
    loaded = load(tmp_path)["t"]
    assert loaded is not None
    assert loaded.phase is Phase.IDLE


def test_checks_of_another_boot_are_removed(tmp_path: Path) -> None:
    make(tmp_path, header(boot_id="before"), HALF)
    assert load(tmp_path) == {}
    assert files(tmp_path) == []


def test_a_torn_record_costs_only_itself(tmp_path: Path) -> None:
    make(tmp_path, header(), HALF, checks.new("aurora-time"))
    (name,) = files(tmp_path)
    path = tmp_path / "checks" / name
    path.write_bytes(path.read_bytes()[:-7])
    assert load(tmp_path) == {"t": HALF}


@pytest.mark.parametrize("offset", [0, 20, 60])
def test_a_damaged_journal_is_put_aside_and_the_others_are_read(
    tmp_path: Path, offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, header(), HALF, HALF)
    (name,) = files(tmp_path)
    make(tmp_path, header("other"), HALF)
    path = tmp_path / "checks" / name
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)
    with caplog.at_level(logging.ERROR):
        assert load(tmp_path) == {"other": HALF}
    assert f"{name}.damaged" in files(tmp_path)
    assert "put aside" in caplog.text


def test_records_of_a_newer_version_are_put_aside(tmp_path: Path) -> None:
    newer = Spec(SPEC.target, 1, SPEC.limits, "aurora-future")
    store = Store(str(tmp_path), "boot")
    list(store.load())
    log = store.new(header(spec=newer))
    log.save(None)
    log.close()
    assert load(tmp_path) == {}
    assert [name.endswith(".damaged") for name in files(tmp_path)] == [True]


def test_an_empty_file_and_a_half_made_rewrite_are_removed(tmp_path: Path) -> None:
    make(tmp_path, header(), HALF)
    (tmp_path / "checks" / "x.journal").touch()
    (tmp_path / "checks" / "x.journal.new").write_bytes(b"half")
    assert load(tmp_path) == {"t": HALF}
    assert len(files(tmp_path)) == 1


def test_a_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    make(tmp_path, header(), *[HALF] * 3000)
    (name,) = files(tmp_path)
    assert (tmp_path / "checks" / name).stat().st_size < COMPACT_AT + 1000
    assert load(tmp_path) == {"t": HALF}


def test_a_full_disk_is_reported_once_and_healed_by_the_next_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path), "boot")
    list(store.load())
    path = tmp_path / "checks" / f"{header().key.file_name}.journal"
    path.symlink_to("/dev/full")
    log = store.new(header())
    with caplog.at_level(logging.INFO):
        assert not log.save(checks.new("aurora-time"))
        assert not log.save(HALF)
        assert len(caplog.records) == 1
        path.unlink()
        assert log.save(HALF)
        assert len(caplog.records) == 2
    log.close()
    assert load(tmp_path) == {"t": HALF}


def test_deleting_removes_the_file_even_if_it_was_never_made(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "boot")
    list(store.load())
    log = store.new(header())
    log.delete()
    log.save(HALF)
    assert len(files(tmp_path)) == 1
    log.delete()
    assert files(tmp_path) == []


def test_where_there_is_no_room_to_compact_records_are_added_all_the_same(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "boot")
    list(store.load())
    log = store.new(header())
    log.save(None)
    (name,) = files(tmp_path)
    # A rewrite needs this name.
    (tmp_path / "checks" / f"{name}.new").mkdir()
    for _ in range(1500):
        assert log.save(HALF)
    log.close()
    (tmp_path / "checks" / f"{name}.new").rmdir()
    assert load(tmp_path) == {"t": HALF}
