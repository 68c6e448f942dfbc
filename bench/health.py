"""A thousand checks at intervals of one second in one health service, carried out by real drivers.

When a probe is due the service writes into its journal, with the result before it (`planned`, CLOCK_BOOTTIME). When it
has started the target knows, by the same clock: it takes down when the connection comes. So all that is on the way lies
between the two: the service's timer, the stream, the driver, the connection, and the wait for the target's own turn.
Nothing is told to anybody for the sake of the measurement.
"""

from __future__ import annotations

import bisect
import glob
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import probes
from bench.life import process, task
from services.common import journal
from tests.integration.faults.processes import TIMEOUT
from tests.integration.faults.stack import Stack
from trivet.health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.faults.launched import LaunchedTask

CHECKS = 1000
EXECUTORS = 4
SECS = 40.0
INTERVAL = 1.0
# A probe may be early by what the clocks of timer and journal differ.
_EARLY = 0.005


@dataclass(frozen=True)
class Measured:
    """Of one kind of checks. `late`: seconds from due to start of each probe; CPU as shares of one core."""

    late: list[float]
    service: float
    drivers: float
    coordinators: float
    rate: float
    """Probes a second."""

    def within(self, seconds: float) -> float:
        """Share of the probes that started within so much time."""
        return sum(late <= seconds for late in self.late) / len(self.late)

    def percentile(self, share: float) -> float:
        """Lateness that so many probes keep, seconds."""
        return sorted(self.late)[min(int(share * len(self.late)), len(self.late) - 1)]


def measure(kind: str, checks: int = CHECKS, executors: int = EXECUTORS, seconds: float = SECS) -> Measured:
    """Launches the tasks, lets them be probed for a while, and reads what was due and what came.

    Raises:
        RuntimeError: Something was not probed at all, or a task has ended.
    """
    stack = Stack()
    calls = f"{stack.dir}/calls.json"
    targets = subprocess.Popen(
        [sys.executable, "-m", "bench.targets", str(checks), calls], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        if targets.stdout is None:
            raise RuntimeError("no pipe")
        ports = json.loads(targets.stdout.readline())
        tasks = [_launch(stack, kind, port, f"probed-{i % executors}") for i, port in enumerate(ports)]
        _all_probed(stack, checks)
        began, used = time.clock_gettime(time.CLOCK_BOOTTIME), _used(stack, tasks[:executors])
        threading.Event().wait(seconds)
        ended, later = time.clock_gettime(time.CLOCK_BOOTTIME), _used(stack, tasks[:executors])
        due = _due(f"{stack.dir}/state/health/checks", began, ended - INTERVAL)
        targets.send_signal(signal.SIGTERM)
        targets.wait(TIMEOUT)
        with open(calls) as file:
            late = lateness(due, dict(zip(ports, json.load(file), strict=True)), ended)
    finally:
        targets.kill()
        targets.wait()
        stack.close()
    shares = [(after - before) / (ended - began) for before, after in zip(used, later, strict=True)]
    service, drivers, coordinators = shares
    return Measured(late, service, drivers, coordinators, len(late) / (ended - began - INTERVAL))


def _launch(stack: Stack, kind: str, port: int, executor: str) -> LaunchedTask:
    # Aurora's rule is the one with more to do: RUNNING waits, the body is compared.
    checker = {"http": {"port": port}} if kind == "http" else {"tcp": {"port": port}}
    config = {"health_checker": checker, "interval_secs": INTERVAL, "timeout_secs": 5, "max_consecutive_failures": 99}
    definition = {"task": task(process("exec sleep 3600")), "health_check_config": config}
    return stack.launch(definition, executor=executor, watch=False)


def _all_probed(stack: Stack, checks: int) -> None:
    stub = health_pb2_grpc.HealthCheckServiceStub(stack.channel("health-admin"))
    deadline = time.monotonic() + 2 * TIMEOUT
    while True:
        reply = stub.ListChecks(health_pb2.ListChecksRequest(), timeout=TIMEOUT)
        if sum(check.verdict.passed and check.probes > 1 for check in reply.checks) == checks:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(reply.checks)} checks, not all of them pass; {stack.where()}")
        threading.Event().wait(INTERVAL)


def _used(stack: Stack, one_of_each: Sequence[LaunchedTask]) -> list[float]:
    """CPU seconds of the service, of the drivers, of the coordinators."""
    service = stack.parts["health"].process
    if service is None:
        raise RuntimeError("health does not run")
    drivers, coordinators = [each.driver() for each in one_of_each], [each.coordinator() for each in one_of_each]
    return [sum(map(probes.cpu_seconds, pids)) for pids in ([service.pid], drivers, coordinators)]


def _due(directory: str, begin: float, end: float) -> dict[int, list[float]]:
    """When probes were due between the two moments, by the port that they went to."""
    found: dict[int, list[float]] = {}
    for path in glob.glob(os.path.join(directory, "*.journal")):
        header, *records = (json.loads(payload) for payload in journal.read(path)[0])
        port = header["specs"][0]["target"]["port"]
        planned = {record.get("planned") for record in records}
        found[port] = [due for due in planned if due is not None and begin <= due < end]
    return found


def lateness(due: dict[int, list[float]], calls: dict[int, list[float]], end: float) -> list[float]:
    """Seconds from due to start of each probe; what has not started at the end is as late as it is then.

    Raises:
        RuntimeError: Nothing was due.
    """
    late = []
    for port, moments in due.items():
        came = calls[port]
        for moment in moments:
            at = bisect.bisect_left(came, moment - _EARLY)
            late.append((came[at] if at < len(came) else end) - moment)
    if not late:
        raise RuntimeError("nothing was due")
    return late


def show(kind: str, measured: Measured) -> None:
    """One line."""
    late = measured.late
    print(
        f"{kind}: {len(late)} probes, {100 * measured.within(0.05):.2f} % within 50 ms of when they were due; late by "
        f"{1000 * statistics.median(late):.1f} ms (median), {1000 * measured.percentile(0.99):.1f} ms (99 %), "
        f"{1000 * max(late):.0f} ms (most); cores: service {measured.service:.2f}, drivers {measured.drivers:.2f}, "
        f"coordinators {measured.coordinators:.3f}; CPU for each probe: service {_each(measured.service, measured)}, "
        f"drivers {_each(measured.drivers, measured)}",
        file=sys.stderr,
    )


def _each(cores: float, measured: Measured) -> str:
    return f"{1000 * cores / measured.rate:.2f} ms"


def main(arguments: Sequence[str]) -> int:
    """By hand: `python -m bench.health [KIND [CHECKS [EXECUTORS [SECS]]]]`."""
    kind, *numbers = arguments or ("http",)
    show(kind, measure(kind, *map(int, numbers)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
