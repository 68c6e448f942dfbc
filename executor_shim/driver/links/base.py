"""What the three peers share: Hello, and finding the task that a message speaks of."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from executor_shim.driver.links.link import Link
from executor_shim.driver.state.entries import DRIVER
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import EndRequest, Latch, Task

_LOG = logging.getLogger(__name__)
PROTOCOL = 1


class BasePeer(ABC):
    """One service. Subclasses name it, and handle what it says beyond Hello."""

    name: str
    method: str
    request: Any
    response: Any

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.identified = asyncio.Event()
        if hub.book.identity:
            self.identified.set()
        self.link: Link[Any, Any] = Link(
            self.name,
            f"unix:{hub.options.services}/{self.name}.sock",
            self.method,
            self,
            ready=self.identified,
            encode=self.request.SerializeToString,
            decode=self.response.FromString,
        )

    # Hello

    def hello(self) -> Iterator[Any]:
        """Everything that is true now."""
        hub = self._hub
        identity = hub.book.identity
        tasks = list(hub.book.tasks.values())
        yield self.request(
            hello=link_pb2.Hello(
                protocol=PROTOCOL,
                executor=self.executor_key(),
                generation=hub.options.generation,
                token=hub.book.secret,
                boot_id=hub.hands.boot_id,
                task_count=len(tasks),
                agent_id=identity["agent_id"],
                container_id=identity["container_id"],
                hostname=identity["hostname"],
                sandbox=hub.environment.sandbox,
                host_sandbox=hub.environment.host_sandbox,
                partition_aware=identity["partition_aware"],
                task_killing_state=identity["task_killing_state"],
                uid=hub.hands.uid,
            )
        )
        for task in tasks:
            yield self.request(hello_task=self._hello_task(task))
        yield self.request(hello_end=link_pb2.HelloEnd())

    def _hello_task(self, task: Task) -> link_pb2.HelloTask:
        hello = link_pb2.HelloTask(
            key=self.key(task),
            task_hash=hashlib.sha256(task.info).digest(),
            hands=self._hub.hands.task(task.key).to_pb(),
            ends=[end_to_pb(end) for end in task.ends],
            accepted_states=[entry.state for entry in task.accepted],
        )
        state = link_pb2.TaskState.FromString(task.task_state)
        if task.task_state and not self._hub.groups.keeps_back(task, state):
            hello.task_state.CopyFrom(state)
        if task.verdict:
            hello.verdict.ParseFromString(task.verdict)
        proposed = [entry for entry in task.accepted if entry.epoch]
        if proposed:
            hello.last_accepted.epoch = proposed[-1].epoch
            hello.last_accepted.n = proposed[-1].n
        if task.latch is not None:
            hello.latch.CopyFrom(latch_to_pb(task.latch))
        return hello

    # Both ways

    def launch(self, task: Task) -> None:
        """The task, as the agent sent it."""
        self.link.send(self.request(launch=link_pb2.Launch(key=self.key(task), info=task.info)))

    def forget(self, task: Task) -> None:
        """The task is over for everybody."""
        self.link.send(self.request(forget=link_pb2.Forget(key=self.key(task))))

    def on_message(self, message: Any) -> None:
        """Hello's answers here, the rest in `handle`."""
        kind = message.WhichOneof("message")
        if kind == "hello_ack":
            self.link.acknowledged()
            self.on_up()
        elif kind is not None:
            content = getattr(message, kind)
            task = self.find(content.key)
            if task is None:
                _LOG.warning("%s speaks of a task that is not here", self.name)
                self.unknown(kind, content)
            elif kind == "need_task":
                self.launch(task)
            else:
                self.handle(kind, content, task)

    def on_up(self) -> None:
        """The service has taken in the Hello."""
        self._hub.watchman.review_all()
        self._hub.exit_plan.review()

    def on_down(self) -> None:
        """The stream has broken."""
        self._hub.watchman.review_all()

    @abstractmethod
    def handle(self, kind: str, content: Any, task: Task) -> None:
        """A message of the service about a task."""

    def unknown(self, kind: str, content: Any) -> None:  # noqa: B027 - only the reporter waits for an answer
        """A message about a task that the driver does not have."""

    # Keys

    def executor_key(self) -> link_pb2.ExecutorKey:
        """This executor."""
        environment = self._hub.environment
        return link_pb2.ExecutorKey(
            framework_id=environment.framework_id,
            executor_id=environment.executor_id,
            incarnation=self._hub.options.incarnation,
        )

    def key(self, task: Task) -> link_pb2.TaskKey:
        """The task's id for the services."""
        return link_pb2.TaskKey(executor=self.executor_key(), task_id=task.task_id, launch=task.launch)

    def find(self, key: link_pb2.TaskKey) -> Task | None:
        """The task of that key, if it is one of ours."""
        if key.executor.incarnation != self._hub.options.incarnation:
            return None
        return self._hub.book.tasks.get(f"{key.launch}:{key.task_id}")


def end_to_pb(end: EndRequest) -> link_pb2.EndRequest:
    """As the runner sees it."""
    return link_pb2.EndRequest(
        cause=link_pb2.EndCause.Name(end.cause),
        seq=end.seq,
        grace_secs=end.grace,
        deadline=end.deadline,
        message=end.message,
    )


def latch_to_pb(latch: Latch) -> link_pb2.Latch:
    """As the services see it."""
    driver = latch.origin == DRIVER
    return link_pb2.Latch(
        state=latch.state,
        uuid=latch.uuid,
        origin=link_pb2.LATCH_ORIGIN_DRIVER if driver else link_pb2.LATCH_ORIGIN_REPORTER,
        acknowledged=latch.acknowledged,
    )
