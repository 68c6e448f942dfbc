"""The agent without clock and I/O: inputs in; records, actions and answers out.

Whoever drives it writes `Outcome.records` to the log before it carries out `Outcome.actions`, in order.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, durations, executors, records, statuses, subscribing, tasks, updates
from services.local_agent.core.actions import Timer, TimerKind
from services.local_agent.core.model import AgentState, ExecutorState
from services.local_agent.core.step import Step
from services.local_agent.core.update_filter import Verdict
from services.local_agent.wire import call_validation
from services.local_agent.wire.call_validation import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesos.v1 import mesos_pb2
    from services.local_agent.core.model import Executor, Framework
    from services.local_agent.core.step import Config, Moment
    from services.local_agent.core.tasks import Killed, Launched
    from services.local_agent.wire.http import Request

T = TypeVar("T")
_Call = executor_pb2.Call
NOT_RECOVERED = "Agent has not finished recovery"


class Phase(enum.Enum):
    """Life of the agent's process (Mesos: agent restart timeline)."""

    RECOVERING = "nothing is answered but 503"
    REREGISTERING = "executors come back; SUBSCRIBE and HEARTBEAT only"
    READY = "normal"


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What an input caused. `answer` is for its sender."""

    answer: T
    records: tuple[records.Record, ...]
    actions: tuple[actions.Action, ...]


class Machine:
    """One agent. Every method is one input and takes the moment at which it arrived."""

    def __init__(self, state: AgentState, config: Config, new_uuid: Callable[[], bytes]) -> None:
        self.state = state
        self.config = config
        self.phase = Phase.RECOVERING
        self._new_uuid = new_uuid

    def _step(self, now: Moment) -> Step:
        return Step(self.state, self.config, now, self._new_uuid)

    # The executor API.

    def request(self, request: Request, stream: int, now: Moment) -> Outcome[None]:
        """One request to the executor API; `stream` is the id of an event stream, if it opens one."""
        step = self._step(now)
        try:
            self._follow(step, request, stream)
        except Refused as refused:
            step.respond(refused.status, refused.body)
        return _outcome(step, None)

    def _follow(self, step: Step, request: Request, stream: int) -> None:
        """The rows of the table of status codes, in its order."""
        if self.phase is Phase.RECOVERING:
            raise Refused(503, NOT_RECOVERED)
        if request.method != "POST":
            text = f"405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{request.method}'."
            step.respond(405, text, (("Allow", "POST"),))
            return
        call = call_validation.decode(request.headers.get("content-type"), request.body)
        call_validation.validate(call)
        content_type = ""
        if call.type == _Call.SUBSCRIBE:
            content_type = call_validation.negotiate(request.headers.get("accept"))
        if call.type == _Call.HEARTBEAT:
            step.respond(202)
            return
        if self.phase is Phase.REREGISTERING and call.type != _Call.SUBSCRIBE:
            raise Refused(503, NOT_RECOVERED)
        executor = self._sender(call)
        if executor.state is ExecutorState.REGISTERING and call.type != _Call.SUBSCRIBE:
            raise Refused(403, "Executor is not subscribed")
        self._follow_call(step, executor, call, stream, content_type)

    def _sender(self, call: executor_pb2.Call) -> Executor:
        framework = self.state.frameworks.get(call.framework_id.value)
        if framework is None or not framework.executors:
            raise Refused(400, "Framework cannot be found")
        executor = framework.executors.get(call.executor_id.value)
        if executor is None:
            raise Refused(400, "Executor cannot be found")
        return executor

    def _follow_call(
        self, step: Step, executor: Executor, call: executor_pb2.Call, stream: int, content_type: str
    ) -> None:
        if call.type == _Call.SUBSCRIBE:
            malformed = subscribing.malformed_list(call)
            if malformed:
                raise Refused(400, malformed)
            subscribing.subscribe(step, executor, call, stream, content_type)
        elif call.type == _Call.UPDATE:
            verdict = updates.update(step, executor, call.update.status)
            if verdict is Verdict.NOT_DELIVERED_YET:
                task_id = call.update.status.task_id.value
                raise Refused(400, f"update.status.task_id: {task_id} was not launched yet ({verdict.value})")
            step.respond(202)
        elif call.type == _Call.MESSAGE:
            # There is no scheduler that would take it; to the executor it looks as if there were.
            step.respond(202)
        else:
            raise Refused(501, "501 Not Implemented.")

    def stream_closed(self, stream: int) -> None:
        """A stream's connection is gone. The agent does nothing about it, as in Mesos."""
        executor = self.state.by_stream(stream)
        if executor is not None:
            executor.stream = None

    # The scheduler's orders.

    def launch(
        self, framework: Framework, task: mesos_pb2.TaskInfo, container_id: str, sandbox: str, now: Moment
    ) -> Outcome[Launched]:
        """See `tasks.launch`."""
        step = self._step(now)
        answer = tasks.launch(step, framework, task, container_id=container_id, sandbox_of=sandbox)
        return _outcome(step, answer)

    def kill(self, task_id: str, policy: mesos_pb2.KillPolicy | None, now: Moment) -> Outcome[Killed]:
        """See `tasks.kill`."""
        step = self._step(now)
        return _outcome(step, tasks.kill(step, task_id, policy))

    def shut_down(self, executor: Executor, now: Moment) -> Outcome[bool]:
        """SHUTDOWN to one executor."""
        step = self._step(now)
        return _outcome(step, executors.shut_down(step, executor))

    def destroy_all(self, now: Moment) -> Outcome[None]:
        """SIGKILL to every container."""
        step = self._step(now)
        for executor in self.state.executors():
            executors.destroy(step, executor)
        return _outcome(step, None)

    def scheduler_acknowledged(self, container_id: str, task_id: str, uuid: bytes, now: Moment) -> Outcome[None]:
        """Answer to `AwaitAcknowledgement`."""
        step = self._step(now)
        updates.acknowledged(step, container_id, task_id, uuid)
        return _outcome(step, None)

    # Containers and timers.

    def container_forked(self, container_id: str, pid: int, start_ticks: int, now: Moment) -> Outcome[None]:
        """Answer to `LaunchContainer`."""
        step = self._step(now)
        if container_id in self.state.containers:
            step.record(records.ContainerForked(container_id, pid, start_ticks))
        return _outcome(step, None)

    def container_failed(self, container_id: str, why: str, now: Moment) -> Outcome[None]:
        """Answer to `LaunchContainer` when there is no process."""
        step = self._step(now)
        executor = self.state.containers.get(container_id)
        if executor is not None:
            executors.launch_failed(step, executor, why)
        return _outcome(step, None)

    def container_exited(
        self, container_id: str, exit_code: int | None, exit_signal: int | None, now: Moment
    ) -> Outcome[None]:
        """The executor's process is gone, and what the launcher could find of its others."""
        step = self._step(now)
        executor = self.state.containers.get(container_id)
        if executor is not None:
            executors.exited(step, executor, exit_code, exit_signal)
        return _outcome(step, None)

    def timer_fired(self, timer: Timer, now: Moment) -> Outcome[None]:
        """Answer to `StartTimer`."""
        step = self._step(now)
        executor = self.state.containers.get(timer.container_id)
        if timer.kind is TimerKind.REREGISTRATION:
            executors.reregistration_timed_out(step)
            self.phase = Phase.READY
        elif executor is None:
            pass
        elif timer.kind is TimerKind.REGISTRATION:
            executors.registration_timed_out(step, executor)
        elif timer.kind is TimerKind.SHUTDOWN_GRACE:
            executors.destroy(step, executor)
        elif timer.kind is TimerKind.HEARTBEAT:
            subscribing.heartbeat(step, executor)
        return _outcome(step, None)

    # Start.

    def start(self, agent_id: str, boot_id: str, port: int, now: Moment) -> Outcome[None]:
        """The log is replayed; the process takes over. Executors without checkpointing are not recovered."""
        step = self._step(now)
        for executor in self.state.executors():
            if self.state.frameworks[executor.framework_id].info.checkpoint:
                continue
            for task in executor.tasks.values():
                if not task.terminal:
                    step.receive(statuses.made_by_master(step, task.task_id, executor.executor_id))
            step.record(records.ExecutorForgotten(executor.container_id))
        step.record(records.AgentStarted(agent_id, boot_id, port))
        return _outcome(step, None)

    def recovered(self, now: Moment) -> Outcome[None]:
        """The containers have been looked for (`container_exited` for those that are gone): the window opens."""
        step = self._step(now)
        for executor in self.state.executors():
            for task in list(executor.tasks.values()):
                if task.queue:
                    step.forward_head(executor, task, recovering=True)
        if any(executor.state is ExecutorState.REGISTERING for executor in self.state.executors()):
            self.phase = Phase.REREGISTERING
            limit = durations.seconds(self.config.executor_reregistration_timeout)
            step.act(actions.StartTimer(Timer(TimerKind.REREGISTRATION), limit))
        else:
            self.phase = Phase.READY
        return _outcome(step, None)


def _outcome(step: Step, answer: T) -> Outcome[T]:
    return Outcome(answer, tuple(step.records), tuple(step.actions))
