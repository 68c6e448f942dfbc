"""How many proposals the reporter makes a second, and whether each survives its death.

A double of a driver tells it of tasks that begin, run and end at once, so that each is three proposals, and answers all
of them. Proposals are compared byte by byte: one that was on the wire when the reporter was killed has to
come again, the same under the same number.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from executor_shim.driver.links.link import _OPTIONS
from mesos.v1 import mesos_pb2
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TASKS = 2_000
KILLS = 5
# Tasks that are under way at the same time.
WINDOW = 100
PATIENCE = 60.0
_METHOD = "/trivet.reporter.v1.ReporterService/Attach"
_EXECUTOR = link_pb2.ExecutorKey(framework_id="framework", executor_id="executor", incarnation="incarnation")
_Request = reporter_pb2.AttachRequest
_WALK = [mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING, mesos_pb2.TASK_FINISHED]


class Reporter:
    """The service as a process."""

    def __init__(self, directory: str) -> None:
        self._command = [sys.executable, "-m", "services.reporter", "--run-dir", f"{directory}/run"]
        self._command += ["--state-dir", f"{directory}/state"]
        self.address = f"unix:{directory}/run/reporter.sock"
        self.start()

    def start(self) -> None:
        """Returns when it serves.

        Raises:
            RuntimeError: It does not.
        """
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        try:
            for line in self._process.stderr or ():
                if json.loads(line)["msg"] == "ready":
                    # Its log is not to fill the pipe.
                    threading.Thread(target=self._process.stderr.read, daemon=True).start()  # type: ignore[union-attr]
                    return
        finally:
            patience.cancel()
        raise RuntimeError("the reporter does not start")

    def kill(self) -> None:
        """SIGKILL, now."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """In order."""
        self._process.terminate()
        self._process.wait()


class Task:
    """What a driver remembers of a task."""

    def __init__(self, number: int) -> None:
        self.key = link_pb2.TaskKey(executor=_EXECUTOR, task_id=f"task-{number}", launch=1)
        first = link_pb2.TaskState(key=self.key, version=1, phase=link_pb2.TASK_PHASE_ACTIVE)
        second = link_pb2.TaskState(key=self.key, version=2, phase=link_pb2.TASK_PHASE_ACTIVE, started=True)
        last = link_pb2.TaskState(
            key=self.key, version=3, phase=link_pb2.TASK_PHASE_SUCCESS, started=True, end_cause=link_pb2.END_CAUSE_PLAN,
            message="Task completed",
        )  # fmt: skip
        # What the runner says, all at once.
        self.states = [first, second, last]
        # Bytes of everything that was proposed, and which of these were accepted, by number.
        self.seen: dict[tuple[str, int], bytes] = {}
        self.accepted: dict[tuple[str, int], int] = {}

    @property
    def over(self) -> bool:
        """The terminal status is accepted."""
        return mesos_pb2.TASK_FINISHED in self.accepted.values()

    def hello(self) -> reporter_pb2.AttachRequest:
        """As a driver says it."""
        told = link_pb2.HelloTask(
            key=self.key, task_state=self.states[-1], accepted_states=list(self.accepted.values())
        )
        if self.accepted:
            epoch, n = list(self.accepted)[-1]
            told.last_accepted.epoch, told.last_accepted.n = epoch, n
        return _Request(hello_task=told)


class Driver:
    """Feeds tasks, and answers what is proposed."""

    def __init__(self, address: str, tasks: int) -> None:
        self._address = address
        self.tasks = tasks
        self._fresh = [Task(number) for number in range(tasks)]
        self._live: dict[str, Task] = {}
        self.done: list[Task] = []
        self.errors: list[str] = []
        self.proposals = 0
        self._generation = 0
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        # Answers are kept back: what is proposed meanwhile is owed, must come again, the same under the same number.
        self.withholding = False
        self.owed: set[tuple[str, str, int]] = set()

    @property
    def over(self) -> bool:
        """All tasks are."""
        return not self._fresh and not self._live

    async def attend(self) -> None:
        """Until all tasks are over, or the stream breaks.

        Raises:
            grpc.RpcError: It is broken.
        """
        self._queue = asyncio.Queue()
        self._generation += 1
        options = [*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            method = channel.stream_stream(_METHOD, _Request.SerializeToString, reporter_pb2.AttachResponse.FromString)
            call = method(wait_for_ready=True)
            writer = asyncio.create_task(self._write(call))
            try:
                await self._read(call)
            finally:
                writer.cancel()
                call.cancel()

    async def _write(self, call: Any) -> None:
        for message in self._hello():
            await call.write(message)
        while True:
            await call.write(await self._queue.get())

    def _hello(self) -> list[reporter_pb2.AttachRequest]:
        first = link_pb2.Hello(
            protocol=1, executor=_EXECUTOR, generation=self._generation, token=b"t" * 32, boot_id="boot",
            task_count=len(self._live), agent_id="agent", hostname="host", partition_aware=True,
        )  # fmt: skip
        tasks = [task.hello() for task in self._live.values()]
        return [_Request(hello=first), *tasks, _Request(hello_end=link_pb2.HelloEnd())]

    async def _read(self, call: Any) -> None:
        while not self.over:
            message = await call.read()
            if message is grpc.aio.EOF:
                raise ConnectionResetError
            kind = message.WhichOneof("message")
            if kind == "hello_ack":
                self._feed()
            elif kind == "proposal":
                self._take(message.proposal)

    def _feed(self) -> None:
        while self._fresh and len(self._live) < WINDOW:
            task = self._fresh.pop()
            self._live[task.key.task_id] = task
            self._queue.put_nowait(_Request(launch=link_pb2.Launch(key=task.key, info=b"info")))
            for state in task.states:
                self._queue.put_nowait(_Request(task_state=state))

    def _take(self, proposal: reporter_pb2.Proposal) -> None:
        self.proposals += 1
        task = self._live.get(proposal.key.task_id)
        if task is None:
            self.errors.append(f"{proposal.key.task_id}: proposed though it is over")
            return
        ref = (proposal.ref.epoch, proposal.ref.n)
        data = proposal.status.SerializeToString(deterministic=True)
        if task.seen.setdefault(ref, data) != data:
            self.errors.append(f"{proposal.key.task_id}: proposal {ref[1]} has changed")
        if {epoch for epoch, _ in task.seen} != {ref[0]}:
            self.errors.append(f"{proposal.key.task_id}: its journal was lost")
        if self.withholding:
            self.owed.add((proposal.key.task_id, *ref))
            return
        self.owed.discard((proposal.key.task_id, *ref))
        if ref not in task.accepted:
            # A task that is over when the reporter hears of it again was never seen to run.
            if proposal.status.state not in _WALK[len(task.accepted) :]:
                self.errors.append(f"{proposal.key.task_id}: {proposal.status.state} out of order")
            task.accepted[ref] = proposal.status.state
        answer = reporter_pb2.Answer(key=proposal.key, ref=proposal.ref, uuid=b"u" * 16)
        self._queue.put_nowait(_Request(answer=answer))
        if task.over:
            del self._live[proposal.key.task_id]
            self.done.append(task)
            self._queue.put_nowait(_Request(forget=link_pb2.Forget(key=proposal.key)))
            self._feed()


def throughput(tasks: int = TASKS) -> float:
    """Seconds for one proposal, when there are as many as the reporter takes.

    Raises:
        RuntimeError: A proposal was wrong.
    """
    with _directory() as directory:
        reporter = Reporter(directory)
        driver = Driver(reporter.address, tasks)
        began = time.monotonic()
        try:
            asyncio.run(asyncio.wait_for(driver.attend(), PATIENCE))
        finally:
            reporter.stop()
        seconds = time.monotonic() - began
        _check(driver, tasks)
        return seconds / driver.proposals


def survived(tasks: int = TASKS, kills: int = KILLS) -> int:
    """Proposals that were on the wire without an answer when the reporter was killed, and came again.

    Raises:
        RuntimeError: One did not, or not as it was.
    """
    with _directory() as directory:
        reporter = Reporter(directory)
        driver = Driver(reporter.address, tasks)
        try:
            owed = asyncio.run(_killing(reporter, driver, kills))
        finally:
            reporter.stop()
        _check(driver, tasks)
        return owed


async def _killing(reporter: Reporter, driver: Driver, kills: int) -> int:
    owed = 0
    for _ in range(kills):
        attending = asyncio.create_task(driver.attend())
        await asyncio.sleep(random.uniform(0.05, 0.2))
        driver.withholding = True
        await asyncio.sleep(random.uniform(0.0, 0.02))
        reporter.kill()
        with contextlib.suppress(grpc.RpcError, ConnectionResetError):
            await asyncio.wait_for(attending, PATIENCE)
        if driver.over:
            raise RuntimeError("all was over before the reporter was killed")
        owed += len(driver.owed)
        driver.withholding = False
        await asyncio.to_thread(reporter.start)
    await asyncio.wait_for(driver.attend(), PATIENCE)
    return owed


def _check(driver: Driver, tasks: int) -> None:
    if driver.errors or driver.owed or len(driver.done) != tasks:
        raise RuntimeError(f"{len(driver.done)} of {tasks} over, {len(driver.owed)} lost, {driver.errors[:5]}")


@contextlib.contextmanager
def _directory() -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="tvb-", dir="/tmp")
    try:
        yield made
    finally:
        shutil.rmtree(made)


def main(arguments: Sequence[str]) -> int:
    """By hand: `python -m bench.reporting [TASKS]`."""
    tasks = int(arguments[0]) if arguments else TASKS
    each = throughput(tasks)
    print(f"{1000 * each:.3f} ms for a proposal, {1 / each:.0f}/s")
    print(f"{survived(tasks)} proposals survived {KILLS} deaths of the reporter")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
