"""Journals of checks on a real file system: read back, damaged, of another boot, on a full disk."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import TYPE_CHECKING

import pytest

from services.common.keys import Executor, TaskKey
from services.health import checks, records
from services.health.history import LENGTH, History, Recorded
from services.health.interpret import Meaning
from services.health.model import Cause, Check, Gap, Kind, Phase
from services.health.rules import Limits
from services.health.rules.aurora_time import Stage, State
from services.health.store import COMPACT_AT, CheckLog, Store
from services.health.verdict import Checks
from tests.unit.health.play import spec_of

if TYPE_CHECKING:
    from pathlib import Path

    from services.health.spec import Spec

H, C = Kind.HEALTH, Kind.CHECK
SPEC = spec_of(H, "aurora-time", Limits(15, 10, 0, 1))
TOLD = spec_of(C, "check", Limits(0, 10, 0, 1), gates=False)
HALF = Check(
    phase=Phase.PROBING,
    rule=State(Stage.SETTLED, True, False, 2, 0),
    message="failed",
    elapsed=12.5,
    last_done=999.25,
    probes=9,
    failures=3,
    transients=1,
    snoozes=2,
    snoozed_until=5000.5,
    gap=Gap(990.0, Cause.SNOOZED, "snoozed"),
    planned=1009.25,
    since=999.25,
)
NEW = checks.new("aurora-time")


def found(number: int) -> Recorded:
    return Recorded(1.7e9 + number, Meaning.SUCCESS, f"result {number}", 0.25)


def header(task_id: str = "t", *specs: Spec, boot_id: str = "boot") -> records.Header:
    key = TaskKey(Executor("f", "e/../..", "i"), task_id, 1)
    return records.Header(key, b"\1" * 32, boot_id, specs or (SPEC,))


class Kept:
    """The log of one task, with what the book would keep beside it."""

    def __init__(self, log: CheckLog, version: int = 12345) -> None:
        self.log = log
        self.version = version
        self.of = {spec.kind: checks.new(spec.rule) for spec in log.header.specs}
        self.histories = {kind: History() for kind in self.of}

    def save(self, check: Check | None = None, kind: Kind = H, newest: Recorded | None = None) -> bool:
        if check is not None:
            self.of[kind] = check
        if newest is not None:
            self.histories[kind].append(newest)
        task = Checks(self.version, dict(self.of)) if self.of else None
        return self.log.save(task, self.histories, None if check is None else kind, newest)


def opened(path: Path, head: records.Header) -> Kept:
    store = Store(str(path), head.boot_id)
    for log, _, _ in store.load():
        log.close()
    return Kept(store.new(head))


def files(path: Path) -> list[str]:
    return sorted(os.listdir(path / "checks"))


def load(path: Path, boot_id: str = "boot") -> dict[str, Check | None]:
    """The health checks."""
    loaded = {}
    for log, task, _ in Store(str(path), boot_id).load():
        loaded[log.header.key.task_id] = None if task is None else task.of[H]
        log.close()
    return loaded


def make(path: Path, head: records.Header, *states: Check) -> None:
    kept = opened(path, head)
    assert kept.save()
    for state in states:
        assert kept.save(state)
    kept.log.close()


def test_the_last_state_is_read_back(tmp_path: Path) -> None:
    make(tmp_path, header(), NEW, HALF)
    assert load(tmp_path) == {"t": HALF}


def test_a_header_alone_is_a_check_that_has_just_begun(tmp_path: Path) -> None:
    make(tmp_path, header())
    loaded = load(tmp_path)["t"]
    assert loaded is not None
    assert loaded.phase is Phase.IDLE


def test_both_checks_of_a_task_are_read_back_with_one_version(tmp_path: Path) -> None:
    kept = opened(tmp_path, header("t", SPEC, TOLD))
    kept.save()
    told = dataclasses.replace(checks.new("check"), phase=Phase.PROBING, probes=4)
    kept.save(HALF, newest=found(1))
    kept.version += 1
    kept.save(told, C, found(2))
    kept.log.close()
    ((log, task, histories),) = Store(str(tmp_path), "boot").load()
    log.close()
    assert task == Checks(12346, {H: HALF, C: told})
    assert [list(histories[kind]) for kind in (H, C)] == [[found(1)], [found(2)]]


def test_a_check_that_is_silent_is_found_behind_many_records_of_the_other(tmp_path: Path) -> None:
    kept = opened(tmp_path, header("t", SPEC, TOLD))
    kept.save()
    told = dataclasses.replace(checks.new("check"), phase=Phase.PROBING, probes=4)
    kept.save(told, C, found(0))
    for number in range(100):
        kept.save(HALF, newest=found(number))
    kept.log.close()
    ((log, task, histories),) = Store(str(tmp_path), "boot").load()
    log.close()
    assert task is not None
    assert task.of == {H: HALF, C: told}
    assert list(histories[C]) == [found(0)]


@pytest.mark.parametrize("count", [0, 1, LENGTH - 1, LENGTH, LENGTH + 1, 700])
def test_the_newest_results_are_read_back_oldest_first(tmp_path: Path, count: int) -> None:
    kept = opened(tmp_path, header())
    kept.save()
    for number in range(count):
        kept.save(HALF, newest=found(number))
    kept.log.close()
    ((log, _, histories),) = Store(str(tmp_path), "boot").load()
    log.close()
    histories[H].append(found(count))
    assert list(histories[H]) == [found(number) for number in range(max(count + 1 - LENGTH, 0), count + 1)]


def test_results_of_earlier_processes_survive_compaction_by_a_later_one(tmp_path: Path) -> None:
    kept = opened(tmp_path, header())
    kept.save()
    for number in range(60):
        kept.save(HALF, newest=found(number))
    kept.log.close()
    for again in range(6):
        ((log, task, histories),) = Store(str(tmp_path), "boot").load()
        assert task is not None
        for number in range(60):
            histories[H].append(found(number))
            log.save(task, histories, H, found(number))
        log.close()
        assert list(histories[H]) == [found(number) for number in range(10, 60)], again


def test_checks_of_another_boot_are_removed(tmp_path: Path) -> None:
    make(tmp_path, header(boot_id="before"), HALF)
    assert load(tmp_path) == {}
    assert files(tmp_path) == []


def test_a_torn_record_costs_only_itself(tmp_path: Path) -> None:
    make(tmp_path, header(), HALF, NEW)
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
    store = Store(str(tmp_path), "boot")
    assert list(store.load()) == []
    log = store.new(header("rule", dataclasses.replace(SPEC, rule="aurora-future")))
    log.save(Checks(1, {H: NEW}), {})
    log.close()
    assert load(tmp_path) == {}
    assert [name.endswith(".damaged") for name in files(tmp_path)] == [True]


def test_a_journal_of_a_newer_format_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(records, "FORMAT", 3)
        make(tmp_path, header())
    assert load(tmp_path) == {}
    assert [name.endswith(".damaged") for name in files(tmp_path)] == [True]


def test_an_empty_file_and_a_half_made_rewrite_are_removed(tmp_path: Path) -> None:
    make(tmp_path, header(), HALF)
    (tmp_path / "checks" / "x.journal").touch()
    (tmp_path / "checks" / "x.journal.new").write_bytes(b"half")
    assert load(tmp_path) == {"t": HALF}
    assert len(files(tmp_path)) == 1


def test_a_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    make(tmp_path, header(), *[HALF] * 1000)
    (name,) = files(tmp_path)
    assert (tmp_path / "checks" / name).stat().st_size < COMPACT_AT + 1000
    assert load(tmp_path) == {"t": HALF}


def test_a_full_disk_is_reported_once_and_healed_by_the_next_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = opened(tmp_path, header())
    path = tmp_path / "checks" / f"{header().key.file_name}.journal"
    path.symlink_to("/dev/full")
    with caplog.at_level(logging.INFO):
        assert not kept.save()
        assert not kept.save(HALF)
        assert len(caplog.records) == 1
        path.unlink()
        assert kept.save(HALF)
        assert len(caplog.records) == 2
    kept.log.close()
    assert load(tmp_path) == {"t": HALF}


def test_what_a_full_disk_has_cost_one_check_is_written_with_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = opened(tmp_path, header("t", SPEC, TOLD))
    assert kept.save()
    real = os.write
    with monkeypatch.context() as patch:

        def full(fd: int, data: bytes) -> int:
            if os.readlink(f"/proc/self/fd/{fd}").endswith(".journal"):
                raise OSError(28, "No space left on device")
            return real(fd, data)

        patch.setattr(os, "write", full)
        assert not kept.save(HALF)
    assert kept.save(checks.new("check"), C)
    kept.log.close()
    assert load(tmp_path) == {"t": HALF}


def test_deleting_removes_the_file_even_if_it_was_never_made(tmp_path: Path) -> None:
    kept = opened(tmp_path, header())
    kept.log.delete()
    kept.save(HALF)
    assert len(files(tmp_path)) == 1
    kept.log.delete()
    assert files(tmp_path) == []


def test_where_there_is_no_room_to_compact_records_are_added_all_the_same(tmp_path: Path) -> None:
    kept = opened(tmp_path, header())
    kept.save()
    (name,) = files(tmp_path)
    # A rewrite needs this name.
    (tmp_path / "checks" / f"{name}.new").mkdir()
    for _ in range(400):
        assert kept.save(HALF)
    kept.log.close()
    (tmp_path / "checks" / f"{name}.new").rmdir()
    assert load(tmp_path) == {"t": HALF}


def test_nobody_else_can_read_a_journal(tmp_path: Path) -> None:
    make(tmp_path, header(), HALF)
    (name,) = files(tmp_path)
    assert (tmp_path / "checks" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "checks").stat().st_mode & 0o777 == 0o700
