"""What the machines have to know of a task: names, limits and order, nothing that is only passed on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.common.task.graph import Graph
from services.runner.plan import RUN_LIMIT

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2
    from trivet.task.v1 import task_pb2

# Mesos: the longest time that a kill with finalizers takes unless told otherwise (Thermos: preemption wait).
MAX_KILL_WAIT = 60.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process as the planner sees it."""

    name: str
    # Failed runs until the process has failed; 0: no limit.
    max_failures: int = 1
    # Seconds from the end of a run to the start of the next.
    min_duration: float = 5.0
    daemon: bool = False
    ephemeral: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task as the machines see it. Names are unique, the order has no cycle (both checked before)."""

    processes: tuple[ProcessSpec, ...]
    # Direct successors of each process.
    successors: dict[str, tuple[str, ...]]
    # Failed processes until the task has failed; 0: they never fail it.
    max_failures: int = 1
    # Processes that run at the same time; 0: no limit.
    max_concurrency: int = 0
    # Seconds for ending everything and for the final processes together.
    finalization_wait: float = 30.0
    # Seconds from SIGTERM to SIGKILL as the framework set them for the task; None: not set.
    kill_grace: float | None = None
    # Seconds from the launch until the task is ended (Mesos: max_completion_time); None: no limit.
    max_completion: float | None = None
    # Runs of one process until it has failed for good, daemons exempt; 0: no limit.
    run_limit: int = RUN_LIMIT
    # Seconds to wait after each lifecycle endpoint that was asked, in their order (Aurora: HttpLifecycleConfig).
    lifecycle: tuple[float, ...] = ()
    # A task that health ends was KILLED (Mesos' configuration), not FAILED (Aurora's).
    health_kills: bool = False
    # The task has final processes.
    has_final: bool = field(init=False)

    def __post_init__(self) -> None:
        """Looks through the processes once: a task may have thousands, and every event asks."""
        object.__setattr__(self, "has_final", any(process.final for process in self.processes))

    @classmethod
    def of(
        cls,
        task: task_pb2.ThermosTask,
        *,
        kill_grace: float | None = None,
        max_completion: float | None = None,
        run_limit: int = RUN_LIMIT,
        lifecycle: tuple[float, ...] = (),
        health_kills: bool = False,
    ) -> TaskSpec:
        """The specification of a validated task."""
        return cls(
            processes=tuple(
                ProcessSpec(
                    name=process.name,
                    max_failures=process.max_failures,
                    min_duration=float(process.min_duration),
                    daemon=process.daemon,
                    ephemeral=process.ephemeral,
                    final=process.final,
                )
                for process in task.processes
            ),
            successors=Graph.of(task).successors,
            max_failures=task.max_failures,
            max_concurrency=task.max_concurrency,
            finalization_wait=float(task.finalization_wait),
            kill_grace=kill_grace,
            max_completion=max_completion,
            run_limit=run_limit,
            lifecycle=lifecycle,
            health_kills=health_kills,
        )


# What an invalid task is in the books: nothing that could be started.
EMPTY = TaskSpec(processes=(), successors={})


def reserved_disk(task: task_pb2.ThermosTask, info: mesos_pb2.TaskInfo) -> int:
    """Bytes that are reserved for a task; 0: it does not say.

    The task's own number, else that of the TaskInfo, whose unit is MiB (Mesos: resources). Volumes are no part of the
    sandbox.
    """
    if task.resources.disk > 0:
        return task.resources.disk
    reserved = sum(
        resource.scalar.value
        for resource in info.resources
        if resource.name == "disk" and not resource.HasField("disk")
    )
    return int(reserved * _MIB) if math.isfinite(reserved) and reserved > 0 else 0
