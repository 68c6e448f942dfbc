"""A runner without gRPC: real journals in a real directory, a clock that the test moves, a double of the stream."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from mesos.v1 import mesos_pb2
from services.common.journal import offset_of, read
from services.common.keys import Executor, TaskKey
from services.common.watch import Broadcast
from services.runner.archive import Archive
from services.runner.queries import Queries
from services.runner.records import Moment
from services.runner.recovery import replay
from services.runner.runner import Runner
from services.runner.store import Store
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

BOOT = "boot-1"
EXECUTOR = Executor("fw", "ex", "i1")


class SessionDouble:
    """Stands for a stream: keeps what is sent."""

    def __init__(self, executor: Executor = EXECUTOR) -> None:
        self.executor = executor
        self.sent: list[runner_pb2.AttachResponse] = []

    def send(self, message: runner_pb2.AttachResponse) -> None:
        self.sent.append(message)


class Rig:
    """A runner without gRPC, on a real state directory. Needs a running loop."""

    def __init__(self, directory: Path, keep: int = 1000, **options: Any) -> None:
        self.now = 1000.0
        self.store = Store(str(directory))
        self.store.open()
        self.archive = Archive(self.store, keep)
        self.watchers: Broadcast[runner_pb2.WatchTasksResponse] = Broadcast(limit=3)
        self.runner = Runner(self.store, self.archive, self.watchers, clock=self.clock, lease=60.0, **options)
        # What grpc.health.v1 would say.
        self.sound = True
        self.runner.troubles.on_soundness = self._tell_soundness
        self.queries = Queries(self.runner, self.archive, self.store.damages)
        replay(self.store, self.archive, self.runner, BOOT)

    def _tell_soundness(self, sound: bool) -> None:
        assert sound != self.sound, "told only when it changes"
        self.sound = sound

    def clock(self) -> Moment:
        return Moment(self.now, 5000.0 + self.now)

    def attach(self, *tasks: link_pb2.HelloTask, executor: Executor = EXECUTOR, boot: str = BOOT) -> Any:
        session: Any = SessionDouble(executor)
        hello = link_pb2.Hello(executor=executor.to_pb(), boot_id=boot, sandbox="/s", hostname="h")
        self.runner.on_hello(session, hello, list(tasks))
        return session

    def say(self, session: Any, **message: Any) -> None:
        self.runner.on_message(session, runner_pb2.AttachRequest(**message))

    def launch(self, session: Any, task_id: str = "t1", **task: Any) -> TaskKey:
        key = TaskKey(session.executor, task_id, 1)
        info = mesos_pb2.TaskInfo(name="n")
        info.task_id.value = task_id
        info.agent_id.value = "a"
        info.data = json.dumps(task or {"processes": [{"name": "p", "cmdline": "true"}]}).encode()
        self.say(session, launch=link_pb2.Launch(key=key.to_pb(), info=info.SerializeToString()))
        return key

    def exit(self, session: Any, key: TaskKey, run: int = 0, code: int = 0) -> None:
        record = link_pb2.Run(process="p", run=run, state=link_pb2.RUN_STATE_EXITED, exit=link_pb2.Exit(code=code))
        state = link_pb2.HandsState(runs=[record])
        self.say(session, hands=link_pb2.Hands(key=key.to_pb(), state=state))

    def forget(self, session: Any, key: TaskKey) -> None:
        self.say(session, forget=link_pb2.Forget(key=key.to_pb()))


def in_loop(scenario: Any) -> None:
    async def body() -> None:
        scenario()

    asyncio.run(body())


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
