"""A reporter double: it hears what a driver says, and proposes exactly what a test wants."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc

from mesos.v1 import mesos_pb2
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0


class ReporterDouble(reporter_pb2_grpc.ReporterServiceServicer):  # type: ignore[misc]
    """Proposes what a test wants."""

    def __init__(self, address: str) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        reporter_pb2_grpc.add_ReporterServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(address)
        self._server.start()
        self._changed = threading.Condition()
        self._proposals: list[reporter_pb2.Proposal] = []
        self._keys: dict[str, link_pb2.TaskKey] = {}
        self._stopped = False
        self.answers: list[reporter_pb2.Answer] = []
        self.acknowledged = 0
        self.acknowledged_at = 0.0

    def Attach(self, requests: Iterator[Any], _: object) -> Iterator[reporter_pb2.AttachResponse]:  # noqa: N802
        """One driver."""
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()
        yield reporter_pb2.AttachResponse(hello_ack=link_pb2.HelloAck(protocol=1))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._proposals or self._stopped)
                if self._stopped:
                    return
                due, self._proposals = self._proposals, []
            for proposal in due:
                yield reporter_pb2.AttachResponse(proposal=proposal)

    def _listen(self, requests: Iterator[Any]) -> None:
        with contextlib.suppress(grpc.RpcError):
            for request in requests:
                with self._changed:
                    self._hear(request)
                    self._changed.notify_all()

    def _hear(self, request: reporter_pb2.AttachRequest) -> None:
        kind = request.WhichOneof("message")
        if kind == "launch":
            self._keys[request.launch.key.task_id] = request.launch.key
        elif kind == "answer":
            self.answers.append(request.answer)
        elif kind == "acknowledged":
            self.acknowledged += 1
            self.acknowledged_at = time.monotonic()

    @property
    def accepted(self) -> int:
        """Proposals that the driver has taken."""
        return sum(not answer.rejection for answer in self.answers)

    def until(self, name: str, count: int) -> None:
        """Until there are so many, by the attribute's name.

        Raises:
            RuntimeError: There are not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: getattr(self, name) >= count, PATIENCE):
                raise RuntimeError(f"{getattr(self, name)} of {count} {name}")

    def keys(self, count: int) -> list[link_pb2.TaskKey]:
        """So many tasks, once they are known.

        Raises:
            RuntimeError: They are not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._keys) >= count, PATIENCE):
                raise RuntimeError("not all tasks are known")
            return list(self._keys.values())

    def propose(self, *proposals: reporter_pb2.Proposal) -> None:
        """Says it."""
        with self._changed:
            self._proposals += proposals
            self._changed.notify_all()

    def ask(self, proposal: reporter_pb2.Proposal) -> reporter_pb2.Answer:
        """Says it, and waits for the answer."""
        before = len(self.answers)
        self.propose(proposal)
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.answers) > before, PATIENCE):
                raise RuntimeError("no answer")
            return self.answers[before]

    def stop(self) -> None:
        """No more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._server.stop(None)


def proposal(key: link_pb2.TaskKey, n: int, state: str, message: str = "") -> reporter_pb2.Proposal:
    """A status of a task."""
    status = mesos_pb2.TaskStatus(state=state, message=message, timestamp=time.time())
    status.task_id.value = key.task_id
    ref = link_pb2.ProposalRef(epoch="double", n=n)
    return reporter_pb2.Proposal(key=key, ref=ref, status=status)
