"""Journals whose records cannot be: each is put aside, and the first that cannot be is named."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from services.common.journal import Journal, offset_of
from services.common.keys import TaskKey
from services.runner.processes import ProcessState
from tests.unit.runner.rig import EXECUTOR, Rig, in_loop, launched
from tests.unit.runner.world import facts
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path


def test_a_record_that_cannot_be_is_named_by_its_offset(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        (path,) = launched(rig, "t1")
        rig.runner.close()
        journal_, payloads = Journal.open(path)
        offset = journal_.size
        journal_.append(b'{"is":"phase","at":[1,1],"phase":1}')
        journal_.append(payloads[-1])
        journal_.close()
        for _ in range(2):
            rig = Rig(tmp_path)
            (shown,) = rig.store.damages
            assert shown.offset == offset
            assert f"damaged at offset {offset}: record {len(payloads)}: IllegalPhase: ACTIVE -> ACTIVE" in shown.error
            assert shown.key is not None
            rig.runner.close()

    in_loop(scenario)


END = b'{"is":"end","at":[1,1],"cause":1,"verdict":4,"clean_until":1,"end_at":1}'


def run_record(process: str, run: int, state: ProcessState, **more: bool) -> bytes:
    return json.dumps({"is": "run", "at": [1, 1], "process": process, "run": run, "state": state, **more}).encode()


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([run_record("p", 1, ProcessState.WAITING)], "IllegalTransition: run 1 begins while run 0 is FORKED"),
        ([run_record("p", 0, ProcessState.WAITING)], "IllegalTransition: FORKED -> WAITING"),
        (
            [run_record("p", 0, ProcessState.LOST), run_record("p", 2, ProcessState.WAITING)],
            "IllegalTransition: run 2 where run 1 is the next",
        ),
        (
            [run_record("p", 0, ProcessState.LOST), run_record("p", 0, ProcessState.WAITING, found=True)],
            "IllegalTransition: LOST -> WAITING",
        ),
        ([b'{"is":"phase","at":[1,1],"phase":2}'], "IllegalPhase: CLEANING without an end"),
        ([END, b'{"is":"phase","at":[1,1],"phase":3}'], "IllegalPhase: ACTIVE -> FINALIZING"),
    ],
)
def test_a_journal_that_says_what_cannot_be_is_put_aside(tmp_path: Path, records: list[bytes], why: str) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        path, sound = launched(rig, "t1", "t2")
        rig.runner.close()
        journal_, payloads = Journal.open(path)
        journal_.append_all(records)
        journal_.close()
        rig = Rig(tmp_path)
        (shown,) = rig.store.damages
        number = len(payloads) + len(records) - 1
        assert (
            shown.error
            == f"{path}: damaged at offset {offset_of([*payloads, *records], number)}: record {number}: {why}"
        )
        assert [book.log.path for book in rig.runner.books.values()] == [sound]
        rig.runner.close()

    in_loop(scenario)


@pytest.mark.parametrize("first", [0, 7])
def test_a_task_rebuilt_from_hands_that_have_dropped_old_runs_can_be_replayed(tmp_path: Path, first: int) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        (path,) = launched(rig, "t1", processes=[{"name": "p", "cmdline": "x", "max_failures": 0, "min_duration": 0}])
        rig.runner.close()
        os.unlink(path)
        key = TaskKey(EXECUTOR, "t1", 1)
        ended = [
            link_pb2.Run(process="p", run=run, state=link_pb2.RUN_STATE_EXITED, exit=link_pb2.Exit(code=1))
            for run in (first, 9)
        ]
        living = link_pb2.Run(process="p", run=12, state=link_pb2.RUN_STATE_RUNNING, pid=5)
        rig = Rig(tmp_path)
        session = rig.attach(
            link_pb2.HelloTask(key=key.to_pb(), hands=link_pb2.HandsState(runs=[*ended, living], alive=1))
        )
        rig.launch(session, processes=[{"name": "p", "cmdline": "x", "max_failures": 0, "min_duration": 0}])
        before = facts(rig.runner.books[key].state)
        assert list(rig.runner.books[key].state.runs["p"]) == [first, 9, 12]
        rig.runner.close()
        rig = Rig(tmp_path)
        assert rig.store.damages == []
        assert facts(rig.runner.books[key].state) == before
        session = rig.attach(link_pb2.HelloTask(key=key.to_pb(), hands=link_pb2.HandsState(runs=[living], alive=1)))
        rig.exit(session, key, 12, code=1)
        assert rig.runner.books[key].state.newest["p"].run == 13
        rig.runner.close()

    in_loop(scenario)
