"""A machine with everything around it in plain sight: its log, its actions, its streams."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, durations, records
from services.local_agent.core.actions import Action, RecoverContainers, SendEvent, Timer, TimerKind
from services.local_agent.core.evolve import apply
from services.local_agent.core.machine import Machine
from services.local_agent.core.model import AgentState, Framework
from services.local_agent.core.step import Config, Moment
from services.local_agent.wire.http import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.local_agent.core.model import Executor
    from services.local_agent.core.outcome import Outcome
    from services.local_agent.core.remarks import Remark

Call = executor_pb2.Call
Event = executor_pb2.Event
T = TypeVar("T")
NOW = Moment(1000.0, 10.0)
FRAMEWORK = "fw"
EXECUTOR = "shim"


def framework(*, aware: bool = True, checkpoint: bool = True) -> Framework:
    info = mesos_pb2.FrameworkInfo(user="u", name="n", checkpoint=checkpoint)
    info.id.value = FRAMEWORK
    if aware:
        info.capabilities.add().type = mesos_pb2.FrameworkInfo.Capability.PARTITION_AWARE
    return Framework(FRAMEWORK, info)


def task_info(task_id: str) -> mesos_pb2.TaskInfo:
    task = mesos_pb2.TaskInfo(name=task_id)
    task.task_id.value = task_id
    task.agent_id.value = "agent-S0"
    task.executor.executor_id.value = EXECUTOR
    task.executor.framework_id.value = FRAMEWORK
    task.executor.command.value = "x"
    return task


class Desk:
    """Inputs by method; what came of the last one is in `done`."""

    def __init__(self, **config: bool | int) -> None:
        """`config`: fields of `Config` that differ."""
        self.config = config
        self.log: list[bytes] = []
        self.done: tuple[Action, ...] = ()
        # Of the last input.
        self.remarks: tuple[Remark, ...] = ()
        self.uuids = (n.to_bytes(16, "big") for n in itertools.count(1 << 80))
        self.containers = (f"container-{n}" for n in itertools.count())
        self.streams = itertools.count(1)
        self.machine = self._machine(AgentState())
        self.start()

    def _machine(self, state: AgentState) -> Machine:
        config = Config(
            ip="127.0.0.1",
            hostname="h",
            resources=(),
            executor_registration_timeout=durations.parse("1mins"),
            executor_reregistration_timeout=durations.parse("2secs"),
            executor_shutdown_grace_period=durations.parse("5secs"),
            **self.config,  # type: ignore[arg-type]
        )
        return Machine(state, config, lambda: next(self.uuids))

    @property
    def state(self) -> AgentState:
        return self.machine.state

    def replayed(self) -> AgentState:
        state = AgentState()
        for payload in self.log:
            apply(state, records.decode(payload))
        return state

    def start(self) -> None:
        self.take(self.machine.start(self.state.agent_id or "agent-S0", "boot", 5051, NOW))
        if RecoverContainers() in self.done:
            self.take(self.machine.containers_recovered(NOW))

    def restart(self) -> None:
        """A new process over the same log; every process is still there."""
        self.machine = self._machine(self.replayed())
        self.start()

    def take(self, outcome: Outcome[T]) -> T:
        self.log += map(records.encode, outcome.records)
        self.done = outcome.actions
        self.remarks = outcome.remarks
        return outcome.answer

    def launch(self, task_id: str, **kind: bool) -> None:
        container = next(self.containers)
        self.take(self.machine.launch(framework(**kind), [task_info(task_id)], container, f"/s/{container}", NOW))

    def launch_group(self, *task_ids: str) -> None:
        container = next(self.containers)
        batch = [task_info(task_id) for task_id in task_ids]
        self.take(self.machine.launch(framework(), batch, container, f"/s/{container}", NOW, group=True))

    def sent(self, kind: Event.Type) -> list[Event]:
        """Events of that kind that the last input has caused."""
        return [action.event for action in self.done if isinstance(action, SendEvent) and action.event.type == kind]

    def reasons(self, task_id: str) -> list[str]:
        """Of all that the scheduler has received of a task."""
        received = self.state.inboxes[task_id].received
        return [mesos_pb2.TaskStatus.Reason.Name(entry.status.reason) for entry in received]

    def executor(self) -> Executor:
        executor = self.state.executor(FRAMEWORK, EXECUTOR)
        assert executor is not None
        return executor

    def call(self, kind: Call.Type) -> Call:
        call = Call(type=kind)
        call.executor_id.value = EXECUTOR
        call.framework_id.value = FRAMEWORK
        return call

    def post(self, call: Call) -> tuple[int, str]:
        headers = {"content-type": "application/x-protobuf", "accept": "application/x-protobuf"}
        request = Request("POST", "/api/v1/executor", headers, call.SerializeToString())
        self.take(self.machine.request(request, next(self.streams), NOW))
        for action in self.done:
            if isinstance(action, actions.Respond):
                return action.status, action.body
        return 200, ""

    def subscribe(self, tasks: Sequence[str] = (), updates: Sequence[mesos_pb2.TaskStatus] = ()) -> tuple[int, str]:
        call = self.call(Call.SUBSCRIBE)
        call.subscribe.SetInParent()
        call.subscribe.unacknowledged_tasks.extend(map(task_info, tasks))
        for status in updates:
            call.subscribe.unacknowledged_updates.add().status.CopyFrom(status)
        return self.post(call)

    def status(self, task_id: str, state: mesos_pb2.TaskState) -> mesos_pb2.TaskStatus:
        # Version 4 in the right nibble.
        raw = bytearray(next(self.uuids))
        raw[6] = 0x40
        status = mesos_pb2.TaskStatus(state=state, source=mesos_pb2.TaskStatus.SOURCE_EXECUTOR, uuid=bytes(raw))
        status.task_id.value = task_id
        return status

    def update(self, status: mesos_pb2.TaskStatus) -> tuple[int, str]:
        call = self.call(Call.UPDATE)
        call.update.status.CopyFrom(status)
        return self.post(call)

    def fire(self, kind: TimerKind) -> None:
        executor = self.state.executor(FRAMEWORK, EXECUTOR)
        own = {TimerKind.REREGISTRATION, TimerKind.NOT_FOUND, TimerKind.UNAVAILABLE}
        container = "" if kind in own or executor is None else executor.container_id
        self.take(self.machine.timer_fired(Timer(kind, container), NOW))
        if RecoverContainers() in self.done:
            self.take(self.machine.containers_recovered(NOW))

    def exit(self) -> None:
        executor = self.state.executor(FRAMEWORK, EXECUTOR)
        assert executor is not None
        self.take(self.machine.container_exited(executor.container_id, None, 9, NOW))

    def acknowledge_all(self) -> None:
        """The scheduler acknowledges what it has, as long as there is anything."""
        while True:
            heads = [(*key, self.state.queue(*key)[0].uuid) for key in self.state.queues()]
            waiting = [head for head in heads if self.at_scheduler(head[1], head[2])]
            if not waiting:
                return
            for container, task_id, uuid in waiting:
                self.take(self.machine.scheduler_acknowledged(container, task_id, uuid, NOW))

    def at_scheduler(self, task_id: str, uuid: bytes) -> bool:
        inbox = self.state.inboxes.get(task_id)
        return inbox is not None and inbox.has(uuid)

    def events(self) -> list[str]:
        """Kinds of the events that the last input sent; END is the final chunk."""
        kinds = []
        for action in self.done:
            if isinstance(action, actions.SendEvent):
                kinds.append(Event.Type.Name(action.event.type))
            elif isinstance(action, actions.EndStream):
                kinds.append("END")
        return kinds

    def received(self, task_id: str) -> list[str]:
        """States at the scheduler."""
        inbox = self.state.inboxes.get(task_id)
        return [mesos_pb2.TaskState.Name(entry.status.state) for entry in inbox.received] if inbox else []


def running(desk: Desk, *tasks: str) -> None:
    """Launches tasks, and their executor subscribes."""
    for task in tasks or ("t1",):
        desk.launch(task)
    desk.subscribe()
