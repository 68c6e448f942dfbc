"""A reporter with a real store in a directory, and with clock, timers and streams in the test's hands."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.common.attach import Session
from services.common.keys import TaskKey
from services.reporter.reporter import Reporter
from services.reporter.store import Store
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

Request = reporter_pb2.AttachRequest
KEY = TaskKey(EXECUTOR, "task", 1)


class HandClock:
    """Time that moves when told, and the timers that wait for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self._ids = itertools.count()

    def call_later(self, delay: float, function: Callable[[], None]) -> HandTimer:
        assert delay >= 0
        timer = HandTimer(self, next(self._ids))
        self.timers[timer.id] = (self.now + delay, function)
        return timer

    def advance(self, seconds: float) -> None:
        """Moves on, calling what falls due in order."""
        end = self.now + seconds
        while due := sorted((at, id_) for id_, (at, _) in self.timers.items() if at <= end):
            at, id_ = due[0]
            self.now = max(self.now, at)
            _, function = self.timers.pop(id_)
            function()
        self.now = end


class HandTimer:
    def __init__(self, clock: HandClock, id_: int) -> None:
        self.id = id_
        self._clock = clock

    def cancel(self) -> None:
        self._clock.timers.pop(self.id, None)


class Desk:
    """One process's worth of reporter. `restart` is its death and the next one's start."""

    def __init__(self, state_dir: str, *, lease: float = 600.0, keep_finished: int = 1000) -> None:
        self.clock = HandClock()
        self.state_dir = state_dir
        self._lease = lease
        self._keep_finished = keep_finished
        self.wall = 1.7e9
        self.start()

    def start(self) -> None:
        self.clock.timers.clear()
        self.store = Store(self.state_dir, keep_finished=self._keep_finished)
        self.reporter = Reporter(
            self.store,
            call_later=self.clock.call_later,
            lease=self._lease,
            now=lambda: self.clock.now,
            wall=self._tick_wall,
        )
        self.reporter.load()
        self.session: Session[reporter_pb2.AttachResponse] | None = None

    def _tick_wall(self) -> float:
        # No two decisions share a timestamp, so that a status decided twice shows.
        self.wall += 0.001
        return self.wall

    def restart(self) -> None:
        """As after kill -9: nothing is written on the way out."""
        self.store.close()
        self.start()

    def attach(self, tasks: list[link_pb2.HelloTask], first: link_pb2.Hello | None = None) -> None:
        """A new stream with its Hello."""
        if self.session is not None:
            self.detach()
        self.session = Session(first or hello(tasks=len(tasks)))
        self.reporter.on_hello(self.session, self.session.hello, tasks)

    def detach(self) -> None:
        assert self.session is not None
        self.reporter.on_detach(self.session)
        self.session = None

    def say(self, message: reporter_pb2.AttachRequest) -> None:
        assert self.session is not None
        self.reporter.on_message(self.session, message)

    def proposals(self) -> list[reporter_pb2.Proposal]:
        """What was sent and not taken yet."""
        found = []
        while self.session is not None and not self.session.queue.empty():
            found.append(self.session.queue.get_nowait().proposal)
        return found


def active(key: TaskKey = KEY, *, version: int = 1, started: bool = True, gated: bool = False) -> link_pb2.TaskState:
    return link_pb2.TaskState(
        key=key.to_pb(),
        version=version,
        phase=link_pb2.TASK_PHASE_ACTIVE,
        started=started,
        gated=gated,
        health_checked=gated,
    )


def ended(key: TaskKey = KEY, *, version: int = 9) -> link_pb2.TaskState:
    return link_pb2.TaskState(
        key=key.to_pb(),
        version=version,
        phase=link_pb2.TASK_PHASE_SUCCESS,
        started=True,
        end_cause=link_pb2.END_CAUSE_PLAN,
        message="done",
    )


def launch(key: TaskKey = KEY) -> reporter_pb2.AttachRequest:
    return Request(launch=link_pb2.Launch(key=key.to_pb(), info=b"info"))


def forget(key: TaskKey = KEY) -> reporter_pb2.AttachRequest:
    return Request(forget=link_pb2.Forget(key=key.to_pb()))


def states(proposals: list[reporter_pb2.Proposal]) -> list[str]:
    return [mesos_pb2.TaskState.Name(proposal.status.state).removeprefix("TASK_") for proposal in proposals]


def files(desk: Desk) -> list[str]:
    return sorted(os.listdir(os.path.join(desk.state_dir, "tasks")))


def settle(desk: Desk, driver: DriverTask) -> None:
    for proposal in desk.proposals():
        desk.say(Request(answer=driver.offer(proposal)))
