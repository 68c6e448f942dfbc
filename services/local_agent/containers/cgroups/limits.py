"""From Mesos' resources to values of cgroup files, and from usage to the text of a limitation. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.containers.contract import Limitation

if TYPE_CHECKING:
    from collections.abc import Iterable

MEBIBYTE = 1 << 20
# Mesos: MIN_MEMORY, MIN_CPU_SHARES, MIN_CPU_CFS_QUOTA, CPU_CFS_PERIOD.
MIN_MEMORY = 32 * MEBIBYTE
MIN_SHARES = 2
SHARES_PER_CPU = 1024
MIN_QUOTA_USECS = 1_000
PERIOD_USECS = 100_000
# Of version 2; 100 is the kernel's default, as 1024 shares are of version 1.
WEIGHT_PER_CPU = 100
MIN_WEIGHT, MAX_WEIGHT = 1, 10_000


@dataclass(frozen=True)
class Limits:
    """`memory` in bytes. None: the resources do not name it, so it is not limited (Mesos fails the launch)."""

    memory: int | None
    cpus: float | None


@dataclass(frozen=True)
class MemoryUse:
    """What a container was allowed and has used, bytes; `statistics` is the kernel's text."""

    limit: int
    peak: int
    statistics: str


def of(resources: Iterable[mesos_pb2.Resource]) -> Limits:
    """Sums over all resources of a name, whatever their role."""
    sums: dict[str, float] = {}
    for resource in resources:
        if resource.name in {"cpus", "mem"}:
            sums[resource.name] = sums.get(resource.name, 0.0) + resource.scalar.value
    memory = max(int(sums["mem"] * MEBIBYTE), MIN_MEMORY) if "mem" in sums else None
    return Limits(memory, sums.get("cpus"))


def shares(cpus: float) -> int:
    """cpu.shares of version 1."""
    return max(int(cpus * SHARES_PER_CPU), MIN_SHARES)


def weight(cpus: float) -> int:
    """cpu.weight of version 2."""
    return min(max(round(cpus * WEIGHT_PER_CPU), MIN_WEIGHT), MAX_WEIGHT)


def quota_usecs(cpus: float) -> int:
    """CPU time per `PERIOD_USECS`."""
    return max(int(cpus * PERIOD_USECS), MIN_QUOTA_USECS)


def memory_limitation(use: MemoryUse) -> Limitation:
    """What the scheduler is told after an OOM."""
    message = f"Memory limit exceeded: Requested: {render_bytes(use.limit)} Maximum Used: {render_bytes(use.peak)}\n"
    if use.statistics:
        message += f"\nMEMORY STATISTICS: \n{use.statistics.rstrip()}\n"
    used = mesos_pb2.Resource(name="mem", type=mesos_pb2.Value.SCALAR, role="*")
    used.scalar.value = use.peak // MEBIBYTE
    return Limitation(message, (used,))


def render_bytes(count: int) -> str:
    """In the largest unit that leaves no remainder (Mesos: stout's Bytes)."""
    for unit in ("B", "KB", "MB", "GB"):
        if count == 0 or count % 1024:
            return f"{count}{unit}"
        count //= 1024
    return f"{count}TB"
