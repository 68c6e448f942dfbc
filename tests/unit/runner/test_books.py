"""Journals, archive, leases and alarms: real files, a clock that the test moves."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.journal import Journal
from services.common.keys import Executor, TaskKey
from services.runner import book as book_module
from services.runner import header, inbound
from services.runner.alarms import Alarms
from services.runner.budgets import Request
from services.runner.errors import UnknownTask
from services.runner.header import Facts, Header, Summary
from services.runner.logs import LogDesk
from services.runner.records import BadRecord, Cause
from services.runner.servicer import AdminServicer
from services.runner.store import Store
from services.runner.usage import UsageDesk
from tests.unit.runner.world import facts
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

from tests.unit.runner.rig import Rig, in_loop

KEYS = st.builds(TaskKey, st.builds(Executor, st.text(), st.text(), st.text()), st.text(), st.integers(0, 2**32 - 1))
FACTS = st.builds(Facts, st.text(), st.text(), st.text(), st.text(), st.integers(0, 2**32 - 1))


@given(
    st.builds(Header, KEYS, st.binary(), FACTS, st.floats(0, 2e9), st.booleans())
    | st.builds(Summary, KEYS, st.text(), st.floats(0, 2e9), st.floats(0, 2e9), st.binary())
)
def test_a_header_is_read_as_it_was_written(head: Header | Summary) -> None:
    assert header.decode(header.encode(head)) == head


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_do_more_to_a_header_than_be_refused(data: bytes) -> None:
    with pytest.raises(BadRecord):
        header.decode(data)


def test_a_header_of_a_newer_format_is_refused_by_name() -> None:
    with pytest.raises(BadRecord, match="format 2, this version reads 1"):
        header.decode(b'{"format":2}')


def test_the_archive_keeps_the_newest_and_deletes_the_files_of_the_others(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path, keep=3)
        session = rig.attach()
        for number in range(5):
            key = rig.launch(session, f"t{number}")
            rig.exit(session, key)
            rig.now += 1
            rig.forget(session, key)
        assert rig.runner.books == {}
        assert len(os.listdir(tmp_path / "tasks")) == 3
        again = Rig(tmp_path, keep=3)
        assert [key.task_id for key in again.archive.task_keys()] == ["t2", "t3", "t4"]
        assert again.queries.get("t4").runs[0].state == runner_pb2.PROCESS_STATE_SUCCESS
        with pytest.raises(UnknownTask):
            again.queries.get("t0")

    in_loop(scenario)


def test_a_long_journal_is_compacted_and_still_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "COMPACT_BYTES", 4000)

    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        task: dict[str, Any] = {"processes": [{"name": "p", "cmdline": "true", "daemon": True, "min_duration": 0}]}
        key = rig.launch(session, **task)
        for run in range(2000):
            rig.exit(session, key, run)
        book = rig.runner.books[key]
        assert len(book.state.runs["p"]) <= 201, "old runs are dropped"
        # 2000 runs of 4 records are some 700 kB; 200 that are kept are 50 kB, and it may grow to four times that.
        assert book.log.size < 250_000
        again = Rig(tmp_path).runner.books[key]
        assert facts(again.state) == facts(book.state)
        assert again.state.next_run("p") == 2001
        # Runs that were dropped are not news when a Hello lists them.
        old = [
            link_pb2.Run(process="p", run=run, state=link_pb2.RUN_STATE_EXITED, exit=link_pb2.Exit(code=0))
            for run in range(2000)
        ]
        version = book.state.version
        rig.attach(link_pb2.HelloTask(key=key.to_pb(), hands=link_pb2.HandsState(runs=old)))
        assert book.state.version == version

    in_loop(scenario)


def test_an_empty_journal_and_a_foreign_file_are_no_tasks(tmp_path: Path) -> None:
    def scenario() -> None:
        Store(str(tmp_path)).open()
        Journal.create(str(tmp_path / "tasks" / "empty.journal")).close()
        (tmp_path / "tasks" / "alien.journal").write_text("hello there")
        (tmp_path / "tasks" / "readme").write_text("not ours")
        rig = Rig(tmp_path)
        assert rig.runner.books == {}
        assert sorted(os.listdir(tmp_path / "tasks")) == ["alien.journal.damaged", "readme"]

    in_loop(scenario)


def test_a_watcher_that_does_not_keep_up_is_told_to_watch_again(tmp_path: Path) -> None:
    class ContextDouble:
        aborted: tuple[Any, str] | None = None

        async def abort(self, code: Any, details: str) -> None:
            self.aborted = (code, details)

    async def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        context: Any = ContextDouble()
        servicer = AdminServicer(rig.queries, rig.watchers, UsageDesk(rig.runner), LogDesk(rig.runner))
        watch = servicer.WatchTasks(runner_pb2.WatchTasksRequest(), context)
        assert (await anext(watch)).HasField("snapshot")
        for number in range(5):
            rig.launch(session, f"t{number}")
        received = [event async for event in watch]
        assert received
        assert context.aborted is not None
        assert context.aborted[0].name == "RESOURCE_EXHAUSTED"
        assert "watch again" in context.aborted[1]

    asyncio.run(scenario())


def test_a_task_may_be_refused_with_its_group() -> None:
    end = link_pb2.EndRequest(cause=link_pb2.END_CAUSE_INVALID, grace_secs=0.0, message="Task group rejected")
    assert inbound.request(end) == Request(Cause.INVALID, grace=0.0, message="Task group rejected")


@pytest.mark.parametrize("cause", [0, 1, 77])
def test_a_cause_that_no_driver_can_have_is_taken_as_a_kill(cause: Any) -> None:
    assert inbound.request(link_pb2.EndRequest(cause=cause)).cause is Cause.KILL


@pytest.mark.parametrize("deadline", [float("nan"), float("inf"), float("-inf")])
def test_a_deadline_that_is_no_time_is_none(deadline: float) -> None:
    assert inbound.request(link_pb2.EndRequest(deadline=deadline)).deadline == 0.0


def test_alarms_ring_once_in_order_and_can_be_moved() -> None:
    async def scenario() -> list[Hashable]:
        now = [0.0]
        rung: list[Hashable] = []
        done = asyncio.Event()

        def ring(name: Hashable, when: float) -> None:
            assert when <= now[0]
            rung.append(name)
            if name == "last":
                done.set()

        alarms = Alarms(lambda: now[0], ring)
        alarms.set("moved", 1.0)
        alarms.set("gone", 2.0)
        alarms.set("b", 4.0)
        alarms.set("a", 3.0)
        alarms.set("moved", 500.0)
        alarms.set("gone", None)
        alarms.set("last", 5.0)
        now[0] = 10.0
        alarms.set("due", 0.0)
        await asyncio.wait_for(done.wait(), 20)
        alarms.close()
        alarms.set("late", 0.0)
        return rung

    assert asyncio.run(scenario()) == ["due", "a", "b", "last"]
