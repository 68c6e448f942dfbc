"""A model of the driver's side of proposals, after the contract alone: what it accepts, rejects and remembers."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

EXECUTOR = Executor("framework", "executor", "incarnation")

TERMINAL = {
    mesos_pb2.TASK_FINISHED,
    mesos_pb2.TASK_FAILED,
    mesos_pb2.TASK_KILLED,
    mesos_pb2.TASK_ERROR,
    mesos_pb2.TASK_LOST,
}
_ORDER = {mesos_pb2.TASK_STARTING: 1, mesos_pb2.TASK_RUNNING: 2, mesos_pb2.TASK_KILLING: 3}


def hello(*, killing: bool = True, executor: Executor = EXECUTOR, tasks: int = 0) -> link_pb2.Hello:
    return link_pb2.Hello(
        protocol=1,
        executor=executor.to_pb(),
        generation=1,
        token=b"secret",
        boot_id="boot",
        task_count=tasks,
        partition_aware=True,
        task_killing_state=killing,
    )


@dataclass
class DriverTask:
    """What the driver keeps of one task. Its memory outlives every reporter."""

    key: TaskKey
    accepted: list[mesos_pb2.TaskStatus] = field(default_factory=list)
    answers: dict[tuple[str, int], reporter_pb2.Answer] = field(default_factory=dict)
    seen: dict[tuple[str, int], bytes] = field(default_factory=dict)
    last: link_pb2.ProposalRef | None = None
    latch: link_pb2.Latch | None = None
    state: link_pb2.TaskState | None = None
    verdict: link_pb2.Verdict | None = None
    ends: list[link_pb2.EndRequest] = field(default_factory=list)

    def offer(self, proposal: reporter_pb2.Proposal) -> reporter_pb2.Answer:
        """The answer to a proposal: same ref, same answer."""
        assert TaskKey.of(proposal.key) == self.key
        ref = (proposal.ref.epoch, proposal.ref.n)
        data = proposal.status.SerializeToString(deterministic=True)
        assert self.seen.setdefault(ref, data) == data, "one ref, two different statuses"
        if ref not in self.answers:
            self.answers[ref] = self._decide(proposal)
        return self.answers[ref]

    def _decide(self, proposal: reporter_pb2.Proposal) -> reporter_pb2.Answer:
        answer = reporter_pb2.Answer(key=proposal.key, ref=proposal.ref)
        status = proposal.status
        newest = max((_ORDER.get(s.state, 9) for s in self.accepted), default=0)
        if self.latch is not None:
            answer.rejection = reporter_pb2.REJECTION_ALREADY_TERMINAL
            answer.uuid = self.latch.uuid
        elif _ORDER.get(status.state, 9) < newest:
            answer.rejection = reporter_pb2.REJECTION_OUT_OF_ORDER
        else:
            answer.uuid = f"uuid-{len(self.answers):011d}".encode()
            self.accepted.append(status)
            self.last = proposal.ref
            if status.state in TERMINAL:
                self.latch = link_pb2.Latch(state=status.state, uuid=answer.uuid, origin=link_pb2.LATCH_ORIGIN_REPORTER)
        return answer

    def hello(self) -> link_pb2.HelloTask:
        return link_pb2.HelloTask(
            key=self.key.to_pb(),
            ends=self.ends,
            task_state=self.state,
            verdict=self.verdict,
            last_accepted=self.last,
            accepted_states=[status.state for status in self.accepted],
            latch=self.latch,
        )

    @property
    def states(self) -> list[str]:
        return [mesos_pb2.TaskState.Name(status.state) for status in self.accepted]
