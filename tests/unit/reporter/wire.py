"""A reporter and a driver with everything between them in a test's hands: what flies can be delivered, or lost."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field

from mesos.v1 import mesos_pb2
from services.reporter.checks import status_of
from services.reporter.updates import UNHEARD_INTERVAL, UPDATE_INTERVAL, Kind, kind_of
from tests.unit.reporter.desk import Desk
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from tests.unit.reporter.sayings import KEY
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

Request = reporter_pb2.AttachRequest
Ref = tuple[str, int]


@dataclass
class Decided:
    """A status as it was when it was proposed for the first time."""

    status: mesos_pb2.TaskStatus
    at: float
    """By the test's clock."""
    reports: int
    changes: int
    life: int
    """How many losses of the journal there had been."""


@dataclass
class Wire:
    """Links the two. `losses`: how often the journal, or its end, was lost."""

    killing: bool = True
    driver: DriverTask = field(default_factory=lambda: DriverTask(KEY))
    flying: list[reporter_pb2.Proposal] = field(default_factory=list)
    coming: list[Request] = field(default_factory=list)
    decided: dict[Ref, Decided] = field(default_factory=dict)
    heard: set[Ref] = field(default_factory=set)
    arrived: set[Ref] = field(default_factory=set)
    losses: int = 0

    def __post_init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.desk = Desk(self.directory.name)

    def close(self) -> None:
        self.desk.store.close()
        self.directory.cleanup()

    # Driver to reporter.

    def attach(self) -> None:
        self.drop()
        self.desk.attach([self.driver.hello()], hello(killing=self.killing, tasks=1))
        self.collect()

    def say(self, message: Request) -> None:
        """Now, or never."""
        if self.desk.session is not None:
            self.desk.say(message)
            self.collect()

    def come(self, count: int, *, twice: bool = False) -> None:
        """What the driver has answered arrives."""
        for message in self.coming[:count]:
            for _ in range(1 + twice):
                self.desk.say(message)
            if message.HasField("acknowledged"):
                self.heard.add((message.acknowledged.ref.epoch, message.acknowledged.ref.n))
            self.collect()
        del self.coming[:count]

    def wait(self, seconds: float) -> None:
        """Time passes, in steps in which at most one timer fires."""
        end = self.desk.clock.now + seconds
        while self.desk.clock.now < end:
            self.desk.clock.advance(min(0.1, end - self.desk.clock.now))
            self.collect()

    # Reporter to driver.

    def fly(self, count: int, *, acknowledged: bool) -> None:
        """Proposals arrive at the driver; its answers, and the agent's, are on their way."""
        for proposal in self.flying[:count]:
            self.arrived.add((proposal.ref.epoch, proposal.ref.n))
            answer = self.driver.offer(proposal)
            said = [Request(answer=answer)]
            if acknowledged and not answer.rejection:
                told = reporter_pb2.Acknowledged(key=answer.key, ref=answer.ref, uuid=answer.uuid)
                said.append(Request(acknowledged=told))
            self.coming += said
        del self.flying[:count]

    def flush(self, *, acknowledged: bool = True) -> None:
        """Everything that is under way arrives."""
        while self.flying or self.coming:
            self.fly(len(self.flying), acknowledged=acknowledged)
            self.come(len(self.coming))

    # What breaks.

    def drop(self) -> None:
        """The stream is gone, and all that was in it."""
        self.flying.clear()
        self.coming.clear()
        if self.desk.session is not None:
            self.desk.detach()

    def kill_reporter(self, cut: int = 0, *, all_is_lost: bool = False) -> None:
        """`cut`: bytes that the journal loses at its end, as when the host dies, too."""
        self.drop()
        self.desk.store.close()
        folder = os.path.join(self.directory.name, "tasks")
        for path in (os.path.join(folder, name) for name in os.listdir(folder)):
            if all_is_lost:
                os.unlink(path)
            else:
                os.truncate(path, max(0, os.path.getsize(path) - cut))
        self.losses += all_is_lost or cut > 0
        self.desk.start()
        self.attach()

    # What is watched.

    def collect(self) -> None:
        """Takes what was proposed, and looks at each decision while its reasons are still at hand."""
        for proposal in self.desk.proposals():
            ref = (proposal.ref.epoch, proposal.ref.n)
            known = self.decided.get(ref)
            # A number whose record was cut off is used again if nobody has heard of it.
            if known is None or (ref not in self.arrived and known.status != proposal.status):
                self.decided[ref] = self._judge(proposal.status)
            self.flying.append(proposal)

    def _judge(self, status: mesos_pb2.TaskStatus) -> Decided:
        verdict = self.driver.verdict or link_pb2.Verdict()
        now, kind = self.desk.clock.now, kind_of(status)
        result = status_of(verdict.check_result)
        assert status.HasField("check_status") == (result is not None), "check_status is shadowed"
        assert result is None or status.check_status == result, "an old result is told"
        if kind is Kind.CHECK or (kind is Kind.HEALTH and self._running_was_decided()):
            assert status.HasField("healthy") == verdict.HasField("healthy"), "healthy is shadowed"
            assert status.healthy == verdict.healthy, "an old opinion is told"
        same_life = [old for old in self.decided.values() if old.life == self.losses]
        if status.state == mesos_pb2.TASK_RUNNING:
            assert self.driver.state is not None
            assert not self.driver.state.end_cause, "RUNNING after the end was heard of"
            for old in same_life:
                assert old.status.state != mesos_pb2.TASK_RUNNING or now >= old.at + UPDATE_INTERVAL - 1e-6
        if kind is not None:
            for ref, old in self.decided.items():
                waits = old.life == self.losses and kind_of(old.status) is kind and ref not in self.heard
                assert not waits or now >= old.at + UNHEARD_INTERVAL - 1e-6, "piles up"
        return Decided(status, now, verdict.health_reports, verdict.check_result.changes, self.losses)

    def _running_was_decided(self) -> bool:
        before = [old.status.state for old in self.decided.values() if old.life == self.losses]
        return mesos_pb2.TASK_RUNNING in (*before, *(status.state for status in self.driver.accepted))

    def unanswered(self) -> list[mesos_pb2.TaskStatus]:
        tasks = self.desk.reporter._executors.tasks_of(EXECUTOR)
        return [entry.status for task in tasks for entry in task.unanswered()]
