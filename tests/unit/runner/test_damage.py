"""Journals that are damaged: put aside with file and offset, shown, and never forgotten silently."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from services.common import journal
from services.common.journal import Journal, JournalCorrupt, read
from services.common.keys import TaskKey
from services.runner.errors import DamagedTask, UnknownTask
from tests.unit.runner.rig import EXECUTOR, Rig, damage, in_loop, launched, lengthen
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path


def test_a_damaged_journal_is_shown_with_file_and_offset_until_somebody_removes_it(tmp_path: Path) -> None:
    def scenario() -> None:
        first = Rig(tmp_path)
        path, _ = launched(first, "t1", "t2")
        first.runner.close()
        offset = damage(path, 2)
        # Shown by the runner that finds it, and by those after it.
        for _ in range(2):
            rig = Rig(tmp_path)
            assert [key.task_id for key in rig.runner.books] == ["t2"]
            (shown,) = rig.queries.page(runner_pb2.ListTasksRequest()).damaged
            assert (shown.path, shown.offset) == (f"{path}.damaged", offset)
            assert f"damaged at offset {offset}: wrong checksum" in shown.error
            assert path in shown.error
            assert TaskKey.of(shown.key) == TaskKey(EXECUTOR, "t1", 1)
            with pytest.raises(DamagedTask, match=rf"'t1'.*offset {offset}"):
                rig.queries.get("t1")
            rig.runner.close()
        os.unlink(f"{path}.damaged")
        rig = Rig(tmp_path)
        assert list(rig.queries.page(runner_pb2.ListTasksRequest()).damaged) == []
        with pytest.raises(UnknownTask):
            rig.queries.get("t1")

    in_loop(scenario)


@pytest.mark.parametrize("record", [0, 2])
def test_a_damaged_length_puts_the_journal_aside_and_forgets_nothing_silently(tmp_path: Path, record: int) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        running = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_RUNNING, pid=5)
        rig.say(session, hands=link_pb2.Hands(key=key.to_pb(), state=link_pb2.HandsState(runs=[running], alive=1)))
        kill = link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL, seq=1, grace_secs=5)
        rig.say(session, end=link_pb2.End(key=key.to_pb(), request=kill))
        path = rig.runner.books[key].log.path
        rig.runner.close()
        offset = lengthen(path, record)
        with open(path, "rb") as file:
            content = file.read()
        rig = Rig(tmp_path)
        (shown,) = rig.store.damages
        assert (shown.path, shown.offset, shown.key) == (f"{path}.damaged", offset, key if record else None)
        assert f"{path}: damaged at offset {offset}: " in shown.error
        with open(shown.path, "rb") as file:
            assert file.read() == content
        assert key not in rig.runner.books
        rig.runner.close()

    in_loop(scenario)


def test_a_journal_without_a_whole_record_is_put_aside_and_not_deleted(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        (path,) = launched(rig, "t1")
        rig.runner.close()
        payloads, _ = read(path)
        torn = journal.MAGIC + journal.frame(payloads[0])[:-1]
        with open(path, "wb") as file:
            file.write(torn)
        rig = Rig(tmp_path)
        (shown,) = rig.store.damages
        assert (shown.path, shown.offset) == (f"{path}.damaged", len(journal.MAGIC))
        with open(shown.path, "rb") as file:
            assert file.read() == torn
        rig.runner.close()
        # With nothing in it there is nothing to keep.
        with open(path, "wb") as file:
            file.write(journal.MAGIC)
        assert len(Rig(tmp_path).store.damages) == 1
        assert not os.path.exists(path)

    in_loop(scenario)


def test_a_task_that_is_rebuilt_says_what_became_of_its_journal_even_after_another_restart(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        (path,) = launched(rig, "t1")
        rig.runner.close()
        offset = damage(path, 1)
        key = TaskKey(EXECUTOR, "t1", 1)
        running = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_RUNNING, pid=5)
        known = link_pb2.HelloTask(key=key.to_pb(), hands=link_pb2.HandsState(runs=[running], alive=1))
        for first in (True, False):
            rig = Rig(tmp_path)
            session = rig.attach(known)
            if first:
                rig.launch(session)
            task = rig.queries.get("t1").task
            assert task.state.rebuilt
            assert any(f"offset {offset}" in text for text in task.warnings)
            rig.runner.close()

    in_loop(scenario)


def test_a_second_damaged_journal_of_a_task_does_not_replace_the_first(tmp_path: Path) -> None:
    def scenario() -> None:
        for number in range(3):
            rig = Rig(tmp_path)
            (path,) = launched(rig, "t1")
            rig.runner.close()
            damage(path, 1)
            assert len(Rig(tmp_path).store.damages) == number + 1
        names = sorted(os.listdir(tmp_path / "tasks"))
        assert [name.partition(".journal")[2] for name in names] == [".damaged", ".damaged.1", ".damaged.2"]

    in_loop(scenario)


def test_sound_records_before_the_damage_are_told_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    written = Journal.create(path)
    written.append_all([b"one", b"two", b"three"])
    written.close()
    offset = damage(path, 1) if (tmp_path / "j").stat().st_size > 0 else 0
    with pytest.raises(JournalCorrupt) as caught:
        read(path)
    assert (list(caught.value.payloads), caught.value.offset) == ([b"one"], offset)
