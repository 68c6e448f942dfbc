"""What is kept of remarks, and what is said of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from services.local_agent import remark_book
from services.local_agent.core.remarks import IgnoredUpdate, RefusedCall
from services.local_agent.remark_book import MAX_KEPT, MAX_LINES, PAUSE_SECS, RemarkBook, Sparing

if TYPE_CHECKING:
    import pytest


def _refused(container: str = "c", body: str = "no", *, passing: bool = False) -> RefusedCall:
    return RefusedCall(container, "UPDATE", 400, body, "fw", "shim", passing=passing)


def _ignored(task_id: str = "t1") -> IgnoredUpdate:
    return IgnoredUpdate("c", "fw", "shim", task_id, "TASK_RUNNING", "because")


def test_last_ones_are_kept_by_executor_and_kind() -> None:
    book = RemarkBook()
    for number in range(MAX_KEPT + 3):
        book.take([_refused(body=f"no {number}"), _refused("", "nobody")], float(number))
    book.take([_ignored()], 99.0)
    kept = book.refusals("c")
    assert [(at, one.body) for at, one in kept] == [(float(n), f"no {n}") for n in range(3, MAX_KEPT + 3)]
    assert len(book.refusals("")) == MAX_KEPT
    assert book.ignored("c") == [(99.0, _ignored())]
    assert not book.refusals("other")
    assert not book.ignored("other")


def test_executors_of_long_ago_are_forgotten() -> None:
    book = RemarkBook()
    for number in range(remark_book.MAX_CONTAINERS + 1):
        book.take([_refused(f"c{number}")], 1.0)
    assert book.refusals("c0") == []
    assert len(book.refusals("c1")) == 1


def test_same_text_is_said_once_a_while_with_the_number_of_those_left_out(caplog: pytest.LogCaptureFixture) -> None:
    book = RemarkBook()
    for at in (0.0, 1.0, PAUSE_SECS - 1, PAUSE_SECS, PAUSE_SECS + 1):
        book.take([_refused()], at)
    book.take([_refused(body="else"), _ignored()], PAUSE_SECS + 1)
    said = [(record.levelname, record.message, vars(record)["fields"]) for record in caplog.records]
    refused = {"executor": "shim", "framework": "fw", "call": "UPDATE", "status": 400, "body": "no"}
    assert said == [
        ("WARNING", "call refused", refused),
        ("WARNING", "call refused", {**refused, "left_out": 2}),
        ("WARNING", "call refused", {**refused, "body": "else"}),
        (
            "WARNING",
            "update ignored",
            {"executor": "shim", "framework": "fw", "task": "t1", "state": "TASK_RUNNING", "why": "because"},
        ),
    ]


def test_what_passes_by_itself_is_no_warning_and_long_texts_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    RemarkBook().take([_refused(body="x" * 1000 + "\udcff", passing=True)], 0.0)
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert vars(record)["fields"]["body"] == "x" * remark_book.MAX_TEXT + "..."
    assert remark_book.cut("a\udcff") == "a?"


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 20)), max_size=600))
def test_flood_is_held_back_and_nothing_is_uncounted(arrivals: list[tuple[int, float]]) -> None:
    sparing, at = Sparing(), 0.0
    said: list[float] = []
    by_text: dict[int, list[float]] = {}
    counted: dict[int, int] = {}
    for text, pause in arrivals:
        at += pause
        left_out = sparing.left_out(text, at)
        if left_out is None:
            counted[text] = counted.get(text, 0) + 1
            continue
        assert left_out == counted.pop(text, 0)
        said.append(at)
        by_text.setdefault(text, []).append(at)
    for times in by_text.values():
        assert all(later - earlier >= PAUSE_SECS for earlier, later in itertools.pairwise(times))
    for index in range(len(said) - MAX_LINES):
        assert said[index + MAX_LINES] - said[index] >= PAUSE_SECS
