"""Journals that cannot be opened or written, and where they are: real files, real refusals."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from services.common import journal
from services.runner.errors import NotRecorded
from services.runner.records import Phase
from services.runner.store import JournalUnreadable
from tests.unit.runner.rig import Rig, in_loop, launched
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path


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
