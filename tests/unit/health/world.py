"""The book in a world whose clock and schedule the test moves, and a double of a driver."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
import random
from typing import TYPE_CHECKING, Any

from services.common.attach import Session
from services.common.keys import Executor, TaskKey
from services.health.book import Book
from services.health.store import CheckLog, Store
from tests.unit.health.tasks import task_info
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from services.health.model import Noted
    from services.health.spec import Spec

MINE = Executor("f", "e", "i")
CHECKED = task_info(ports={"health": 31001})


class Later:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Line(Session[pb.AttachResponse]):
    """A stream; the world knows whom the service has spoken to."""

    def __init__(self, hello: link_pb2.Hello, driver: DriverDouble) -> None:
        super().__init__(hello)
        self.driver = driver

    def send(self, message: pb.AttachResponse) -> None:
        super().send(message)
        self.driver.world.spoken.append(self.driver)


class World:
    """Clock, schedule and state directory; the service process in it can be killed and started again."""

    def __init__(self, path: Path) -> None:
        self.now = 5000.0
        self.wall = 1.7e9
        self.random = random.Random(7)
        self.path = path
        self.spoken: list[DriverDouble] = []
        self.start()

    def logs(self) -> list[CheckLog]:
        """The open journals of the service process, if there has been one."""
        book: Book | None = vars(self).get("book")
        return [entry.log for entry in book._entries.values()] if book is not None else []

    def start(self) -> None:
        """A new service process; what the old one has not journalled is gone."""
        # As the kernel does: fifty services leave no descriptors behind.
        for log in self.logs():
            log.close()
        self.calls: list[tuple[float, int, Later, Callable[[], object]]] = []
        self.count = itertools.count()
        store = Store(str(self.path), "boot")
        self.observed: list[Noted] = []
        self.book = Book(
            store,
            self.schedule,
            clock=lambda: self.now,
            wall_clock=lambda: self.wall,
            spread=self.random.random,
            observe=self,
        )
        self.book.replay()

    def probed(self, _spec: Spec, /) -> None:
        """See `Observer`."""

    def noted(self, _spec: Spec, noted: Noted, /) -> None:
        """See `Observer`."""
        self.observed.append(noted)

    def schedule(self, delay: float, callback: Callable[[], object], /) -> Later:
        timer = Later()
        heapq.heappush(self.calls, (self.now + delay, next(self.count), timer, callback))
        return timer

    def run(self, secs: float, after_each: Callable[[], None] = lambda: None) -> None:
        """Lets time pass."""
        until = self.now + secs
        while self.calls and self.calls[0][0] <= until:
            at, _, timer, callback = heapq.heappop(self.calls)
            if not timer.cancelled:
                self.now = max(self.now, at)
                callback()
                after_each()
        self.now = until

    def freeze(self, secs: float) -> None:
        """Time passes, and the service does nothing."""
        self.now += secs
        self.run(0)


class DriverDouble:
    """One executor's driver with its tasks; remembers what a real one would."""

    def __init__(self, world: World, executor: Executor = MINE) -> None:
        self.world = world
        self.executor = executor
        self.infos: dict[TaskKey, bytes] = {}
        self.states: dict[TaskKey, link_pb2.TaskState] = {}
        self.verdicts: dict[TaskKey, link_pb2.Verdict] = {}
        self.heard: list[pb.AttachResponse] = []
        self.session: Session[pb.AttachResponse] | None = None

    def key(self, task_id: str = "t") -> TaskKey:
        return TaskKey(self.executor, task_id, 1)

    def attach(self, *, memory: bool = True) -> list[pb.AttachResponse]:
        hello = link_pb2.Hello(executor=self.executor.to_pb(), sandbox="/sb", hostname="h", uid=0)
        self.session = Line(hello, self)
        tasks = []
        for key, info in self.infos.items():
            task = link_pb2.HelloTask(key=key.to_pb(), task_hash=hashlib.sha256(info).digest())
            if key in self.states:
                task.task_state.CopyFrom(self.states[key])
            if memory and key in self.verdicts:
                task.verdict.CopyFrom(self.verdicts[key])
            tasks.append(task)
        self.world.book.on_hello(self.session, hello, tasks)
        return self.listen()

    def detach(self) -> None:
        assert self.session is not None
        self.world.book.on_detach(self.session)

    def say(self, **message: Any) -> list[pb.AttachResponse]:
        assert self.session is not None
        self.world.book.on_message(self.session, pb.AttachRequest(**message))
        return self.listen()

    def launch(self, info: bytes = CHECKED, task_id: str = "t", *, started: bool = True) -> list[pb.AttachResponse]:
        key = self.key(task_id)
        self.infos[key] = info
        heard = self.say(launch=link_pb2.Launch(key=key.to_pb(), info=info))
        return heard + (self.state(task_id, started=True) if started else [])

    def state(self, task_id: str = "t", **fields: Any) -> list[pb.AttachResponse]:
        key = self.key(task_id)
        state = {"phase": link_pb2.TASK_PHASE_ACTIVE, **fields}
        self.states[key] = link_pb2.TaskState(key=key.to_pb(), **state)
        return self.say(task_state=self.states[key])

    def answer(self, probe: pb.Probe, body: bytes = b"ok", **fields: Any) -> list[pb.AttachResponse]:
        filled = {"outcome": pb.PROBE_OUTCOME_DONE, "check": probe.check, "http_status": 200, "body": body, **fields}
        return self.say(result=pb.ProbeResult(key=probe.key, id=probe.id, **filled))

    def listen(self) -> list[pb.AttachResponse]:
        """What was said since the last time; NeedTask is obeyed."""
        assert self.session is not None
        heard = []
        while not self.session.queue.empty():
            heard.append(self.session.queue.get_nowait())
        self.heard += heard
        for message in list(heard):
            match message.WhichOneof("message"):
                case "verdict":
                    key = TaskKey.of(message.verdict.key)
                    known = self.verdicts.get(key)
                    # The receiver keeps the newest.
                    if known is None or message.verdict.version > known.version:
                        self.verdicts[key] = message.verdict
                case "need_task":
                    key = TaskKey.of(message.need_task.key)
                    heard += self.say(launch=link_pb2.Launch(key=key.to_pb(), info=self.infos[key]))
        return heard


def kinds(messages: list[pb.AttachResponse]) -> list[str | None]:
    return [message.WhichOneof("message") for message in messages]


def journals(world: World) -> int:
    return len(os.listdir(world.path / "checks"))
