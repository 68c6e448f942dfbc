"""The health service is stopped, killed and taken over from fifty times under two hundred checks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from tests.integration.health.double import PATIENCE, DriverDouble, HealthProcess, operator
from tests.unit.health.tasks import task_info, with_checks
from trivet.health.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from trivet.link.v1 import link_pb2

RESTARTS = 50
EXECUTORS = 10
INTERVAL = 1.0
# Failures in a row that end the tasks `bad-*`.
PATIENT = 8
WINDOW = 0.05


class Fleet:
    """What all tasks answer, and what was heard of them."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.failing = False
        self.failures: Counter[tuple[str, str]] = Counter()
        # Milliseconds of CLOCK_BOOTTIME: a probe's id is made from the service's clock when it is sent.
        self.sent_at: list[int] = []

    def probe(self, probe: pb.Probe) -> pb.ProbeResult:
        executor_id, task_id = probe.key.executor.executor_id, probe.key.task_id
        self.sent_at.append(probe.id)
        self.answers[executor_id, task_id, probe.check] += 1
        bad = task_id.startswith("bad") and self.failing
        flaky = task_id.startswith("flaky") and self.answers[executor_id, task_id, probe.check] % 5 == 2
        self.failures[executor_id, task_id] += bad
        result = pb.ProbeResult(key=probe.key, id=probe.id, check=probe.check, outcome=pb.PROBE_OUTCOME_DONE)
        result.latency_secs = 0.001
        result.http_status, result.body = (503, b"") if bad or flaky else (200, b"ok")
        return result

    def most_in_a_window(self, since: int) -> int:
        """Probes that were sent within any `WINDOW`."""
        times = sorted(at for at in self.sent_at if at >= since)
        most, first = 0, 0
        for last, at in enumerate(times):
            while at - times[first] > WINDOW * 1000:
                first += 1
            most = max(most, last - first + 1)
        return most


def tasks() -> dict[str, bytes]:
    """Twenty for an executor: names say what they do."""
    config = {"interval_secs": INTERVAL, "timeout_secs": 20, "initial_interval_secs": 3}
    aurora = task_info(config, {"health": 1})
    bad = task_info({**config, "max_consecutive_failures": PATIENT - 1}, {"health": 1})
    health = mesos_pb2.HealthCheck(type=mesos_pb2.HealthCheck.HTTP, delay_seconds=0, interval_seconds=INTERVAL)
    health.http.port = 2
    check = mesos_pb2.CheckInfo(type=mesos_pb2.CheckInfo.HTTP, delay_seconds=0, interval_seconds=INTERVAL)
    check.http.port = 3
    made = {f"steady-{number}": aurora for number in range(10)}
    made |= {f"both-{number}": with_checks(aurora, check=check) for number in range(4)}
    plain = task_info()
    made |= {f"mesos-{number}": with_checks(plain, health) for number in range(2)}
    made |= {f"flaky-{number}": with_checks(plain, health) for number in range(2)}
    return made | {f"bad-{number}": bad for number in range(2)}


