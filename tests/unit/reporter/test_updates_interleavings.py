"""Health and check updates in any order of news, losses, repetitions and restarts."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesos.v1 import mesos_pb2
from services.reporter.updates import Kind, kind_of
from tests.effort import examples
from tests.unit.reporter.driver_model import TERMINAL
from tests.unit.reporter.sayings import KEY
from tests.unit.reporter.wire import Decided, Request, Wire
from trivet.link.v1 import link_pb2

RUNNING = mesos_pb2.TASK_RUNNING
OVER = [
    link_pb2.TASK_PHASE_SUCCESS,
    link_pb2.TASK_PHASE_FAILED,
    link_pb2.TASK_PHASE_KILLED,
    link_pb2.TASK_PHASE_LOST,
]
CAUSES = [
    link_pb2.END_CAUSE_PLAN,
    link_pb2.END_CAUSE_KILL,
    link_pb2.END_CAUSE_SHUTDOWN,
    link_pb2.END_CAUSE_UNHEALTHY,
    link_pb2.END_CAUSE_COMPLETION_TIME,
]


class Updates(RuleBasedStateMachine):
    """A task that lives for a while, with checks of Mesos' or Aurora's kind; then it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.state = link_pb2.TaskState()
        self.verdict = link_pb2.Verdict()
        self.mesos = self.has_check = False
        self.alive_for = 0
        # Distinct things that there were to tell.
        self.health_news = self.check_news = 0

    @initialize(
        mesos=st.booleans(),
        gated=st.booleans(),
        aurora=st.booleans(),
        health=st.booleans(),
        has_check=st.booleans(),
        killing=st.booleans(),
        alive_for=st.sampled_from([5, 15, 40]),
        comes_up=st.booleans(),
    )
    def begin(
        self,
        mesos: bool,
        gated: bool,
        aurora: bool,
        health: bool,
        has_check: bool,
        killing: bool,
        alive_for: int,
        comes_up: bool,
    ) -> None:
        self.mesos, self.has_check, self.alive_for = mesos, has_check, alive_for
        # Aurora's check always gates, and without one nothing does.
        gated = health and (gated or not mesos)
        self.state = link_pb2.TaskState(
            key=KEY.to_pb(), phase=link_pb2.TASK_PHASE_ACTIVE, gated=gated, aurora=aurora, health_checked=health
        )
        self.verdict = link_pb2.Verdict(key=KEY.to_pb(), passed=not gated)
        if has_check:
            self.verdict.check_result.type = link_pb2.CHECK_TYPE_HTTP
        self.wire.killing = killing
        self.wire.attach()
        self.tell_verdict()
        self.tell_state()
        if comes_up:
            # What happens to nearly all tasks: the interesting part comes after it.
            self.processes_start()
            self.probed(healthy=True)
            for _ in range(3):
                self.wire.flush()
                self.wire.wait(1.0)

    def teardown(self) -> None:
        for _ in range(2):
            self.settle()
        if not self.over():
            self.state.phase, self.state.end_cause = link_pb2.TASK_PHASE_KILLED, link_pb2.END_CAUSE_KILL
            self.tell_state()
            self.settle()
        # Late news of a task that is over.
        self.probed(healthy=False)
        self.check_found(status=77)
        self.settle()
        self.the_row_is_right()
        self.wire.close()

    # What runner and health say.

    def tell_state(self) -> None:
        self.state.version += 1
        self.wire.driver.state = link_pb2.TaskState()
        self.wire.driver.state.CopyFrom(self.state)
        self.wire.say(Request(task_state=self.state))

    def tell_verdict(self) -> None:
        self.verdict.version += 1
        self.wire.driver.verdict = link_pb2.Verdict()
        self.wire.driver.verdict.CopyFrom(self.verdict)
        self.wire.say(Request(verdict=self.verdict))

    def over(self) -> bool:
        return self.state.phase in OVER

    def may_end(self) -> bool:
        return self.alive_for <= 0 and not self.over()

    @precondition(lambda self: not self.over())
    @rule()
    def processes_start(self) -> None:
        self.state.started = True
        self.tell_state()

    @precondition(lambda self: self.state.health_checked and not self.verdict.dead)
    @rule(healthy=st.booleans())
    def probed(self, healthy: bool) -> None:
        if not self.state.health_checked:
            return
        before = (self.verdict.healthy if self.verdict.HasField("healthy") else None, self.verdict.health_reports)
        if self.mesos:
            # Every failure, and a success that is the first one or comes after failures.
            self.verdict.health_reports += not healthy or before[0] is not True
        elif not healthy and not self.verdict.passed:
            return  # nothing to say before it has passed
        self.verdict.healthy = healthy
        self.verdict.passed |= healthy
        self.health_news += (healthy, self.verdict.health_reports) != before
        self.tell_verdict()

    @precondition(lambda self: self.has_check)
    @rule(status=st.sampled_from([None, 200, 503]))
    def check_found(self, status: int | None) -> None:
        result = self.verdict.check_result
        old = result.http_status if result.HasField("http_status") else None
        if not self.has_check or status == old:
            return
        result.ClearField("http_status")
        if status is not None:
            result.http_status = status
        result.changes += 1
        self.check_news += 1
        self.tell_verdict()

    @rule(acknowledged=st.booleans())
    def flaps(self, acknowledged: bool) -> None:
        """News every second, and a driver that takes all, whether or not its agent does."""
        for status in (200, 503, None):
            if self.state.health_checked:
                self.probed(healthy=status == 200)
            self.check_found(status=status)
            self.wire.flush(acknowledged=acknowledged)
            self.wire.wait(1.0)

    @precondition(may_end)
    @rule(cause=st.sampled_from(CAUSES))
    def end_begins(self, cause: link_pb2.EndCause) -> None:
        if not self.state.end_cause:
            self.state.end_cause, self.state.phase = cause, link_pb2.TASK_PHASE_CLEANING
            self.tell_state()

    @precondition(may_end)
    @rule(phase=st.sampled_from(OVER))
    def ends(self, phase: link_pb2.TaskPhase) -> None:
        self.state.phase = phase
        self.state.end_cause = self.state.end_cause or link_pb2.END_CAUSE_PLAN
        self.tell_state()

    # What wire, machine and time do.

    @rule(count=st.integers(1, 3), acknowledged=st.booleans())
    def proposals_arrive(self, count: int, acknowledged: bool) -> None:
        self.wire.fly(count, acknowledged=acknowledged)

    @rule(count=st.integers(1, 3), twice=st.booleans())
    def answers_arrive(self, count: int, twice: bool) -> None:
        self.wire.come(count, twice=twice)

    @rule(acknowledged=st.booleans())
    def all_arrives(self, acknowledged: bool) -> None:
        self.wire.flush(acknowledged=acknowledged)

    @rule()
    def news_are_repeated(self) -> None:
        self.wire.say(Request(verdict=self.verdict))
        self.wire.say(Request(task_state=self.state))

    @rule(seconds=st.sampled_from([0.3, 1.0, 4.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.wire.wait(seconds)

    @rule(reconnect=st.booleans())
    def link_breaks(self, reconnect: bool) -> None:
        self.wire.drop()
        if reconnect:
            self.wire.attach()

    @rule(cut=st.sampled_from([0, 0, 0, 1, 60, 300]))
    def reporter_dies(self, cut: int) -> None:
        self.wire.kill_reporter(cut)

    @rule()
    def state_directory_is_lost(self) -> None:
        self.wire.kill_reporter(all_is_lost=True)

    # What must hold.

    def settle(self) -> None:
        """Everything heals, and what there is to tell is told."""
        self.wire.attach()
        for _ in range(14):
            self.wire.flush()
            self.wire.wait(1.0)
        self.wire.flush()
        accepted = self.wire.driver.accepted
        assert (self.wire.driver.latch is not None) == self.over()
        running = [status for status in accepted if status.state == RUNNING]
        if self.over() or self.state.end_cause or not self.state.started or not self.verdict.passed:
            return
        assert running
        if self.state.health_checked and self.verdict.HasField("healthy"):
            assert running[-1].healthy == self.verdict.healthy
            assert not self.mesos or self.newest_told(Kind.HEALTH).reports == self.verdict.health_reports
        if self.verdict.check_result.changes:
            assert running[-1].check_status.http.status_code == self.verdict.check_result.http_status
            assert self.newest_told(Kind.CHECK).changes == self.verdict.check_result.changes

    def newest_told(self, kind: Kind) -> Decided:
        return [decided for decided in self.wire.decided.values() if kind_of(decided.status) is kind][-1]

    @invariant()
    def the_row_is_right(self) -> None:
        self.alive_for -= 1
        accepted = self.wire.driver.accepted
        states = [status.state for status in accepted]
        assert sum(state in TERMINAL for state in states) <= 1
        assert not any(state in TERMINAL for state in states[:-1])
        assert states[:1] in ([], [mesos_pb2.TASK_STARTING])
        assert states.count(mesos_pb2.TASK_STARTING) <= 1
        assert states.count(mesos_pb2.TASK_KILLING) <= (self.wire.killing and not self.state.aurora)
        if mesos_pb2.TASK_KILLING in states:
            assert RUNNING not in states[states.index(mesos_pb2.TASK_KILLING) :]
        assert all(not answer.rejection or answer.uuid for answer in self.wire.driver.answers.values()), "out of order"

    @invariant()
    def running_is_told_once_and_then_there_is_a_reason(self) -> None:
        running = [status for status in self.wire.driver.accepted if status.state == RUNNING]
        assert all(status.reason in (28, 29) and status.HasField("reason") for status in running[1:])
        if running:
            first = running[0]
            assert first.HasField("healthy") == self.state.gated
            assert (first.HasField("reason") and first.reason) == (self.state.gated and self.mesos and 29)
        assert sum(status.state == RUNNING for status in self.wire.unanswered()) <= 1

    @invariant()
    def nothing_is_told_more_often_than_there_was_news_and_losses(self) -> None:
        kinds = [kind_of(status) for status in self.wire.driver.accepted]
        assert kinds.count(Kind.HEALTH) <= self.health_news + self.wire.losses
        assert kinds.count(Kind.CHECK) <= self.check_news + self.wire.losses
        assert self.has_check or Kind.CHECK not in kinds
        if self.state.health_checked and not self.mesos and not self.has_check:
            told = [status.healthy for status in self.wire.driver.accepted if status.state == RUNNING]
            assert told == [n % 2 == 0 for n in range(len(told))], "Aurora's, told twice"


TestUpdates = Updates.TestCase
TestUpdates.settings = settings(max_examples=examples(150), stateful_step_count=60, deadline=None)
