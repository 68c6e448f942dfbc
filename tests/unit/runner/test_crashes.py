"""The runner dies at every write to its journal and to the stream, and goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import pathlib
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from services.common.journal import Journal, read
from services.runner.header import Header, decode
from services.runner.recovery import read as read_book
from services.runner.store import Store
from tests.unit.runner.stage import Crasher, Stage
from tests.unit.runner.world import facts
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from trivet.runner.v1 import runner_pb2

TASK: dict[str, Any] = {
    "name": "n",
    "role": "r",
    "environment": "e",
    "task": {
        "processes": [
            {"name": "a", "cmdline": "a", "max_failures": 3, "min_duration": 1},
            {"name": "b", "cmdline": "b"},
            {"name": "e", "cmdline": "e", "ephemeral": True},
            {"name": "f", "cmdline": "f", "final": True},
        ],
        "constraints": [{"order": ["a", "b"]}],
    },
}
CODES = {"a": [1, 7, 0], "f": [3]}
KILLED = ("b", 0)


@pytest.fixture
def crasher(monkeypatch: pytest.MonkeyPatch) -> Crasher:
    return Crasher(monkeypatch)


def play(directory: Path, crasher: Crasher, *, kill: bool) -> tuple[Stage, runner_pb2.GetTaskResponse]:
    async def scenario() -> tuple[Stage, runner_pb2.GetTaskResponse]:
        stage = Stage(directory, crasher, TASK, CODES)
        if kill:
            stage.kill_during = KILLED
        return stage, stage.run()

    return asyncio.run(scenario())


def outcome(stage: Stage, details: runner_pb2.GetTaskResponse) -> object:
    """Everything that must be the same whenever the runner dies."""
    runs = [(r.process, r.run, r.state, r.exit.code, r.exit.signal, r.error) for r in details.runs]
    phases = [change.phase for change in details.task.phases]
    state = details.task.state
    return runs, phases, state.phase, state.end_cause, state.message, stage.started


@pytest.mark.parametrize("kill", [False, True])
def test_a_death_at_any_write_changes_nothing(tmp_path: Path, crasher: Crasher, kill: bool) -> None:
    crasher.plan()
    stage, details = play(tmp_path / "whole", crasher, kill=kill)
    expected, moments = outcome(stage, details), crasher.moments
    assert details.task.state.phase == (link_pb2.TASK_PHASE_KILLED if kill else link_pb2.TASK_PHASE_SUCCESS)
    assert stage.asked == ([0, 1] if kill else [])
    assert len(moments) > 20
    assert sum(map(len, moments)) > 75
    for moment, places in enumerate(moments):
        ways: list[str | int] = ["before", "after", *places]
        for mode in ways:
            directory = tmp_path / "crashed"
            crasher.plan(moment, mode)
            stage, details = play(directory, crasher, kill=kill)
            assert stage.crashes == 1
            assert not stage.rebuilt, f"moment {moment}, {mode}: the journal is lost"
            assert outcome(stage, details) == expected, f"moment {moment}, {mode}"
            shutil.rmtree(directory)


@pytest.mark.parametrize("seed", range(20))
def test_many_deaths_one_after_another_change_nothing(tmp_path: Path, crasher: Crasher, seed: int) -> None:
    dice = random.Random(seed)
    kill = bool(seed % 2)
    crasher.plan()
    expected = outcome(*play(tmp_path / "whole", crasher, kill=kill))

    async def scenario() -> tuple[Stage, runner_pb2.GetTaskResponse]:
        stage = Stage(tmp_path / "crashed", crasher, TASK, CODES)
        if kill:
            stage.kill_during = KILLED
        die = stage._die

        def die_and_plan() -> None:
            die()
            if stage.crashes < 30:
                ways: list[str | int] = ["before", "after", dice.randrange(400)]
                crasher.plan(dice.randrange(4), dice.choice(ways))
            else:
                crasher.plan()

        stage._die = die_and_plan  # type: ignore[method-assign]
        crasher.plan(dice.randrange(4), "after")
        return stage, stage.run()

    stage, details = asyncio.run(scenario())
    assert stage.crashes >= 3
    assert outcome(stage, details) == expected


def test_a_journal_cut_at_any_byte_is_a_prefix_of_what_was_recorded(tmp_path: Path, crasher: Crasher) -> None:
    crasher.plan()

    async def scenario() -> str:
        stage = Stage(tmp_path, crasher, TASK, CODES)
        while stage.state is None or stage.state.phase != link_pb2.TASK_PHASE_SUCCESS:
            if stage.rig is None:
                stage._begin()
            stage._step()
        assert stage.rig is not None
        (book,) = stage.rig.runner.books.values()
        stage.rig.runner.close()
        return book.log.path

    whole = pathlib.Path(asyncio.run(scenario())).read_bytes()
    path = str(tmp_path / "cut.journal")
    store = Store(str(tmp_path))
    states: dict[int, object] = {}
    lengths = []
    for length in range(len(whole) + 1):
        with open(path, "wb") as file:
            file.write(whole[:length])
        payloads, sound = read(path)
        assert sound <= length
        lengths.append(len(payloads))
        if not payloads:
            continue
        book = read_book(store.log_at(path), payloads)
        assert not isinstance(book, tuple)
        # The same number of records is the same state, wherever in the next one the file ends.
        state = facts(book.state)
        assert states.setdefault(len(payloads), state) == state
        assert isinstance(decode(payloads[0]), Header)
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == lengths[-1] + 1
    assert len(set(map(repr, states.values()))) == len(states), "every record changes something"
    # And the file goes on from there.
    for length in (len(whole) // 3, len(whole) // 2, len(whole) - 1):
        with open(path, "wb") as file:
            file.write(whole[:length])
        journal, before = Journal.open(path)
        journal.append(b"next")
        journal.close()
        assert read(path) == ([*before, b"next"], os.path.getsize(path))
