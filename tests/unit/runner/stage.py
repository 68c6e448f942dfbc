"""A whole executor in one thread: a driver with its hands, a runner on real files, and a crash where the test wants it.

Simulated: processes, stream and clock. Real: the runner, its journals, and what a crash leaves of them in the file.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from mesos.v1 import mesos_pb2
from services.common import journal
from services.common.keys import TaskKey
from services.runner.tasks import next_wakeup
from tests.unit.runner.rig import EXECUTOR, Rig, SessionDouble
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

KEY = TaskKey(EXECUTOR, "t1", 1)
LIVING = (link_pb2.RUN_STATE_FORKED, link_pb2.RUN_STATE_RUNNING)
TERMINAL = (
    link_pb2.TASK_PHASE_SUCCESS,
    link_pb2.TASK_PHASE_FAILED,
    link_pb2.TASK_PHASE_KILLED,
    link_pb2.TASK_PHASE_LOST,
)


class Crash(BaseException):
    """The runner dies here. Not an Exception: nothing in the runner may catch it."""


class Crasher:
    """Lets the runner die at one of its writes to a file or to the stream, each counted as one moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moment = -1
        self.mode: str | int = ""
        # For each moment: where the written bytes can be cut, empty for the stream.
        self.moments: list[list[int]] = []
        self._write = journal._write_all
        monkeypatch.setattr(journal, "_write_all", self.write)

    def plan(self, moment: int = -1, mode: str | int = "") -> None:
        """Die at that moment, "before" or "after" what is done there, or after a number of the bytes to be written."""
        self.moment, self.mode, self.moments = moment, mode, []

    def write(self, fd: int, data: bytes) -> None:
        self._at(cuts(data), lambda length: self._write(fd, data[:length]))

    def send(self, deliver: Any) -> None:
        self._at([], lambda length: deliver() if length is None else None)

    def _at(self, places: list[int], do: Callable[[int | None], None]) -> None:
        self.moments.append(places)
        dying = len(self.moments) - 1 == self.moment
        if isinstance(self.mode, int) and dying:
            do(self.mode)
        elif not dying or self.mode == "after":
            do(None)
        if dying:
            raise Crash


class Session(SessionDouble):
    """A stream on which the runner may die."""

    def __init__(self, crasher: Crasher) -> None:
        super().__init__()
        self._crasher = crasher
        self.unread: deque[runner_pb2.AttachResponse] = deque()

    def send(self, message: runner_pb2.AttachResponse) -> None:
        self._crasher.send(lambda: self.unread.append(message))


