"""Journal records: what goes in comes out, and nothing else is taken for a record."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from services.reporter import records as rec
from services.reporter.task import ReportedTask
from trivet.link.v1 import link_pb2

STATUS = mesos_pb2.TaskStatus(task_id=mesos_pb2.TaskID(value="t"), state="TASK_RUNNING").SerializeToString()
KEY = TaskKey(Executor("f", "e", "i"), "t", 1)
RECORDS: list[rec.Record] = [
    rec.Opened(KEY, "epoch", (0, 1), gated=True),
    rec.Proposed(1, 12.5, STATUS),
    rec.Answered(1, b"\0" * 16, 2),
    rec.Acknowledged(1, b"\xff" * 16),
    rec.Latched(link_pb2.Latch(state=4, uuid=b"u").SerializeToString()),
    rec.Closed(1.5, link_pb2.TaskState(version=3).SerializeToString(), b""),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=10),
    max_leaves=12,
)
kinds = st.sampled_from(["opened", "proposed", "answered", "acknowledged", "latched", "closed"])


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_comes_back_as_it_was(record: rec.Record) -> None:
    assert rec.decode(rec.encode(record)) == record


@given(st.text(), st.text(), st.text(), st.text(), st.integers(0, 2**32 - 1))
def test_any_ids_survive(framework: str, executor: str, incarnation: str, task: str, launch: int) -> None:
    opened = rec.Opened(TaskKey(Executor(framework, executor, incarnation), task, launch), "e")
    assert rec.decode(rec.encode(opened)) == opened


@given(st.binary(max_size=200))
def test_noise_is_no_record(noise: bytes) -> None:
    with pytest.raises(rec.BadRecord):
        rec.decode(noise)


@given(kinds, st.lists(json_values, max_size=9))
def test_wrong_fields_are_no_record_or_one_that_replays(kind: str, fields: list[object]) -> None:
    try:
        record = rec.decode(json.dumps([kind, *fields]).encode())
        ReportedTask.replay([RECORDS[0], record])
    except rec.BadRecord:
        pass  # anything else that is raised fails the test


def test_a_status_without_its_required_fields_is_no_record() -> None:
    with pytest.raises(rec.BadRecord):
        rec.decode(rec.encode(rec.Proposed(1, 0.0, b"")))


@pytest.mark.parametrize(
    "records",
    [
        [],
        [rec.Proposed(1, 0.0, STATUS)],
        [RECORDS[0], RECORDS[0]],
        [RECORDS[0], rec.Answered(1, b"", 0)],
        [RECORDS[0], rec.Acknowledged(1, b"")],
        [RECORDS[0], rec.Proposed(2, 0.0, STATUS), rec.Proposed(2, 0.0, STATUS)],
    ],
)
def test_records_that_do_not_fit_each_other_are_refused(records: list[rec.Record]) -> None:
    with pytest.raises(rec.BadRecord):
        ReportedTask.replay(records)
