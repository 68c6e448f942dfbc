"""What runner and health say in tests of one task, and a task whose records go through the journal's form."""

from __future__ import annotations

from mesos.v1 import mesos_pb2
from services.common.keys import TaskKey
from services.reporter import records as rec
from services.reporter.task import Entry, ReportedTask
from services.reporter.updates import alternating
from services.reporter.writer import StatusWriter
from tests.unit.reporter.driver_model import EXECUTOR
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

KEY = TaskKey(EXECUTOR, "task", 1)
HTTP, COMMAND, TCP = link_pb2.CHECK_TYPE_HTTP, link_pb2.CHECK_TYPE_COMMAND, link_pb2.CHECK_TYPE_TCP


def running_state(*, gated: bool = False, aurora: bool = False, health_checked: bool = True) -> link_pb2.TaskState:
    """A task whose processes have been started."""
    return link_pb2.TaskState(
        key=KEY.to_pb(),
        version=1,
        phase=link_pb2.TASK_PHASE_ACTIVE,
        started=True,
        gated=gated,
        aurora=aurora,
        health_checked=health_checked or gated,
    )


def verdict(
    version: int,
    *,
    healthy: bool | None = None,
    reports: int = 0,
    status: int | None = None,
    changes: int = 0,
    passed: bool = True,
    message: str = "probed",
) -> link_pb2.Verdict:
    """Health's view. `changes`: of an HTTP check, with `status` or without a result."""
    said = link_pb2.Verdict(key=KEY.to_pb(), version=version, passed=passed, message=message, health_reports=reports)
    if healthy is not None:
        said.healthy = healthy
    if changes or status is not None:
        said.check_result.type = HTTP
        said.check_result.changes = changes
        said.check_result.message = f"HTTP check: status {status}"
        if status is not None:
            said.check_result.http_status = status
    return said


class Told:
    """A task, its driver that takes everything, and the journal of it all."""

    def __init__(self, *, gated: bool = False, aurora: bool = False, health_checked: bool = True) -> None:
        self.journal: list[bytes] = []
        self.state = running_state(gated=gated, aurora=aurora, health_checked=health_checked)
        self.verdict: link_pb2.Verdict | None = None
        self.task = ReportedTask(rec.Opened(KEY, "epoch"))
        self.journal.append(rec.encode(self.task.opened))
        self.task.chain.take_state(self.state)

    def restart(self) -> None:
        """Another process reads the journal, and the driver says Hello."""
        self._replay(self.hello())

    def lose_journal(self, keep: int = 0) -> None:
        """Another process finds only the first `keep` records of the journal, or none."""
        hello = self.hello()
        del self.journal[keep:]
        if not self.journal:
            # As the reporter opens a new one.
            opened = rec.Opened(KEY, "other", tuple(hello.accepted_states), alternating(hello))
            self.journal.append(rec.encode(opened))
        self._replay(hello)

    def hello(self) -> link_pb2.HelloTask:
        accepted = [entry for entry in self.task.entries if entry.delivery != reporter_pb2.DELIVERY_PROPOSED]
        return link_pb2.HelloTask(
            key=KEY.to_pb(),
            task_state=self.state,
            verdict=self.verdict,
            accepted_states=[*self.task.opened.accepted, *(entry.status.state for entry in accepted)],
            last_accepted=link_pb2.ProposalRef(epoch=self.task.epoch, n=accepted[-1].n) if accepted else None,
        )

    def hear(self, said: link_pb2.Verdict) -> None:
        self.verdict = said
        self.task.chain.take_verdict(said)

    def propose(self, now: float) -> list[Entry]:
        """Everything that is due; nobody answers."""
        before = len(self.task.entries)
        while (record := self.task.propose(now, now + 1e9, StatusWriter())) is not None:
            self._note([record])
        return self.task.entries[before:]

    def answer(self, *, acknowledge: bool = True) -> None:
        """The driver takes all, and the agent, too."""
        for entry in list(self.task.unanswered()):
            ref = link_pb2.ProposalRef(epoch=self.task.epoch, n=entry.n)
            self._note(self.task.answer(reporter_pb2.Answer(ref=ref, uuid=b"u" * 16)))
            if acknowledge:
                self.acknowledge(entry)

    def acknowledge(self, entry: Entry) -> None:
        """The agent takes it."""
        ref = link_pb2.ProposalRef(epoch=self.task.epoch, n=entry.n)
        self._note(self.task.acknowledged(reporter_pb2.Acknowledged(ref=ref, uuid=b"u" * 16)))

    def tell(self, now: float, said: link_pb2.Verdict | None = None, *, acknowledge: bool = True) -> list[Entry]:
        """`said` is heard, what is due is proposed, and taken."""
        if said is not None:
            self.hear(said)
        told = self.propose(now)
        self.answer(acknowledge=acknowledge)
        return told

    def trim(self) -> bool:
        """Whether it was time for it."""
        shorter = self.task.trim()
        if shorter is not None:
            self.journal = [rec.encode(record) for record in shorter]
        return shorter is not None

    def _replay(self, hello: link_pb2.HelloTask) -> None:
        self.task = ReportedTask.replay(map(rec.decode, self.journal))
        self._note(self.task.hello(hello))

    def _note(self, records: list[rec.Record] | list[rec.Proposed]) -> None:
        for record in records:
            self.task.apply(record)
            self.journal.append(rec.encode(record))


def row(entry: Entry) -> tuple[int, int | None, bool | None, str]:
    """State, reason, healthy and message of a status."""
    status = entry.status
    return (
        status.state,
        status.reason if status.HasField("reason") else None,
        status.healthy if status.HasField("healthy") else None,
        status.message,
    )


def http(entry: Entry) -> int | None:
    """The status code in `check_status`; None: there is the message, and it is empty."""
    assert entry.status.check_status.type == mesos_pb2.CheckInfo.HTTP
    assert entry.status.check_status.HasField("http")
    found = entry.status.check_status.http
    return found.status_code if found.HasField("status_code") else None