class Stage:
    """One executor with one task, until the task is over and forgotten. Needs a running loop."""

    def __init__(self, directory: Path, crasher: Crasher, task: dict[str, Any], codes: dict[str, list[int]]) -> None:
        """`codes`: exit codes of the runs of each process, in their order; 0 beyond."""
        self.directory = directory
        self.crasher = crasher
        self.codes = codes
        self.now = 1000.0
        self.runs: dict[tuple[str, int], link_pb2.Run] = {}
        self.started: list[tuple[str, int]] = []
        self.asked: list[int] = []
        self.ends: list[link_pb2.EndRequest] = []
        self.kill_at: float | None = None
        # The agent sends a KILL when this run is seen running.
        self.kill_during: tuple[str, int] | None = None
        self.state: link_pb2.TaskState | None = None
        self.forgotten = False
        self.crashes = 0
        self.rebuilt = False
        self._outbox: deque[runner_pb2.AttachRequest] = deque()
        self._info = self._task_info(task)
        self.rig: Rig | None = None
        self.session = Session(crasher)

    @staticmethod
    def _task_info(task: dict[str, Any]) -> bytes:
        info = mesos_pb2.TaskInfo(name="n")
        info.task_id.value = KEY.task_id
        info.agent_id.value = "a"
        info.discovery.visibility = mesos_pb2.DiscoveryInfo.FRAMEWORK
        info.discovery.ports.ports.add(name="health", number=31000)
        info.data = json.dumps(task).encode()
        return info.SerializeToString()

    def run(self) -> runner_pb2.GetTaskResponse:
        """Plays to the end; what the runner then shows of the task."""
        for _ in range(3000):
            try:
                if self.rig is None:
                    self._begin()
                if self.forgotten and not self._outbox and not self.session.unread:
                    assert self.rig is not None
                    details = self.rig.queries.get(KEY.task_id)
                    self.rig.runner.close()
                    return details
                self._step()
            except Crash:
                self._die()
        raise AssertionError(f"never ends: {self.state}, {self.runs}")

    # The runner's life

    def _die(self) -> None:
        self.crashes += 1
        if self.rig is not None:
            self.rig.runner.close()
        self.rig = None

    def _begin(self) -> None:
        self.session = Session(self.crasher)
        self._outbox.clear()
        rig = Rig(self.directory)
        rig.now = self.now
        self.rig = rig
        hello = link_pb2.Hello(executor=EXECUTOR.to_pb(), boot_id="boot-1", sandbox="/s", hostname="h")
        known = link_pb2.HelloTask(key=KEY.to_pb(), hands=self._hands(*self.runs.values()), ends=self.ends)
        session: Any = self.session
        rig.runner.on_hello(session, hello, [] if self.forgotten else [known])

    # The driver and its hands

    def _hands(self, *runs: link_pb2.Run) -> link_pb2.HandsState:
        alive = sum(run.state in LIVING for run in self.runs.values())
        return link_pb2.HandsState(runs=runs, alive=alive)

    def _tell(self, *runs: link_pb2.Run) -> None:
        hands = link_pb2.Hands(key=KEY.to_pb(), state=self._hands(*runs))
        self._outbox.append(runner_pb2.AttachRequest(hands=hands))

    def _step(self) -> None:
        rig = self.rig
        assert rig is not None
        if self.session.unread:
            self._hear(self.session.unread.popleft())
        elif self._outbox:
            session: Any = self.session
            rig.runner.on_message(session, self._outbox.popleft())
        elif self.state is not None and self.state.phase in TERMINAL:
            assert not self._living(), "over, and alive"
            self.forgotten = True
            self._outbox.append(runner_pb2.AttachRequest(forget=link_pb2.Forget(key=KEY.to_pb())))
        elif willing := self._willing():
            name, number = willing[0]
            codes = self.codes.get(name, [])
            self._exit((name, number), code=codes[number] if number < len(codes) else 0)
        else:
            self._pass_time(rig)

    def _living(self) -> list[tuple[str, int]]:
        return [key for key, run in self.runs.items() if run.state in LIVING]

    def _willing(self) -> list[tuple[str, int]]:
        """Runs that end by themselves; the others have to be killed."""
        deaf = {self.kill_during} if self.ends else set()
        return [key for key in self._living() if key not in deaf and key[0] != "e"]

    def _pass_time(self, rig: Rig) -> None:
        book = rig.runner.books[KEY]
        times = [time for time in (next_wakeup(book.state), self.kill_at) if time is not None and time > self.now]
        assert times, f"nothing will ever happen: {book.state.phase} {book.state.open} {self.runs}"
        self.now = rig.now = min(times)
        if self.kill_at is not None and self.kill_at <= self.now:
            self._kill()
        rig.runner._ring(KEY, self.now)

    def _hear(self, message: runner_pb2.AttachResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "need_task":
            launch = link_pb2.Launch(key=KEY.to_pb(), info=self._info)
            self._outbox.append(runner_pb2.AttachRequest(launch=launch))
        elif kind == "start":
            self._start(message.start.process, message.start.run)
        elif kind == "terminate":
            self.kill_at = message.terminate.kill_at
            if self.kill_at <= self.now:
                self._kill()
        elif kind == "lifecycle":
            self.asked.append(message.lifecycle.step)
            done = runner_pb2.LifecycleDone(key=KEY.to_pb(), step=message.lifecycle.step, answered=True)
            self._outbox.append(runner_pb2.AttachRequest(lifecycle_done=done))
        elif kind == "task_state":
            self._note(message.task_state)
        else:
            raise AssertionError(f"not expected here: {message}")

    def _note(self, state: link_pb2.TaskState) -> None:
        if self.state is not None:
            assert state.version >= self.state.version, "a version went back"
            assert state.phase >= self.state.phase, "a phase went back"
            assert state.version > self.state.version or state == self.state, "one version, two contents"
        self.state = state
        self.rebuilt = self.rebuilt or state.rebuilt

    def _start(self, name: str, number: int) -> None:
        key = (name, number)
        if key not in self.runs:
            assert name not in [other for other, _ in self._living()], "twice at the same time"
            self.started.append(key)
            self.runs[key] = link_pb2.Run(process=name, run=number, state=link_pb2.RUN_STATE_RUNNING, pid=7)
        self._tell(self.runs[key])
        if key == self.kill_during and not self.ends:
            end = link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL, seq=1, message="enough")
            self.ends.append(end)
            self._outbox.append(runner_pb2.AttachRequest(end=link_pb2.End(key=KEY.to_pb(), request=end)))

    def _exit(self, key: tuple[str, int], *, code: int | None = None, signal: int | None = None) -> None:
        run = self.runs[key]
        run.state = link_pb2.RUN_STATE_EXITED
        run.exit.CopyFrom(link_pb2.Exit(code=code, signal=signal))
        self._tell(run)

    def _kill(self) -> None:
        self.kill_at = None
        for key in self._living():
            self._exit(key, signal=9)
        self._tell()


def cuts(data: bytes) -> list[int]:
    """Inside of each record of a write, and behind it."""
    if data.startswith(journal.MAGIC):
        start = len(journal.MAGIC)
        return [3, *(start + place for place in cuts(data[start:]))]
    places, offset = [], 0
    while offset < len(data):
        length = 8 + int.from_bytes(data[offset : offset + 4], "little")
        places += [offset + 5, offset + length - 1, offset + length]
        offset += length
    return places
