"""Health as a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor_shim.driver.links.base import BasePeer
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from executor_shim.driver.state.entries import Task
    from trivet.link.v1 import link_pb2


class HealthPeer(BasePeer):
    """Hears of launches and task states; orders probes and gives verdicts."""

    name = "health"
    method = "/trivet.health.v1.HealthCheckService/Attach"
    request = health_pb2.AttachRequest
    response = health_pb2.AttachResponse

    def handle(self, kind: str, content: Any, task: Task) -> None:
        """Verdicts and probes."""
        if kind == "verdict":
            self._hub.on_verdict(task, content)
        elif kind == "probe":
            self._hub.prober.start(task, content)

    def on_down(self) -> None:
        """The stream has broken: nobody waits for what is being probed, a new service asks anew."""
        self._hub.prober.drop_all()
        super().on_down()

    def task_state(self, state: link_pb2.TaskState) -> None:
        """The runner has spoken."""
        self.link.send(self.request(task_state=state))
