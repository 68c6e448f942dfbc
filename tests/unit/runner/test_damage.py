"""Journals that cannot be written, and journals that cannot be read: real files, real refusals."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from services.common import journal
from services.common.journal import Journal, JournalCorrupt, offset_of, read
from services.common.keys import Executor, TaskKey
from services.runner.errors import AmbiguousTask, DamagedTask, NotRecorded, UnknownTask
from services.runner.processes import ProcessState
from services.runner.records import Phase
from services.runner.store import JournalUnreadable
from tests.unit.runner.rig import EXECUTOR, Rig, in_loop
from tests.unit.runner.world import facts
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path


def damage(path: str, record: int) -> int:
    """Changes a byte of one record; where the record begins."""
    payloads, _ = read(path)
    offset = offset_of(payloads, record)
    with open(path, "r+b") as file:
        file.seek(offset + 10)
        byte = file.read(1)
        file.seek(offset + 10)
        file.write(bytes([byte[0] ^ 0xFF]))
    return offset


def lengthen(path: str, record: int) -> int:
    """Changes one bit of a record's length, so that it says more than there is; where the record begins."""
    payloads, _ = read(path)
    offset = offset_of(payloads, record)
    with open(path, "r+b") as file:
        file.seek(offset + 2)
        byte = file.read(1)
        file.seek(offset + 2)
        file.write(bytes([byte[0] ^ (1 << 4)]))
    return offset


def launched(rig: Rig, *task_ids: str, **task: Any) -> list[str]:
    """Paths of the journals of tasks that run."""
    session = rig.attach()
    return [rig.runner.books[rig.launch(session, task_id, **task)].log.path for task_id in task_ids]


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


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "the hard limit of open files is "),
        (errno.ENFILE, "raise fs.file-max"),
        (errno.EIO, "check the disk"),
        (errno.EACCES, "must be able to read and write it"),
        (errno.ENOMEM, "free some memory"),
    ],
)
def test_a_journal_that_cannot_be_opened_fails_the_start_and_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        path, _ = sorted(launched(rig, "t1", "t2"))
        rig.runner.close()
        before = {name: (tmp_path / "tasks" / name).read_bytes() for name in os.listdir(tmp_path / "tasks")}
        real = os.open

        def refuse(name: str, *args: Any) -> int:
            if name == path:
                raise OSError(number, os.strerror(number), name)
            return real(name, *args)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(JournalUnreadable) as caught:
                Rig(tmp_path)
        assert str(caught.value).startswith(f"{path}: cannot be read: {os.strerror(number)}; ")
        assert remedy in str(caught.value)
        assert {name: (tmp_path / "tasks" / name).read_bytes() for name in os.listdir(tmp_path / "tasks")} == before
        rig = Rig(tmp_path)
        assert len(rig.runner.books) == 2
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


