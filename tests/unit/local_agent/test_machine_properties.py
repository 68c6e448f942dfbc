"""What holds whatever happens, in whatever order."""

from __future__ import annotations

import copy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesos.v1 import mesos_pb2
from services.local_agent.core import records, snapshot
from services.local_agent.core.actions import TimerKind
from services.local_agent.core.evolve import apply
from services.local_agent.core.model import TERMINAL_STATES, AgentState, ExecutorState
from services.local_agent.core.phase import Phase
from services.local_agent.core.tasks import OrderRefused
from tests.effort import examples
from tests.unit.local_agent.desk import EXECUTOR, FRAMEWORK, NOW, Desk

TASKS = st.sampled_from(["t1", "t2", "t3"])
STATES = st.sampled_from(
    [mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING, mesos_pb2.TASK_FINISHED, mesos_pb2.TASK_FAILED]
)


class AnyLife(RuleBasedStateMachine):
    """Launches, updates, kills, deaths and restarts of the agent in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.sent: list[mesos_pb2.TaskStatus] = []
        self.stream = 0
        # Updates that Mesos delivers without a look; they may double.
        self.unchecked: set[bytes] = set()

    @initialize()
    def begin(self) -> None:
        self.desk.launch("t1")
        self.desk.launch("t2")
        self.desk.subscribe()

    def _executor_is(self, *states: ExecutorState) -> bool:
        executor = self.desk.state.executor(FRAMEWORK, EXECUTOR)
        return executor is not None and executor.state in states

    @precondition(lambda self: self.desk.machine.phase is Phase.READY)
    @rule(task=TASKS)
    def launch(self, task: str) -> None:
        try:
            self.desk.launch(task)
        except OrderRefused:
            return
        # Of a task id that is used again Mesos takes an old update for one of the new task.
        self.unchecked |= {status.uuid for status in self.sent if status.task_id.value == task}

    @precondition(lambda self: self.desk.machine.phase is Phase.READY)
    @rule(tasks=st.lists(TASKS, unique=True, min_size=1))
    def launch_group(self, tasks: list[str]) -> None:
        try:
            self.desk.launch_group(*tasks)
        except OrderRefused:
            return
        self.unchecked |= {status.uuid for status in self.sent if status.task_id.value in tasks}

    @rule(tasks=st.lists(TASKS, unique=True), recent=st.integers(0, 3))
    def subscribe(self, tasks: list[str], recent: int) -> None:
        updates = self.sent[len(self.sent) - min(recent, len(self.sent)) :]
        self._note_unchecked(updates)
        self.desk.subscribe(tasks, updates)

    @rule(task=TASKS, state=STATES)
    def update(self, task: str, state: mesos_pb2.TaskState) -> None:
        status = self.desk.status(task, state)
        self._note_unchecked([status])
        if self.desk.update(status)[0] == 202:
            self.sent.append(status)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def update_again(self, data: st.DataObject) -> None:
        status = data.draw(st.sampled_from(self.sent))
        self._note_unchecked([status])
        self.desk.update(status)

    def _note_unchecked(self, updates: list[mesos_pb2.TaskStatus]) -> None:
        for status in updates:
            if self.desk.state.find_task(status.task_id.value) is None:
                self.unchecked.add(status.uuid)

    @rule(task=TASKS)
    def kill(self, task: str) -> None:
        self.desk.take(self.desk.machine.kill(task, None, NOW))

    @precondition(lambda self: self._executor_is(ExecutorState.REGISTERING, ExecutorState.RUNNING))
    @rule()
    def shut_down(self) -> None:
        executor = self.desk.state.executor(FRAMEWORK, EXECUTOR)
        assert executor is not None
        self.desk.take(self.desk.machine.shut_down(executor, NOW))

    @precondition(lambda self: self.desk.state.executor(FRAMEWORK, EXECUTOR) is not None)
    @rule()
    def exit(self) -> None:
        self.desk.exit()

    @rule(kind=st.sampled_from([TimerKind.REGISTRATION, TimerKind.SHUTDOWN_GRACE, TimerKind.HEARTBEAT]))
    def timer(self, kind: TimerKind) -> None:
        if self.desk.state.executor(FRAMEWORK, EXECUTOR) is not None:
            self.desk.fire(kind)

    @precondition(lambda self: self.desk.machine.phase is Phase.REREGISTERING)
    @rule()
    def end_of_window(self) -> None:
        self.desk.fire(TimerKind.REREGISTRATION)

    @precondition(lambda self: self.desk.machine.phase is Phase.READY)
    @rule(grace=st.sampled_from([None, 0, 10**9]))
    def drain(self, grace: int | None) -> None:
        self.desk.take(self.desk.machine.drain(grace, NOW))

    @precondition(lambda self: self.desk.machine.phase is Phase.READY and FRAMEWORK in self.desk.state.frameworks)
    @rule()
    def tear_down(self) -> None:
        framework = self.desk.state.frameworks[FRAMEWORK]
        if not framework.torn_down:
            self.desk.take(self.desk.machine.tear_down(framework, NOW))

    @rule(acknowledges=st.sampled_from([None, True, False]), master=st.sampled_from([None, True, False]))
    def behave(self, *, acknowledges: bool | None, master: bool | None) -> None:
        outcome = self.desk.machine.behave(NOW, scheduler_acknowledges=acknowledges, master_connected=master)
        self.desk.take(outcome)

    @rule(task=TASKS)
    def acknowledge_by_hand(self, task: str) -> None:
        self.desk.take(self.desk.machine.acknowledge(task, b"", NOW))

    @rule()
    def leave(self) -> None:
        self.desk.take(self.desk.machine.leave(NOW))

    @rule()
    def acknowledge(self) -> None:
        self.desk.acknowledge_all()

    @rule()
    def stream_closes(self) -> None:
        executor = self.desk.state.executor(FRAMEWORK, EXECUTOR)
        if executor is not None and executor.stream is not None:
            self.desk.machine.stream_closed(executor.stream)

    @rule(cleanup=st.booleans(), holds=st.booleans())
    def restart(self, *, cleanup: bool, holds: bool) -> None:
        hold = 10**9 if holds else 0
        self.desk.config = {"cleanup": cleanup, "not_found_for": hold, "unavailable_for": hold}
        self.desk.restart()

    @rule(kind=st.sampled_from([TimerKind.NOT_FOUND, TimerKind.UNAVAILABLE]))
    def hold_ends(self, kind: TimerKind) -> None:
        due = {TimerKind.NOT_FOUND: Phase.UNROUTED, TimerKind.UNAVAILABLE: Phase.RECOVERING}[kind]
        if self.desk.machine.phase in {due, Phase.LEAVING}:
            self.desk.fire(kind)

    @invariant()
    def the_log_gives_the_state(self) -> None:
        assert self.desk.replayed() == _without_streams(self.desk.state)

    @invariant()
    def a_compacted_log_gives_the_state(self) -> None:
        state = AgentState()
        for record in snapshot.records_of(self.desk.state):
            apply(state, records.decode(records.encode(record)))
        expected = _without_streams(self.desk.state)
        assert state == expected
        assert list(state.frameworks) == list(expected.frameworks), "the order in which they are forgotten"
        assert list(state.ended_tasks) == list(expected.ended_tasks)
        assert list(state.containers) == list(expected.containers)

    @invariant()
    def checked_updates_are_delivered_once(self) -> None:
        for inbox in self.desk.state.inboxes.values():
            uuids = [entry.status.uuid for entry in inbox.received if entry.status.uuid not in self.unchecked | {b""}]
            assert len(uuids) == len(set(uuids))

    @invariant()
    def heads_are_at_the_scheduler_when_there_is_a_way(self) -> None:
        if self.desk.machine.phase is not Phase.READY or not self.desk.state.master_connected:
            return
        for container_id, task_id in self.desk.state.queues():
            assert self.desk.at_scheduler(task_id, self.desk.state.queue(container_id, task_id)[0].uuid)

    @invariant()
    def groups_are_delivered_whole_or_not_at_all(self) -> None:
        for executor in self.desk.state.executors():
            for task in executor.tasks.values():
                if task.group and task.delivered:
                    others = [other for other in executor.tasks.values() if other.group == task.group]
                    assert all(other.delivered for other in others)

    @invariant()
    def a_retired_agent_has_nothing_left(self) -> None:
        if not self.desk.state.agent_id:
            assert not self.desk.state.containers
            assert self.desk.machine.phase is Phase.LEAVING

    @invariant()
    def a_live_task_has_at_most_one_end_and_it_is_the_last(self) -> None:
        for executor in self.desk.state.executors():
            if self.desk.state.frameworks[executor.framework_id].torn_down:
                # Nobody hears of the ends.
                continue
            for task in executor.tasks.values():
                ends = [status.state in TERMINAL_STATES for status in task.queue]
                assert not any(ends[:-1])
                assert task.terminal == bool(ends and ends[-1])

    @invariant()
    def a_dead_executor_has_ended_all_its_tasks(self) -> None:
        for executor in self.desk.state.executors():
            if executor.state is ExecutorState.TERMINATED:
                assert not self.desk.state.frameworks[executor.framework_id].torn_down
                assert executor.tasks
                assert all(task.terminal for task in executor.tasks.values())


def _without_streams(state: AgentState) -> AgentState:
    plain = copy.deepcopy(state)
    for executor in (*plain.containers.values(), *plain.ended):
        executor.stream = None
    return plain


AnyLife.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=25, deadline=None)
TestAnyLife = AnyLife.TestCase
