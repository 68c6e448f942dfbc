"""What Mesos' master and a scheduler do, as a person or a test orders it through the control API."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from services.local_agent import store
from services.local_agent.core import actions, launch_validation
from services.local_agent.core.phase import Phase
from services.local_agent.hands import now

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Sequence

    from mesos.v1 import mesos_pb2
    from services.local_agent.core.actions import Action, PassMessage
    from services.local_agent.core.machine import Machine
    from services.local_agent.core.model import Executor, Framework
    from services.local_agent.core.outcome import Outcome
    from services.local_agent.core.tasks import Killed, Launched
    from services.local_agent.hands import Hands
    from services.local_agent.settings import Settings
    from trivet.agent.v1 import agent_pb2

    # None: nothing more will come.
    MessageQueue = asyncio.Queue[tuple[PassMessage, float] | None]

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
# What a watcher of messages has not fetched; more are lost, as messages of Mesos may be.
MAX_MESSAGES = 1000


class NotReady(Exception):
    """The agent has not finished recovery, it stops, it has no master, or it cannot write its log: no orders now."""


class NotFound(Exception):
    """There is nothing of that name; the text begins with the field."""


class _Perform(Protocol):
    def __call__(self, outcome: Outcome[T]) -> T: ...


class Scheduler:
    """Orders in, statuses out. Belongs to one event loop. Every order may raise NotReady."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        hands: Hands,
        perform: _Perform,
        new_uuid: Callable[[], uuid.UUID],
    ) -> None:
        self._work_dir = settings.work_dir
        self._machine = machine
        self._hands = hands
        self._perform = perform
        self._new_uuid = new_uuid
        self._changes: dict[str, asyncio.Future[None]] = {}
        self._message_watchers: dict[str, set[MessageQueue]] = {}
        # The agent's process ends: no more orders.
        self.stopping = False
        # Why the log could not be written; empty: it could. An order that is not in the log was not followed.
        self.unwritten = ""
        # Done when nothing will come any more. Shield it: it is shared.
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # Orders.

    async def launch(self, request: agent_pb2.LaunchTaskRequest) -> tuple[Launched, str]:
        """Launches; returns when the executor's process runs or has failed. The string is the framework's id.

        Raises:
            OrderRefused: Names the field that is wrong.
        """
        self._require_ready()
        framework, task = launch_validation.normalise(request, self._machine.state)
        return await self._launch(framework, [task], group=False)

    async def launch_group(self, request: agent_pb2.LaunchTaskGroupRequest) -> tuple[Launched, str]:
        """The same for a group.

        Raises:
            OrderRefused: Names the field that is wrong.
        """
        self._require_ready()
        framework, batch = launch_validation.normalise_group(request, self._machine.state)
        return await self._launch(framework, batch, group=True)

    async def _launch(
        self, framework: Framework, batch: Sequence[mesos_pb2.TaskInfo], *, group: bool
    ) -> tuple[Launched, str]:
        container_id = str(self._new_uuid())
        sandbox = store.sandbox_path(
            self._work_dir,
            agent_id=self._machine.state.agent_id,
            framework_id=framework.framework_id,
            executor_id=batch[0].executor.executor_id.value,
            container_id=container_id,
        )
        launched = self._order(self._machine.launch(framework, batch, container_id, sandbox, now(), group=group))
        executor = self._machine.state.containers.get(launched.container_id)
        job = self._hands.job(launched.container_id)
        if job is not None:
            await asyncio.wait([job])
            self._require_written()
        if executor is not None and not launched.failure:
            launched = replace(launched, failure=executor.launch_failure)
        return launched, framework.framework_id

    def kill(self, task_id: str, policy: mesos_pb2.KillPolicy | None) -> Killed:
        """Passes a KILL on.

        Raises:
            NotFound: No such task was ever launched here.
        """
        self.require_task(task_id)
        self._require_ready()
        return self._order(self._machine.kill(task_id, policy, now()))

    def shut_down(self, framework_id: str, executor_id: str) -> bool:
        """SHUTDOWN, and destroy after the grace period.

        Raises:
            NotFound: No such executor, or it is over.
        """
        executor = self._executor(framework_id, executor_id)
        self._require_ready()
        return self._order(self._machine.shut_down(executor, now()))

    def message(self, framework_id: str, executor_id: str, data: bytes) -> bool:
        """MESSAGE; False: it is lost.

        Raises:
            NotFound: No such executor, or it is over.
        """
        executor = self._executor(framework_id, executor_id)
        self._require_ready()
        return self._order(self._machine.message(executor, data, now()))

    def tear_down(self, framework_id: str) -> None:
        """Ends a framework.

        Raises:
            NotFound: No such framework.
        """
        framework = self._machine.state.frameworks.get(framework_id)
        if framework is None:
            raise NotFound(f"framework_id: no framework {framework_id!r}")
        self._require_ready()
        if not framework.torn_down:
            self._order(self._machine.tear_down(framework, now()))

    def drain(self, max_grace: int | None) -> list[str]:
        """KILL to every task. `max_grace`: nanoseconds."""
        self._require_ready()
        return self._order(self._machine.drain(max_grace, now()))

    def behave(self, *, scheduler_acknowledges: bool | None, master_connected: bool | None) -> None:
        """None: as before. Allowed at any time."""
        outcome = self._machine.behave(
            now(), scheduler_acknowledges=scheduler_acknowledges, master_connected=master_connected
        )
        self._order(outcome)

    def acknowledge(self, task_id: str, uuid: bytes) -> bytes:
        """Acknowledges what waits, or the update of this uuid; returns its uuid.

        Raises:
            NotFound: Nothing of the kind waits.
        """
        self._require_ready()
        acknowledged = self._order(self._machine.acknowledge(task_id, uuid, now()))
        if not acknowledged:
            raise NotFound(f"task_id, uuid: no such update of {task_id!r} waits for an acknowledgement")
        return acknowledged

    # What the scheduler receives.

    def require_task(self, task_id: str) -> None:
        """Raises NotFound unless a task of that id was launched here and is remembered."""
        if task_id not in self._machine.state.inboxes:
            raise NotFound(f"task_id: no task {task_id!r}")

    def changed(self, task_id: str) -> asyncio.Future[None]:
        """Done when the scheduler gets the next status of the task. Shield it: it is shared."""
        if task_id not in self._changes:
            self._changes[task_id] = asyncio.get_running_loop().create_future()
        return self._changes[task_id]

    def watch_messages(self, framework_id: str) -> MessageQueue:
        """What executors of the framework say from now on, with the CLOCK_MONOTONIC of its arrival."""
        queue: MessageQueue = asyncio.Queue(MAX_MESSAGES)
        self._message_watchers.setdefault(framework_id, set()).add(queue)
        return queue

    def unwatch_messages(self, framework_id: str, queue: MessageQueue) -> None:
        """The watcher is gone."""
        watchers = self._message_watchers[framework_id]
        watchers.discard(queue)
        if not watchers:
            del self._message_watchers[framework_id]

    def end_watches(self) -> None:
        """Nothing will come any more; who waits for something hears it."""
        self.stopping = True
        if not self.ended.done():
            self.ended.set_result(None)
        for queue in (queue for queues in self._message_watchers.values() for queue in queues):
            if not queue.full():
                queue.put_nowait(None)

    def act(self, action: Action) -> None:
        """Does the scheduler's part of what the machine wants."""
        match action:
            case actions.Notify(task_id):
                change = self._changes.pop(task_id, None)
                if change is not None and not change.done():
                    change.set_result(None)
            case actions.AwaitAcknowledgement(container_id, task_id, status_uuid):
                # In the next turn of the loop, as an answer that has travelled.
                asyncio.get_running_loop().call_soon(self._acknowledge, container_id, task_id, status_uuid)
            case actions.PassMessage(framework_id):
                for queue in self._message_watchers.get(framework_id, ()):
                    if queue.full():
                        _LOG.warning("a watcher does not fetch its messages", extra={"fields": {"lost": 1}})
                    else:
                        queue.put_nowait((action, now().monotonic))
            case _:
                raise TypeError(f"no rule for {action}")

    def _acknowledge(self, container_id: str, task_id: str, status_uuid: bytes) -> None:
        self._perform(self._machine.scheduler_acknowledged(container_id, task_id, status_uuid, now()))

    def _order(self, outcome: Outcome[T]) -> T:
        answer = self._perform(outcome)
        self._require_written()
        return answer

    def _require_written(self) -> None:
        if self.unwritten:
            raise NotReady(f"the agent stops: it cannot write its log: {self.unwritten}")

    def _executor(self, framework_id: str, executor_id: str) -> Executor:
        executor = self._machine.state.executor(framework_id, executor_id)
        if executor is None:
            raise NotFound("framework_id, executor_id: no such executor")
        return executor

    def _require_ready(self) -> None:
        if self.stopping or self._machine.phase is Phase.LEAVING:
            raise NotReady("the agent stops")
        if self._machine.phase is not Phase.READY:
            raise NotReady("the agent has not finished recovery")
        if not self._machine.state.master_connected:
            raise NotReady("the agent has no master (SetBehavior)")
