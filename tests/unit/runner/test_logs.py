"""Which run is read, and what the runner says to driver and client when pieces come, do not come, or come unasked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from services.runner.errors import BadRequest, Busy, ExecutorAway, LogRefused, NoSuchLog, UnknownTask
from services.runner.logs import LogDesk, chosen_run
from tests.unit.runner.rig import Rig
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from services.common.keys import TaskKey


def request(**fields: Any) -> runner_pb2.ReadLogRequest:
    return runner_pb2.ReadLogRequest(task_id="t1", **{"process": "p", **fields})


def orders(session: Any, kind: str) -> list[Any]:
    return [getattr(message, kind) for message in session.sent if message.HasField(kind)]


def piece(rig: Rig, session: Any, key: TaskKey, data: bytes = b"", **fields: Any) -> None:
    number = orders(session, "open_log")[-1].id
    answer = runner_pb2.ReadLogResponse(data=data, eof=fields.pop("eof", False))
    rig.say(session, log_piece=runner_pb2.LogPiece(key=key.to_pb(), id=number, piece=answer, **fields))


def reading(rig: Rig) -> tuple[LogDesk, Any, TaskKey, Any]:
    """A task with a reader that waits for its first piece."""
    desk = LogDesk(rig.runner)
    rig.runner.listeners.append(desk)
    session = rig.attach()
    key = rig.launch(session)
    return desk, session, key, desk.read(rig.runner.books[key], request(follow=True))


async def first_of(pieces: Any) -> Any:
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    return waiting


def test_the_next_piece_is_asked_for_when_the_last_was_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        _, session, key, pieces = reading(rig)
        waiting = await first_of(pieces)
        piece(rig, session, key, b"a")
        assert (await waiting).data == b"a"
        assert orders(session, "next_piece") == []
        waiting = await first_of(pieces)
        assert len(orders(session, "next_piece")) == 1
        piece(rig, session, key, b"b", eof=True)
        assert (await waiting).data == b"b"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        assert len(orders(session, "next_piece")) == 1
        assert len(orders(session, "close_log")) == 1

    asyncio.run(scenario())


def test_pieces_that_were_not_asked_for_are_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        _, session, key, pieces = reading(rig)
        waiting = await first_of(pieces)
        for data in (b"a", b"b", b"c"):
            piece(rig, session, key, data)
        assert (await waiting).data == b"a"
        waiting = await first_of(pieces)
        assert not waiting.done()
        piece(rig, session, key, b"d")
        assert (await waiting).data == b"d"
        await pieces.aclose()
        piece(rig, session, key, b"after the end")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (runner_pb2.LOG_ERROR_MISSING, NoSuchLog),
        (runner_pb2.LOG_ERROR_REFUSED, LogRefused),
        (runner_pb2.LOG_ERROR_BUSY, Busy),
        (runner_pb2.LOG_ERROR_FAILED, LogRefused),
        (77, LogRefused),
    ],
)
def test_the_drivers_errors_name_process_and_run(tmp_path: Path, error: Any, kind: type[Exception]) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        _, session, key, pieces = reading(rig)
        waiting = await first_of(pieces)
        piece(rig, session, key, error=error, detail="because")
        with pytest.raises(kind, match=r"^process 'p', run 0: because$"):
            await waiting
        assert len(orders(session, "close_log")) == 1

    asyncio.run(scenario())


def test_a_driver_that_goes_or_is_away_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk, session, key, pieces = reading(rig)
        waiting = await first_of(pieces)
        rig.runner.on_detach(session)
        with pytest.raises(ExecutorAway):
            await waiting
        book = rig.runner.books[key]
        with pytest.raises(ExecutorAway):
            await anext(desk.read(book, request()))
        assert not desk.is_gone(book), "it has a reason to come back"

    asyncio.run(scenario())


def test_the_newest_run_that_was_started_unless_one_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session, processes=[{"name": "p", "cmdline": "false", "max_failures": 3, "min_duration": 60}])
        book = rig.runner.books[key]
        assert chosen_run(book, request()) == 0
        failed = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_EXITED, exit=link_pb2.Exit(code=1))
        rig.say(session, hands=link_pb2.Hands(key=key.to_pb(), state=link_pb2.HandsState(runs=[failed])))
        assert book.state.newest["p"].run == 1
        assert chosen_run(book, request()) == 0, "run 1 waits"
        assert chosen_run(book, request(run=0)) == 0
        for bad, error, message in (
            (request(run=2), UnknownTask, "^run: process 'p' of task 't1' has no run 2$"),
            (request(process="q"), UnknownTask, "^process: task 't1' has no process 'q'$"),
            (request(process=""), BadRequest, "^process: must not be empty$"),
        ):
            with pytest.raises(error, match=message):
                chosen_run(book, bad)

    asyncio.run(scenario())


def test_a_stream_of_another_name_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk, _, key, _ = reading(rig)
        with pytest.raises(BadRequest, match=r"^stream: 9 is neither"):
            await anext(desk.read(rig.runner.books[key], request(stream=9)))

    asyncio.run(scenario())
