"""One task of a reporter, its driver, and the wire between them, all in the hands of a test."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from hypothesis.stateful import RuleBasedStateMachine

from mesos.v1 import mesos_pb2
from tests.unit.reporter.desk import KEY, Desk, Request
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from services.reporter.task import Entry

END_PHASES = [
    link_pb2.TASK_PHASE_SUCCESS,
    link_pb2.TASK_PHASE_FAILED,
    link_pb2.TASK_PHASE_KILLED,
    link_pb2.TASK_PHASE_LOST,
]


class Story(RuleBasedStateMachine):
    """One task; its driver never forgets, everything between driver and reporter may be lost at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.desk = Desk(self.directory.name)
        self.driver = DriverTask(KEY)
        self.killing = True
        self.lost_state = False
        # Answers and acknowledgements on their way to the reporter.
        self.wire: list[Request] = []
        self.end_told = False
        self.life = 0
        self.template = link_pb2.TaskState()
        self.version = 0
        self.running_when_end_told = 0

    def attach(self) -> None:
        self.desk.attach([self.driver.hello()], hello(killing=self.killing, tasks=1))
        self.note_end()

    def note_end(self) -> None:
        state = self.driver.state
        ended = state is not None and (state.end_cause or state.phase in END_PHASES)
        if self.desk.session is not None and ended and not self.end_told:
            # The reporter knows of the end now; what it has said before is on the wire or accepted.
            self.end_told = True
            self.deliver_all()
            self.running_when_end_told = self.count(mesos_pb2.TASK_RUNNING)

    def count(self, state: int) -> int:
        return sum(status.state == state for status in self.driver.accepted)

    def deliver_all(self) -> None:
        for proposal in self.desk.proposals():
            self.wire.append(Request(answer=self.driver.offer(proposal)))

    def settle(self) -> None:
        """Everything heals: the link comes back, all messages arrive, time passes."""
        self.attach()
        for _ in range(6):
            self.deliver_all()
            while self.wire:
                self.desk.say(self.wire.pop(0))
            self.desk.clock.advance(2.0)
        self.check_settled()

    def check_settled(self) -> None:
        state, verdict = self.driver.state, self.driver.verdict
        if state is None:
            assert not self.driver.accepted
            return
        over = state.phase in END_PHASES
        assert (self.driver.latch is not None) == over
        if over:
            return
        started = state.started and not state.end_cause
        passed = not state.gated or (verdict is not None and verdict.passed)
        dead = verdict is not None and verdict.dead
        if started and passed and not dead:
            running = [s for s in self.driver.accepted if s.state == mesos_pb2.TASK_RUNNING]
            assert running
            if state.health_checked and verdict is not None and verdict.HasField("healthy"):
                assert running[-1].healthy == verdict.healthy

    def tell_state(self, state: link_pb2.TaskState) -> None:
        self.version += 1
        state.version = self.version
        self.driver.state = state
        if self.desk.session is not None:
            self.desk.say(Request(task_state=state))
            self.note_end()

    def copy_state(self) -> link_pb2.TaskState:
        state = link_pb2.TaskState()
        state.CopyFrom(self.driver.state or self.template)
        return state

    def unanswered(self) -> list[Entry]:
        tasks = self.desk.reporter._executors.tasks_of(EXECUTOR)
        return [entry for task in tasks for entry in task.unanswered()]