def test_nobody_notices_fifty_restarts(health: HealthProcess) -> None:
    async def body() -> None:
        fleet = Fleet()
        async with contextlib.AsyncExitStack() as stack:
            drivers = [
                await stack.enter_async_context(DriverDouble(health, f"e{number}", prober=fleet.probe))
                for number in range(EXECUTORS)
            ]
            for driver in drivers:
                for task_id, info in tasks().items():
                    await driver.launch(info, task_id)
            for driver in drivers:
                await driver.until(lambda driver=driver: all(first_answers(driver)))  # type: ignore[misc]  # the default binds the loop's value
            launched = max(fleet.sent_at) + int(INTERVAL * 1000)
            for number in range(RESTARTS):
                fleet.failing = number >= RESTARTS // 2
                await asyncio.to_thread(restart, health, number)
                for driver in drivers:
                    # Every other time the next restart comes as soon as the driver is attached.
                    least = 20 * (number % 2)
                    await driver.until(lambda d=driver, n=number, m=least: d.hellos >= n + 2 and len(d.told) >= m)  # type: ignore[misc]  # as above
            for driver in drivers:
                await driver.until(lambda driver=driver: all(deaths(driver)))  # type: ignore[misc]  # as above
            # What was under way then is answered by now.
            await asyncio.to_thread(restart, health, 0)
            async with operator(health) as stub:
                shown = (await stub.ListChecks(pb.ListChecksRequest(), wait_for_ready=True, timeout=PATIENCE)).checks
        for driver in drivers:
            see_verdicts(driver)
        see_counters(fleet, shown)
        # 200 checks, 240 probes a second: 12 in a window, and as many again that were overdue.
        assert fleet.most_in_a_window(launched) <= 80

    asyncio.run(asyncio.wait_for(body(), 10 * PATIENCE))


def restart(health: HealthProcess, number: int) -> None:
    match number % 3:
        case 0:
            health.take_over()
        case 1:
            health.take_over(signal.SIGKILL)
        case 2:
            health.restart(signal.SIGTERM if number % 2 else signal.SIGKILL)


def first_answers(driver: DriverDouble) -> list[bool]:
    return [
        verdict.HasField("healthy") and (verdict.check_result.changes > 0 or not key.task_id.startswith("both"))
        for key in driver.infos
        if (verdict := driver.remembered.get(key)) is not None
    ] + [len(driver.remembered) == len(driver.infos)]


def deaths(driver: DriverDouble) -> list[bool]:
    return [verdict.dead for key, verdict in driver.remembered.items() if key.task_id.startswith("bad")]


def see_verdicts(driver: DriverDouble) -> None:
    """No task of this executor has been called what it was not."""
    heard: dict[str, list[link_pb2.Verdict]] = defaultdict(list)
    for verdict in driver.verdicts:
        heard[verdict.key.task_id].append(verdict)
    assert len(heard) == 20
    for task_id, verdicts in heard.items():
        # Told again after each restart.
        assert len(verdicts) > RESTARTS // 2
        for earlier, later in itertools.pairwise(verdicts):
            assert later.version >= earlier.version
            assert later.health_reports >= earlier.health_reports
            assert later.passed >= earlier.passed
            assert later.dead >= earlier.dead
            if later.version == earlier.version:
                later.consecutive_successes = earlier.consecutive_successes
                assert later == earlier
        kind = task_id.split("-", maxsplit=1)[0]
        judged = [verdict.healthy for verdict in verdicts if verdict.HasField("healthy")]
        match kind:
            case "steady" | "both" | "mesos":
                assert all(judged), task_id
                assert not any(verdict.consecutive_failures or verdict.dead for verdict in verdicts)
            case "flaky":
                assert not all(judged)
                assert not any(verdict.dead for verdict in verdicts)
        if kind == "both":
            assert {verdict.check_result.changes for verdict in verdicts} <= {0, 1}
            assert verdicts[-1].check_result.http_status == 200


def see_counters(fleet: Fleet, shown: list[pb.Check]) -> None:
    """Every answer was counted, but for those that a restart has cut off; a failing task has failed in due time."""
    lost = RESTARTS + 1
    assert len(shown) == len(fleet.answers)
    for check in shown:
        executor_id, task_id = check.key.executor.executor_id, check.key.task_id
        answered = fleet.answers[executor_id, task_id, check.kind]
        assert answered - lost <= check.probes <= answered + lost
        if task_id.startswith(("steady", "mesos")):
            assert check.failures == 0
            assert check.verdict.consecutive_successes >= answered - lost
        if task_id.startswith("bad"):
            assert check.verdict.dead
            # Those within the initial interval are counted, too.
            assert check.failures >= PATIENT
            assert check.failures <= fleet.failures[executor_id, task_id] <= check.failures + lost
