"""Any order of news, restarts, losses and repetitions: the driver always ends with a right row of statuses."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from mesos.v1 import mesos_pb2
from tests.effort import examples
from tests.unit.reporter.desk import KEY, Request
from tests.unit.reporter.driver_model import TERMINAL, DriverTask, hello
from tests.unit.reporter.story import END_PHASES, Story
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

CAUSES = [cause for cause in link_pb2.EndCause.values() if cause not in (0, link_pb2.END_CAUSE_PLAN)]


class Interleavings(Story):
    """What may happen, in any order, and what must hold whatever happens."""

    def teardown(self) -> None:
        self.settle()
        # Late news from health, ended task or not.
        for healthy in (False, True, False):
            self.health_says(healthy, passed=True, dead=False)
            self.settle()
            self.the_row_is_right()
            self.running_is_not_said_after_the_end_was_heard()
        self.desk.store.close()
        self.directory.cleanup()

    @initialize(
        gated=st.booleans(),
        aurora=st.booleans(),
        killing=st.booleans(),
        told_by=st.sampled_from(["hello", "launch"]),
        life=st.sampled_from([0, 5, 10, 20, 30]),
    )
    def begin(self, gated: bool, aurora: bool, killing: bool, told_by: str, life: int) -> None:
        # Steps that the task is meant to live: left to chance, most tasks would end before anything happened to them.
        self.life = life
        self.killing = killing and not aurora
        self.template = link_pb2.TaskState(
            key=KEY.to_pb(), phase=link_pb2.TASK_PHASE_ACTIVE, gated=gated, aurora=aurora, health_checked=gated
        )
        if told_by == "hello":
            self.attach()
        else:
            self.desk.attach([], hello(killing=self.killing))
            self.desk.say(Request(launch=link_pb2.Launch(key=KEY.to_pb(), info=b"info")))

    # News from runner and health. The driver remembers them whether or not the reporter is there.

    def alive(self) -> bool:
        return self.driver.state is None or self.driver.state.phase not in END_PHASES

    def may_end(self) -> bool:
        return self.alive() and self.life <= 0

    @precondition(alive)
    @rule(healthy=st.booleans())
    def comes_up(self, healthy: bool) -> None:
        """What happens to nearly all tasks, in one step: the interesting part comes after it."""
        self.runner_says(started=True)
        self.health_says(healthy=healthy, passed=True, dead=False)
        self.all_is_quiet()
        self.desk.clock.advance(1.0)
        self.all_is_quiet()

    @precondition(alive)
    @rule(started=st.booleans())
    def runner_says(self, started: bool) -> None:
        state = self.copy_state()
        state.started = state.started or started
        self.tell_state(state)

    @precondition(may_end)
    @rule(cause=st.sampled_from(CAUSES))
    def end_begins(self, cause: link_pb2.EndCause) -> None:
        state = self.copy_state()
        if not state.end_cause and (cause != link_pb2.END_CAUSE_INVALID or self.driver.state is None):
            state.end_cause = cause
            state.phase = link_pb2.TASK_PHASE_CLEANING
            if cause == link_pb2.END_CAUSE_INVALID:
                state.phase = link_pb2.TASK_PHASE_FAILED
            self.tell_state(state)

    @precondition(may_end)
    @rule(phase=st.sampled_from(END_PHASES))
    def task_ends(self, phase: link_pb2.TaskPhase) -> None:
        state = self.copy_state()
        state.phase = phase
        state.end_cause = state.end_cause or link_pb2.END_CAUSE_PLAN
        self.tell_state(state)

    @rule(healthy=st.sampled_from([None, True, False]), passed=st.booleans(), dead=st.booleans())
    def health_says(self, healthy: bool | None, passed: bool, dead: bool) -> None:
        verdict = link_pb2.Verdict(key=KEY.to_pb(), dead=dead)
        if self.driver.verdict is not None:
            verdict.CopyFrom(self.driver.verdict)
        verdict.version += 1
        verdict.passed |= passed
        verdict.dead |= dead and not verdict.passed
        if healthy is not None:
            verdict.healthy = healthy
        self.driver.verdict = verdict
        if self.desk.session is not None:
            self.desk.say(Request(verdict=verdict))

    # What the wire and the machine do.

    @rule(repeat=st.booleans())
    def repeat_news(self, repeat: bool) -> None:
        if self.desk.session is not None:
            if self.driver.state is not None and repeat:
                self.desk.say(Request(task_state=self.driver.state))
            if self.driver.verdict is not None:
                self.desk.say(Request(verdict=self.driver.verdict))

    @rule()
    def all_is_quiet(self) -> None:
        """Everything that is under way arrives."""
        if self.desk.session is not None:
            self.deliver_all()
            while self.wire:
                self.desk.say(self.wire.pop(0))

    @rule(count=st.integers(1, 3))
    def proposals_arrive(self, count: int) -> None:
        if self.desk.session is None:
            return
        for _ in range(count):
            if not self.desk.session.queue.empty():
                proposal = self.desk.session.queue.get_nowait().proposal
                self.wire.append(Request(answer=self.driver.offer(proposal)))

    @rule(twice=st.booleans(), acknowledged_first=st.booleans())
    def answer_arrives(self, twice: bool, acknowledged_first: bool) -> None:
        if not self.wire or self.desk.session is None:
            return
        message = self.wire.pop(0)
        answer = message.answer
        acknowledged = reporter_pb2.Acknowledged(key=answer.key, ref=answer.ref, uuid=answer.uuid)
        if acknowledged_first and not answer.rejection:
            self.desk.say(Request(acknowledged=acknowledged))
        for _ in range(1 + twice):
            self.desk.say(message)

    @rule(reconnect=st.booleans())
    def link_breaks(self, reconnect: bool) -> None:
        self.wire.clear()
        if self.desk.session is not None:
            self.desk.detach()
        if reconnect:
            self.attach()

    @rule(cut=st.sampled_from([0, 0, 1, 40, 200]))
    def reporter_dies(self, cut: int) -> None:
        """`cut`: bytes that the journal loses at its end, as when the host dies, too."""
        self.wire.clear()
        self.desk.store.close()
        folder = os.path.join(self.directory.name, "tasks")
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            os.truncate(path, max(0, os.path.getsize(path) - cut))
        self.desk.start()
        self.attach()

    @rule()
    def state_directory_is_lost(self) -> None:
        self.wire.clear()
        self.desk.store.close()
        folder = os.path.join(self.directory.name, "tasks")
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        self.desk.start()
        self.attach()

    @rule(seconds=st.sampled_from([0.3, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.desk.clock.advance(seconds)

    # What must hold at every moment.

    @invariant()
    def the_row_is_right(self) -> None:
        self.life -= 1
        accepted = self.driver.accepted
        states = [status.state for status in accepted]
        terminal = [s for s in states if s in TERMINAL]
        assert len(terminal) <= 1
        assert not terminal or states[-1] in TERMINAL
        invalid = self.driver.state is not None and self.driver.state.end_cause == link_pb2.END_CAUSE_INVALID
        if states and not invalid:
            assert states[0] == mesos_pb2.TASK_STARTING
        assert states.count(mesos_pb2.TASK_STARTING) <= 1
        if invalid:
            assert len(states) <= 1
        running = [s for s in accepted if s.state == mesos_pb2.TASK_RUNNING]
        assert sum(not s.HasField("reason") for s in running) <= 1
        assert all(s.reason == 29 for s in running[1:])
        if self.template.gated:
            assert [s.healthy for s in running] == [n % 2 == 0 for n in range(len(running))], "told twice"
        assert sum(entry.status.state == mesos_pb2.TASK_RUNNING for entry in self.unanswered()) <= 1
        assert states.count(mesos_pb2.TASK_KILLING) <= self.killing
        if mesos_pb2.TASK_KILLING in states:
            after = states[states.index(mesos_pb2.TASK_KILLING) :]
            assert mesos_pb2.TASK_RUNNING not in after

    @invariant()
    def nothing_is_refused_as_out_of_order(self) -> None:
        answers = self.driver.answers.values()
        assert all(answer.rejection != reporter_pb2.REJECTION_OUT_OF_ORDER for answer in answers)

    @invariant()
    def running_is_not_said_after_the_end_was_heard(self) -> None:
        if self.end_told:
            assert self.count(mesos_pb2.TASK_RUNNING) == self.running_when_end_told


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=examples(200), stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("states", [["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]])
def test_the_model_itself_rejects_what_goes_backwards(states: list[str]) -> None:
    driver = DriverTask(KEY)
    for n, name in enumerate([*states, "TASK_FAILED"], 1):
        status = mesos_pb2.TaskStatus(state=name)
        status.task_id.value = "task"
        ref = link_pb2.ProposalRef(epoch="e", n=n)
        answer = driver.offer(reporter_pb2.Proposal(key=KEY.to_pb(), ref=ref, status=status))
        assert bool(answer.rejection) == (n == 4)
    assert driver.states == states