def test_a_journal_of_a_newer_format_is_put_aside_and_says_so(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        (path,) = launched(rig, "t1")
        rig.runner.close()
        _, payloads = Journal.open(path)
        newer = Journal.create(path)
        newer.append_all([payloads[0].replace(b'"format":1', b'"format":2'), *payloads[1:]])
        newer.close()
        (shown,) = Rig(tmp_path).store.damages
        assert "format 2, this version reads 1" in shown.error

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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_without_room_nothing_is_started_what_runs_goes_on_and_it_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = journal._write_all

    def refuse(fd: int, data: bytes) -> None:
        # Half of it gets through, as on a disk that fills up.
        real(fd, data[: len(data) // 2])
        raise OSError(number, os.strerror(number))

    def scenario() -> None:
        rig = Rig(tmp_path)
        task: dict[str, Any] = {
            "processes": [{"name": name, "cmdline": "true"} for name in ("p", "q")],
            "constraints": [{"order": ["p", "q"]}],
        }
        session = rig.attach()
        key = rig.launch(session, "t1", **task)
        size = os.path.getsize(rig.runner.books[key].log.path)
        session.sent.clear()
        monkeypatch.setattr(journal, "_write_all", refuse)
        rig.exit(session, key)
        late = rig.launch(session, "t2")
        assert not rig.sound
        assert not any(message.HasField("start") for message in session.sent)
        for task_id in ("t1", "t2"):
            (warning,) = rig.queries.get(task_id).task.warnings
            assert os.strerror(number) in warning
            with pytest.raises(NotRecorded):
                rig.queries.lose(task_id, "")
        assert os.path.getsize(rig.runner.books[key].log.path) == size
        # Still refused: nothing changes.
        rig.runner._ring((key, "journal"), rig.now)
        assert not rig.sound
        monkeypatch.setattr(journal, "_write_all", real)
        rig.runner._ring((key, "journal"), rig.now)
        assert not rig.sound, "the other one has not been tried again"
        rig.runner._ring((late, "journal"), rig.now)
        assert rig.sound
        starts = [(m.start.key.task_id, m.start.process) for m in session.sent if m.HasField("start")]
        assert starts == [("t1", "q"), ("t2", "p")]
        assert list(rig.queries.get("t1").task.warnings) == []
        rig.runner.close()
        again = Rig(tmp_path)
        assert again.runner.books[key].state.newest["q"].forked_at > 0
        assert again.store.damages == []

    in_loop(scenario)


def test_a_kill_is_obeyed_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        running = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_RUNNING, pid=5)
        rig.say(session, hands=link_pb2.Hands(key=key.to_pb(), state=link_pb2.HandsState(runs=[running], alive=1)))
        monkeypatch.setattr(journal, "_write_all", refuse)
        request = link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL, seq=1, grace_secs=5)
        session.sent.clear()
        rig.say(session, end=link_pb2.End(key=key.to_pb(), request=request))
        assert session.sent[0].terminate.kill_at == rig.now + 5
        rig.exit(session, key)
        assert rig.runner.books[key].state.phase is Phase.KILLED

    in_loop(scenario)


def test_the_run_limit_of_a_task_is_the_one_that_it_came_with(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path, run_limit=3)
        session = rig.attach()
        task: dict[str, Any] = {"processes": [{"name": "p", "cmdline": "true", "max_failures": 0, "min_duration": 0}]}
        key = rig.launch(session, **task)
        for run in range(2):
            rig.exit(session, key, run, code=1)
        rig.runner.close()
        # A runner with another setting: new tasks have its limit, this one keeps its own.
        rig = Rig(tmp_path, run_limit=50)
        hands = rig.runner.books[key]
        assert hands.state.spec.run_limit == 3
        session = rig.attach(link_pb2.HelloTask(key=key.to_pb()))
        rig.exit(session, key, 2, code=1)
        assert rig.runner.books[key].state.phase is Phase.FAILED
        assert "given up after 3 runs" in rig.runner.books[key].state.message
        other = rig.launch(session, "t2")
        assert rig.runner.books[other].state.spec.run_limit == 50

    in_loop(scenario)


def test_lose_by_an_operator(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        other = rig.attach(executor=Executor("fw", "ex2", "i1"))
        rig.launch(other)
        with pytest.raises(UnknownTask):
            rig.queries.lose("t", "")
        with pytest.raises(AmbiguousTask, match=r"'ex' .*, 'ex2'"):
            rig.queries.lose("t1", "")
        session.sent.clear()
        other.sent.clear()
        state = rig.queries.lose("t1", "ex")
        assert state.end_cause == link_pb2.END_CAUSE_LOSE
        assert rig.queries.lose("t1", "ex") == state
        assert [m.terminate.kill_at for m in session.sent if m.HasField("terminate")] == [rig.now]
        assert other.sent == []
        killed = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_EXITED, exit=link_pb2.Exit(signal=9))
        rig.say(session, hands=link_pb2.Hands(key=key.to_pb(), state=link_pb2.HandsState(runs=[killed])))
        assert rig.queries.lose("t1", "ex").phase == link_pb2.TASK_PHASE_LOST

    in_loop(scenario)


@pytest.mark.parametrize("task_id", ["../../x", "/etc/passwd", "a/b", "..", "\n", "x" * 4000, "ä\u202e"])
def test_no_task_id_writes_outside_of_the_state_directory(tmp_path: Path, task_id: str) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path / "state" / "deep")
        rig.launch(rig.attach(), task_id)
        rig.runner.close()
        assert rig.queries.get(task_id).task.state.key.task_id == task_id
        files = [name for _, _, names in os.walk(tmp_path) for name in names]
        (name,) = os.listdir(tmp_path / "state" / "deep" / "tasks")
        assert files == [name]
        assert len(name) == len("0" * 32 + ".journal")
        assert next(iter(Rig(tmp_path / "state" / "deep").runner.books)).task_id == task_id

    in_loop(scenario)
