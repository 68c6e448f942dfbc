"""The agent without clock and I/O: inputs in; records, actions and answers out.

Whoever drives it writes `Outcome.records` to the log before it carries out `Outcome.actions`, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.core import actions, calls, executors, records, remarks, statuses, subscribing, tasks, updates
from services.local_agent.core.actions import Timer, TimerKind
from services.local_agent.core.model import AgentState, ExecutorState
from services.local_agent.core.outcome import outcome_of
from services.local_agent.core.phase import Phase
from services.local_agent.core.step import Step
from services.local_agent.core.subscribing import CheckFailed
from services.local_agent.wire.call_validation import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesos.v1 import mesos_pb2
    from services.local_agent.core.model import Executor, Framework
    from services.local_agent.core.outcome import Outcome
    from services.local_agent.core.step import Config, Moment
    from services.local_agent.core.tasks import Killed, Launched
    from services.local_agent.wire.http import Request


class Machine:
    """One agent. Every method is one input and takes the moment at which it arrived."""

    def __init__(self, state: AgentState, config: Config, new_uuid: Callable[[], bytes]) -> None:
        self.state = state
        self.config = config
        self.phase = Phase.RECOVERING
        self._new_uuid = new_uuid
        self._retries: dict[tuple[str, str], float] = {}

    def _step(self, now: Moment) -> Step:
        return Step(self.state, self.config, now, self._new_uuid, self.phase is Phase.READY, self._retries)

    # The executor API.

    def request(self, request: Request, stream: int, now: Moment) -> Outcome[None]:
        """One request to the executor API; `stream` is the id of an event stream, if it opens one."""
        step = self._step(now)
        try:
            calls.follow(step, self.phase, request, stream)
        except Refused as refused:
            step.respond(refused.status, refused.body, refused.headers)
            self._remark_refusal(step, request, refused.status, refused.body)
        except CheckFailed as failed:
            if self.config.abort_on_check_failure:
                step.act(actions.Abort(str(failed)))
            else:
                step.respond(400, str(failed))
                self._remark_refusal(step, request, 400, str(failed))
        return outcome_of(step, None)

    def _remark_refusal(self, step: Step, request: Request, status: int, body: str) -> None:
        passing = status == 503 or self.phase is Phase.UNROUTED
        what = f"{request.method} {request.target}"
        step.remark(remarks.refused(self.state, step.call, what, status, body, passing=passing))

    def stream_closed(self, stream: int) -> None:
        """A stream's connection is gone. The agent does nothing about it, as in Mesos."""
        executor = self.state.by_stream(stream)
        if executor is not None:
            executor.stream = None

    # The scheduler's orders.

    def launch(
        self,
        framework: Framework,
        batch: Sequence[mesos_pb2.TaskInfo],
        container_id: str,
        sandbox: str,
        now: Moment,
        *,
        group: bool = False,
    ) -> Outcome[Launched]:
        """See `tasks.launch`."""
        step = self._step(now)
        answer = tasks.launch(step, framework, batch, group=group, container_id=container_id, sandbox_of=sandbox)
        return outcome_of(step, answer)

    def kill(self, task_id: str, policy: mesos_pb2.KillPolicy | None, now: Moment) -> Outcome[Killed]:
        """See `tasks.kill`."""
        step = self._step(now)
        return outcome_of(step, tasks.kill(step, task_id, policy))

    def shut_down(self, executor: Executor, now: Moment) -> Outcome[bool]:
        """SHUTDOWN to one executor."""
        step = self._step(now)
        return outcome_of(step, executors.shut_down(step, executor))

    def message(self, executor: Executor, data: bytes, now: Moment) -> Outcome[bool]:
        """See `tasks.message`."""
        step = self._step(now)
        return outcome_of(step, tasks.message(step, executor, data))

    def tear_down(self, framework: Framework, now: Moment) -> Outcome[None]:
        """See `executors.tear_down`."""
        step = self._step(now)
        executors.tear_down(step, framework)
        return outcome_of(step, None)

    def drain(self, max_grace: int | None, now: Moment) -> Outcome[list[str]]:
        """See `tasks.drain`."""
        step = self._step(now)
        return outcome_of(step, tasks.drain(step, max_grace))

    def behave(
        self, now: Moment, *, scheduler_acknowledges: bool | None = None, master_connected: bool | None = None
    ) -> Outcome[None]:
        """How scheduler and master behave from now on; None: as before."""
        step = self._step(now)
        acknowledges = self.state.scheduler_acknowledges if scheduler_acknowledges is None else scheduler_acknowledges
        connected = self.state.master_connected if master_connected is None else master_connected
        if (acknowledges, connected) != (self.state.scheduler_acknowledges, self.state.master_connected):
            step.record(records.BehaviorSet(acknowledges, connected))
            step.forward_all()
        return outcome_of(step, None)

    def acknowledge(self, task_id: str, uuid: bytes, now: Moment) -> Outcome[bytes]:
        """See `updates.acknowledged_by_hand`."""
        step = self._step(now)
        return outcome_of(step, updates.acknowledged_by_hand(step, task_id, uuid))

    def recover_early(self, now: Moment) -> Outcome[None]:
        """The process ends before it has looked for containers: what it is to destroy it must find first."""
        step = self._step(now)
        if self.phase is Phase.UNROUTED:
            self._install_routes(step)
        return outcome_of(step, None)

    def destroy_all(self, now: Moment) -> Outcome[None]:
        """SIGKILL to every container."""
        step = self._step(now)
        for executor in self.state.executors():
            executors.destroy(step, executor)
        return outcome_of(step, None)

    def scheduler_acknowledged(self, container_id: str, task_id: str, uuid: bytes, now: Moment) -> Outcome[None]:
        """Answer to `AwaitAcknowledgement`."""
        step = self._step(now)
        updates.acknowledged(step, container_id, task_id, uuid)
        return outcome_of(step, None)

    # Containers and timers.

    def container_forked(self, container_id: str, pid: int, start_ticks: int, now: Moment) -> Outcome[None]:
        """Answer to `LaunchContainer`."""
        step = self._step(now)
        if container_id in self.state.containers:
            step.record(records.ContainerForked(container_id, pid, start_ticks))
        return outcome_of(step, None)

    def container_failed(self, container_id: str, why: str, now: Moment) -> Outcome[None]:
        """Answer to `LaunchContainer` when there is no process."""
        step = self._step(now)
        executor = self.state.containers.get(container_id)
        if executor is not None:
            executors.launch_failed(step, executor, why)
            self._end_if_done(step)
        return outcome_of(step, None)

    def container_exited(
        self, container_id: str, exit_code: int | None, exit_signal: int | None, now: Moment
    ) -> Outcome[None]:
        """The executor's process is gone, and what the launcher could find of its others."""
        step = self._step(now)
        executor = self.state.containers.get(container_id)
        if executor is not None:
            executors.exited(step, executor, exit_code, exit_signal)
            self._end_if_done(step)
        return outcome_of(step, None)

    def container_limited(
        self, container_id: str, message: str, resources: Sequence[mesos_pb2.Resource], now: Moment
    ) -> Outcome[None]:
        """The container has exceeded its memory, or has already ended by that. `resources`: what it used."""
        step = self._step(now)
        executor = self.state.containers.get(container_id)
        if executor is not None:
            executors.limited(step, executor, message, resources)
        return outcome_of(step, None)

    def timer_fired(self, timer: Timer, now: Moment) -> Outcome[None]:
        """Answer to `StartTimer`."""
        step = self._step(now)
        executor = self.state.containers.get(timer.container_id)
        if timer.kind is TimerKind.NOT_FOUND:
            if self.phase is Phase.UNROUTED:
                self._install_routes(step)
        elif timer.kind is TimerKind.UNAVAILABLE:
            self._recovered(step)
        elif timer.kind is TimerKind.REREGISTRATION:
            if self.phase is Phase.REREGISTERING:
                executors.reregistration_timed_out(step)
                self._register(step)
        elif timer.kind is TimerKind.RETRY:
            step.retry(timer.container_id, timer.task_id)
        elif executor is None:
            pass
        elif timer.kind is TimerKind.REGISTRATION:
            executors.registration_timed_out(step, executor)
        elif timer.kind is TimerKind.SHUTDOWN_GRACE:
            executors.destroy(step, executor)
        elif timer.kind is TimerKind.HEARTBEAT:
            subscribing.heartbeat(step, executor)
        return outcome_of(step, None)

    # Start and end.

    def start(self, agent_id: str, boot_id: str, port: int, now: Moment) -> Outcome[None]:
        """The log is replayed; the process takes over. Executors without checkpointing are not recovered."""
        step = self._step(now)
        if self.state.leaving:
            step.record(records.AgentRetired())
        executors.forget_unrecoverable(step)
        step.record(records.AgentStarted(agent_id, boot_id, port))
        if self.config.not_found_for:
            self.phase = Phase.UNROUTED
            step.start_timer(Timer(TimerKind.NOT_FOUND), self.config.not_found_for)
        else:
            self._install_routes(step)
        return outcome_of(step, None)

    def containers_recovered(self, now: Moment) -> Outcome[None]:
        """The containers have been looked for (`container_exited` for those that are gone): the window opens."""
        step = self._step(now)
        if self.config.unavailable_for:
            step.start_timer(Timer(TimerKind.UNAVAILABLE), self.config.unavailable_for)
        else:
            self._recovered(step)
        return outcome_of(step, None)

    def leave(self, now: Moment) -> Outcome[None]:
        """SIGUSR1: the agent leaves its master; SHUTDOWN to all executors, checkpointing or not."""
        step = self._step(now)
        if self.phase is Phase.LEAVING:
            return outcome_of(step, None)
        # First: a process that dies in the middle must not tell of the same ends in another way.
        step.record(records.AgentLeaving())
        for executor in self.state.executors():
            executors.say_as_master(step, executor, statuses.removed_with_agent)
        if self.phase is Phase.UNROUTED:
            # Without looking for them nobody would notice their ends.
            step.act(actions.RecoverContainers())
        self._leave(step)
        return outcome_of(step, None)

    def _install_routes(self, step: Step) -> None:
        self.phase = Phase.RECOVERING
        step.act(actions.RecoverContainers())

    def _recovered(self, step: Step) -> None:
        if self.phase is Phase.LEAVING:
            return
        if self.config.cleanup:
            self._leave(step)
        elif any(executor.state is ExecutorState.REGISTERING for executor in self.state.executors()):
            self.phase = Phase.REREGISTERING
            step.start_timer(Timer(TimerKind.REREGISTRATION), self.config.executor_reregistration_timeout)
        else:
            self._register(step)

    def _register(self, step: Step) -> None:
        """With the master: kept statuses flow, and what was torn down meanwhile is (again) told to end."""
        self.phase = Phase.READY
        step.registered = True
        for executor in self.state.executors():
            if self.state.frameworks[executor.framework_id].torn_down:
                executors.shut_down(step, executor)
        step.forward_all()

    def _leave(self, step: Step) -> None:
        self.phase = Phase.LEAVING
        step.registered = False
        for executor in self.state.executors():
            executors.shut_down(step, executor)
        self._end_if_done(step)

    def _end_if_done(self, step: Step) -> None:
        gone = all(executor.state is ExecutorState.TERMINATED for executor in self.state.executors())
        if self.phase is Phase.LEAVING and gone:
            step.record(records.AgentRetired())
            step.act(actions.EndAgent())
