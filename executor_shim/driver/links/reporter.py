"""The reporter as a peer: it proposes, the driver delivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor_shim.driver import statuses
from executor_shim.driver.links.base import BasePeer, latch_to_pb
from executor_shim.driver.state.entries import TERMINAL_STATES
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import Task


class ReporterPeer(BasePeer):
    """Hears everything that is known of a task, and what became of its proposals."""

    name = "reporter"
    method = "/trivet.reporter.v1.ReporterService/Attach"
    request = reporter_pb2.AttachRequest
    response = reporter_pb2.AttachResponse

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        # Terminal statuses that wait for the task's last process.
        self._held: dict[str, reporter_pb2.Proposal] = {}

    def handle(self, kind: str, content: Any, task: Task) -> None:
        """A proposal: accepted, held back or rejected. The same reference gets the same answer."""
        if kind != "proposal":
            return
        known = task.accepted_as(content.ref.epoch, content.ref.n)
        if known is not None:
            self._answer(content, known.uuid)
            return
        refusal = statuses.rejection(task, content.status.state)
        if refusal:
            self._answer(content, task.latch.uuid if task.latch else b"", refusal)
        elif content.status.state in TERMINAL_STATES and self._hub.hands.task(task.key).alive:
            # The agent gives the resources away at once: nothing may be left by then.
            self._held[task.key] = content
        else:
            self._answer(content, self._hub.accept(task, content.status, content.ref.epoch, content.ref.n))

    def unknown(self, kind: str, content: Any) -> None:
        """A proposal for a task that is not here."""
        if kind == "proposal":
            self._answer(content, b"", reporter_pb2.REJECTION_UNKNOWN_TASK)

    def release(self, task: Task) -> None:
        """Nothing of the task is alive: a terminal status that waited for this can go."""
        held = self._held.pop(task.key, None)
        if held is not None:
            self.handle("proposal", held, task)

    def on_down(self) -> None:
        """What was not answered is proposed again."""
        self._held.clear()
        super().on_down()

    def task_state(self, state: link_pb2.TaskState) -> None:
        """The runner has spoken."""
        self.link.send(self.request(task_state=state))

    def verdict(self, verdict: link_pb2.Verdict) -> None:
        """Health has spoken."""
        self.link.send(self.request(verdict=verdict))

    def latched(self, task: Task) -> None:
        """The task has its terminal status."""
        if task.latch is not None:
            latched = link_pb2.Latched(key=self.key(task), latch=latch_to_pb(task.latch))
            self.link.send(self.request(latched=latched))

    def acknowledged(self, task: Task, uuid: bytes) -> None:
        """The agent has a status."""
        for entry in task.accepted:
            if entry.uuid == uuid:
                ref = link_pb2.ProposalRef(epoch=entry.epoch, n=entry.n)
                message = reporter_pb2.Acknowledged(key=self.key(task), ref=ref, uuid=uuid)
                self.link.send(self.request(acknowledged=message))

    def _answer(
        self,
        proposal: reporter_pb2.Proposal,
        uuid: bytes,
        rejection: reporter_pb2.Rejection = reporter_pb2.REJECTION_UNSPECIFIED,
    ) -> None:
        answer = reporter_pb2.Answer(key=proposal.key, ref=proposal.ref, uuid=uuid, rejection=rejection)
        self.link.send(self.request(answer=answer))
