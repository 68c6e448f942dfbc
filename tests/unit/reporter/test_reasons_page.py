"""docs/reasons.md is what the table says, and the table of reasons is Mesos'."""

from __future__ import annotations

import re

import pytest

from mesos.v1 import mesos_pb2
from services.reporter.mapping import TABLE, Situation
from services.reporter.writer import ALLOWED_REASONS, StatusWriter
from tools.generate_reasons import EXECUTOR, PAGE, REASONS, page


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text() == page(), "run: python -m tools.generate_reasons"


def test_the_page_lists_all_reasons_of_mesos_with_their_owners() -> None:
    assert set(REASONS) == set(mesos_pb2.TaskStatus.Reason.values()) == set(range(35))
    text = page()
    for name, number in mesos_pb2.TaskStatus.Reason.items():
        assert re.search(rf"^\| {number} \| {name.removeprefix('REASON_')} \|", text, re.MULTILINE), name


def test_the_reasons_of_executors_are_those_that_may_leave() -> None:
    assert {number for number, reason in REASONS.items() if EXECUTOR in reason.owner} == ALLOWED_REASONS
    rows = dict(re.findall(r"^\| (\d+) \| [A-Z_]+ \|.*\| (sends it|could|) \| [^|]*\|$", page(), re.MULTILINE))
    assert {int(number) for number, said in rows.items() if said == "sends it"} == {14, 28, 29, 33}
    assert {int(number) for number, said in rows.items() if said == "could"} == {15}
    assert len(rows) == 35


@pytest.mark.parametrize("situation", Situation)
def test_every_row_says_when_and_its_example_is_a_message_that_is_sent(situation: Situation) -> None:
    row = TABLE[situation]
    assert row.when
    if row.example:
        status = StatusWriter().write(
            situation, task_id="t", detail=row.example, health_checked=True, timestamp=1.0, healthy=True
        )
        assert f"e.g. `{status.message}`" in page()


def test_a_state_that_changes_is_told_with_its_row_in_the_page() -> None:
    lines = [line for line in page().splitlines() if line.startswith(("| STARTING", "| RUNNING", "| KILL"))]
    assert len(lines) == sum(TABLE[s].state in (0, 1, 4, 8) for s in Situation)
    assert "| KILLED |  | false | Mesos' health check has ended the task |" in page()
    assert "Only the newest update of each state survives" in page()
