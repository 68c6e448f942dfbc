"""The HTTP endpoints by which a task is asked to end before it is signalled (Aurora: lifecycle.http)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.common.task.findings import Findings, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trivet.task.v1 import task_pb2

SHARE = 0.5
"""Part of the time for ending a task that its endpoints may take at most: the rest is for SIGTERM and what it traps."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Two requests on the task's loopback, in this order, each followed by a wait. Waits in seconds."""

    port: int
    graceful_shutdown_endpoint: str
    graceful_shutdown_wait: float
    shutdown_endpoint: str
    shutdown_wait: float

    @property
    def steps(self) -> tuple[tuple[str, float], tuple[str, float]]:
        """(path of the POST, longest wait for the task's end after it), in order."""
        return (
            (self.graceful_shutdown_endpoint, self.graceful_shutdown_wait),
            (self.shutdown_endpoint, self.shutdown_wait),
        )


def config_of(task: task_pb2.Task, *, by_default: bool) -> task_pb2.HttpLifecycleConfig | None:
    """What the task says of its endpoints; None: nobody is to be asked.

    Args:
        task: as it was written.
        by_default: a task that does not say has the defaults (Aurora: jobs have).
    """
    if task.HasField("lifecycle"):
        return task.lifecycle.http if task.lifecycle.HasField("http") else None
    return task.lifecycle.http if by_default else None


def lifecycle_of(
    task: task_pb2.Task, ports: Mapping[str, int], findings: Findings, *, by_default: bool
) -> Lifecycle | None:
    """The endpoints with their port; None when there are none, or their port has no number."""
    config = config_of(task, by_default=by_default)
    if config is None:
        return None
    if config.port not in ports:
        if task.HasField("lifecycle"):
            text = f"no port is named {quoted(config.port)}: the task is not asked before it is signalled"
            findings.warning("lifecycle.http.port", text)
        return None
    return Lifecycle(
        port=ports[config.port],
        graceful_shutdown_endpoint=config.graceful_shutdown_endpoint,
        graceful_shutdown_wait=float(config.graceful_shutdown_wait_secs),
        shutdown_endpoint=config.shutdown_endpoint,
        shutdown_wait=float(config.shutdown_wait_secs),
    )
