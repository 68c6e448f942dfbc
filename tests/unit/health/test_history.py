"""The newest results of a check: what GetCheck and the lists show."""

from __future__ import annotations

import json

import pytest

from services.health.history import LENGTH, History, Recorded
from services.health.interpret import Meaning


def recorded(number: int) -> Recorded:
    return Recorded(float(number), Meaning.SUCCESS, f"r{number}", 0.1)


def state(number: int) -> bytes:
    return json.dumps({"kind": "state", "result": recorded(number).to_json()}).encode()


EMPTY = json.dumps({"kind": "state"}).encode()
MANY = json.dumps({"kind": "results", "results": [recorded(number).to_json() for number in range(3)]}).encode()


@pytest.mark.parametrize(
    ("payloads", "newest"),
    [([], None), ([EMPTY], None), ([MANY], 2), ([MANY, EMPTY], 2), ([MANY, state(7)], 7), ([state(7), EMPTY], 7)],
)
def test_the_newest_of_an_earlier_process(payloads: list[bytes], newest: int | None) -> None:
    assert History(payloads).newest() == (None if newest is None else recorded(newest))


def test_what_came_later_is_newer_and_nothing_is_lost() -> None:
    history = History([MANY, state(7)])
    assert history.newest() == recorded(7)
    history.append(recorded(8))
    assert history.newest() == recorded(8)
    assert [each.detail for each in history] == ["r0", "r1", "r2", "r7", "r8"]
    for number in range(100):
        history.append(recorded(number))
    assert len(list(history)) == LENGTH
    assert history.newest() == recorded(99)


def test_records_that_cannot_be_read_are_said_once_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    history = History([b'{"result": ["x"]}'])
    assert history.newest() is None
    assert history.newest() is None
    assert list(history) == []
    assert [record.message for record in caplog.records] == ["results of an earlier process cannot be read"]
