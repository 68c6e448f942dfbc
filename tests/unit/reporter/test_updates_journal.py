"""Health and check updates over restarts and losses: what was told is remembered, or told once more."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from services.reporter import records as rec
from services.reporter.task import KEEP_HEALTH_UPDATES
from services.reporter.updates import Kind, kind_of
from tests.unit.reporter.sayings import Told, http, row, verdict

STARTING, RUNNING = mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING
HEALTH, CHECK = 29, 28


def test_a_restart_repeats_nothing_and_forgets_nothing() -> None:
    told = Told()
    told.tell(100.0)
    told.tell(110.0, verdict(1, healthy=False, reports=1, status=200, changes=1))
    told.tell(120.0)
    told.restart()
    assert told.tell(500.0) == []
    assert len(told.tell(510.0, verdict(2, healthy=False, reports=2, status=200, changes=1))) == 1
    told.restart()
    (check,) = told.tell(600.0, verdict(3, healthy=False, reports=2, status=503, changes=2))
    assert (row(check)[1:3], http(check)) == ((CHECK, False), 503)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 3, 5])
def test_the_loss_of_the_journal_repeats_each_kind_at_most_once_and_takes_nothing_back(keep: int, gated: bool) -> None:
    told = Told(gated=gated)
    told.tell(100.0, verdict(1, healthy=True, reports=1))
    told.tell(110.0, verdict(2, healthy=False, reports=2, status=200, changes=1))
    told.tell(120.0)
    told.tell(130.0, verdict(3, healthy=True, reports=3, status=200, changes=1))
    told.lose_journal(keep)
    said = [entry for now in (200.0, 201.0, 202.0, 203.0) for entry in told.tell(now)]
    assert sorted(row(entry)[1] or 0 for entry in said) in ([], [28], [29], [28, 29])
    assert all(entry.status.healthy and http(entry) == 200 for entry in said)
    assert told.tell(300.0) == []


def test_a_gated_aurora_task_with_a_check_is_not_taken_for_one_whose_updates_alternate() -> None:
    told = Told(gated=True)
    told.tell(100.0, verdict(1, healthy=True, status=200, changes=1))
    told.tell(101.0)
    told.lose_journal()
    # Two RUNNING: without the check's the second one would have been "unhealthy".
    assert told.task.chain.told_healthy is None
    assert [row(entry)[2] for entry in told.tell(200.0)] == [True]


def test_counters_that_start_again_are_news() -> None:
    told = Told()
    told.tell(100.0, verdict(9, healthy=False, reports=7, status=200, changes=5))
    told.tell(110.0)
    told.tell(120.0)
    told.hear(verdict(10, healthy=False, reports=1, status=503, changes=1))
    said = [*told.tell(130.0), *told.tell(131.0)]
    assert sorted(row(entry)[1] or 0 for entry in said) == [CHECK, HEALTH]


def test_what_was_told_survives_that_its_update_is_forgotten() -> None:
    told = Told()
    told.tell(100.0)
    told.tell(101.0, verdict(1, healthy=True, reports=1, status=200, changes=1))
    told.tell(102.0)
    forgotten, n = False, 1
    while not forgotten:
        n += 1
        assert n < 1000, "the check's own is gone at some time"
        assert len(told.tell(110.0 + 2 * n, verdict(n, healthy=n % 2 == 1, reports=n, status=200, changes=1))) == 1
        # The journal is one that was just rewritten.
        forgotten = told.trim() and not any(kind_of(entry.status) is Kind.CHECK for entry in told.task.entries)
    assert [entry.status.state for entry in told.task.entries[:2]] == [STARTING, RUNNING]
    assert len(told.journal) < 7 * KEEP_HEALTH_UPDATES
    told.restart()
    assert told.tell(900.0) == []


def test_the_first_running_is_kept_even_if_it_carries_a_reason() -> None:
    told = Told(gated=True)
    told.tell(100.0, verdict(1, healthy=True, reports=1))
    for n in range(2, 3 * KEEP_HEALTH_UPDATES):
        told.tell(110.0 + 2 * n, verdict(n, healthy=n % 2 == 1, reports=n))
        told.trim()
    assert [entry.n for entry in told.task.entries[:3]][:2] == [1, 2]


def test_a_journal_of_the_version_before_is_read() -> None:
    status = mesos_pb2.TaskStatus(task_id=mesos_pb2.TaskID(value="t"), state=RUNNING, healthy=True)
    old = rec.encode(rec.Proposed(2, 5.5, status.SerializeToString()))
    assert old.count(b",") == 3
    assert rec.decode(old) == rec.Proposed(2, 5.5, status.SerializeToString(), None)
    told = Told(gated=True)
    told.tell(100.0, verdict(1, healthy=True))
    # The same records without what is new in them.
    told.journal = [_as_before(payload) for payload in told.journal]
    told.restart()
    assert told.task.chain.told_healthy is True
    assert told.tell(200.0) == []
    assert [row(entry) for entry in told.tell(210.0, verdict(2, healthy=False))] == [(RUNNING, HEALTH, False, "probed")]


def _as_before(payload: bytes) -> bytes:
    record = rec.decode(payload)
    return rec.encode(record._replace(told=None) if isinstance(record, rec.Proposed) else record)


@pytest.mark.parametrize("payload", [b'["proposed",1,2.0,"",true,1]', b'["proposed",1,2.0,"",3,1,1]'])
def test_records_that_are_none_are_refused(payload: bytes) -> None:
    with pytest.raises(rec.BadRecord):
        rec.decode(payload)
