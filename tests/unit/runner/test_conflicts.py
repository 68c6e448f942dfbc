"""Two sides that say different things of one task: it goes on as recorded, and the difference is told.

(Thermos: the task equals the stored one.)
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from services.common.keys import TaskKey
from services.runner.records import Phase
from tests.unit.runner.rig import EXECUTOR, Rig, in_loop
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path

OTHER: dict[str, Any] = {"processes": [{"name": "p", "cmdline": "rm -rf /"}, {"name": "q", "cmdline": "more"}]}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.__dict__["fields"]["error"]
        for record in caplog.records
        if record.levelno == logging.ERROR and record.getMessage() == "task differs from its journal"
    ]


def test_a_repeated_launch_with_another_task_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        book = rig.runner.books[key]
        size, sent = book.log.size, len(session.sent)
        assert rig.launch(session, **OTHER) == key
        (news,) = session.sent[sent:]
        assert news.task_state.phase == link_pb2.TASK_PHASE_ACTIVE, "the state, and no start"
        assert rig.runner.books[key] is book
        assert [process.name for process in book.state.spec.processes] == ["p"]
        assert book.log.size == size
        (warning,) = rig.queries.get("t1").task.warnings
        recorded = hashlib.sha256(book.head.info).hexdigest()
        assert "another TaskInfo under this key" in warning
        assert f"recorded is {recorded}" in warning
        assert told(caplog) == [warning]
        # Said again, it is not logged again; withdrawn, it is not shown any more.
        rig.launch(session, **OTHER)
        assert told(caplog) == [warning]
        rig.launch(session)
        assert list(rig.queries.get("t1").task.warnings) == []
        rig.exit(session, key)
        assert book.state.phase is Phase.SUCCESS

    in_loop(scenario)


def test_a_recovery_with_another_task_goes_on_as_recorded_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        key = rig.launch(rig.attach())
        rig.runner.close()
        rig = Rig(tmp_path)
        running = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_RUNNING, pid=5)
        hands = link_pb2.HandsState(runs=[running], alive=1)
        session = rig.attach(link_pb2.HelloTask(key=key.to_pb(), task_hash=b"\x07" * 32, hands=hands))
        (warning,) = rig.queries.get("t1").task.warnings
        assert f"SHA-256 {'07' * 32}" in warning
        assert told(caplog) == [warning]
        assert not any(message.HasField("need_task") or message.HasField("terminate") for message in session.sent)
        assert rig.runner.books[key].state.newest["p"].pid == 5
        rig.exit(session, key)
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_SUCCESS
        rig.runner.close()

    in_loop(scenario)


def test_the_same_task_is_no_conflict_nor_is_one_of_which_no_hash_is_told(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        key = rig.launch(rig.attach())
        same = hashlib.sha256(rig.runner.books[key].head.info).digest()
        for task_hash in (same, b""):
            rig.attach(link_pb2.HelloTask(key=key.to_pb(), task_hash=task_hash))
            assert list(rig.queries.get("t1").task.warnings) == []

    in_loop(scenario)


def test_a_launch_of_a_task_that_is_over_starts_nothing_whatever_it_brings(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        rig.exit(session, key)
        rig.forget(session, key)
        sent = len(session.sent)
        rig.launch(session, **OTHER)
        (answer,) = session.sent[sent:]
        assert answer.task_state.phase == link_pb2.TASK_PHASE_SUCCESS
        spec = rig.queries.get("t1").spec.task
        assert [process.name for process in spec.processes] == ["p"]

    in_loop(scenario)


@pytest.mark.parametrize("over", [False, True])
def test_a_copy_of_a_journal_is_put_aside_and_does_not_replace_the_original(tmp_path: Path, over: bool) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        path = rig.runner.books[key].log.path
        if over:
            rig.exit(session, key)
            rig.forget(session, key)
        rig.runner.close()
        # One that is read before the original, and one after it.
        copies = [str(tmp_path / "tasks" / f"{name}.journal") for name in ("0", "z")]
        for copy in copies:
            shutil.copy(path, copy)
        rig = Rig(tmp_path)
        assert [(each.path, each.key) for each in rig.store.damages] == [(f"{copy}.damaged", key) for copy in copies]
        assert all("the name of the file is not that of task 't1'" in each.error for each in rig.store.damages)
        if over:
            assert rig.archive.task_keys() == [key]
        else:
            assert rig.runner.books[key].log.path == path
            session = rig.attach(link_pb2.HelloTask(key=key.to_pb()))
            rig.exit(session, key)
            rig.runner.close()
            assert Rig(tmp_path).runner.books[key].state.phase is Phase.SUCCESS

    in_loop(scenario)


def test_the_same_id_in_another_launch_is_another_task(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        first = rig.launch(session)
        second = TaskKey(EXECUTOR, "t1", 2)
        info = rig.runner.books[first].head.info
        rig.say(session, launch=link_pb2.Launch(key=second.to_pb(), info=info))
        assert set(rig.runner.books) == {first, second}

    in_loop(scenario)
