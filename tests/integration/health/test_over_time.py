"""Both checks of a task, snoozes, frozen processes and full disks, with the service as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from tests.integration.health.double import PATIENCE, DriverDouble, HealthProcess, Web, operator, run
from tests.unit.health.tasks import task_info, with_checks
from trivet.health.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEALTH, CHECK = pb.CHECK_KIND_HEALTH, pb.CHECK_KIND_CHECK


def job(port: int, **config: Any) -> bytes:
    return task_info({"interval_secs": 0.2, "timeout_secs": 20, **config}, {"health": port})


def with_check(info: bytes, port: int) -> bytes:
    check = mesos_pb2.CheckInfo(type=mesos_pb2.CheckInfo.HTTP, delay_seconds=0, interval_seconds=0.2)
    check.http.port = port
    return with_checks(info, check=check)


def of_kind(driver: DriverDouble, kind: pb.CheckKind) -> list[pb.Probe]:
    return [probe for probe in driver.probes if probe.check == kind]


async def shown(health: HealthProcess, kind: pb.CheckKind = HEALTH) -> pb.GetCheckResponse:
    async with operator(health) as stub:
        request = pb.GetCheckRequest(task_id="t", kind=kind)
        answer: pb.GetCheckResponse = await stub.GetCheck(request, wait_for_ready=True, timeout=PATIENCE)
        return answer


def test_both_checks_of_a_task_lead_to_one_verdict(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver:
            await driver.launch(with_check(job(port, max_consecutive_failures=1000), port))
            await driver.until(
                lambda: (
                    bool(driver.verdicts)
                    and driver.verdicts[-1].healthy
                    and driver.verdicts[-1].check_result.changes == 1
                )
            )
            assert driver.verdicts[-1].check_result.http_status == 200
            Web.status = 503
            await driver.until(lambda: driver.verdicts[-1].check_result.http_status == 503)
            await driver.until(lambda: driver.verdicts[-1].consecutive_failures > 0)
            health.restart()
            hellos = driver.hellos
            await driver.until(lambda: driver.hellos > hellos)
            Web.status = 200
            await driver.until(lambda: driver.verdicts[-1].check_result.changes == 3)
            await driver.until(lambda: driver.verdicts[-1].consecutive_failures == 0)
            versions = [verdict.version for verdict in driver.verdicts]
            assert versions == sorted(versions)
            answer = await shown(health, CHECK)
            assert (answer.check.rule, answer.check.kind, answer.check.type) == ("check", CHECK, "http")

    run(body)


def test_results_and_counters_outlive_the_service(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver:
            await driver.launch(job(port))
            await driver.until(lambda: len(driver.probes) >= 4)
            before = await shown(health)
            driver.probing = False
            health.restart()
            after = await shown(health)
            assert list(after.results)[: len(before.results)] == list(before.results)
            assert after.check.probes >= before.check.probes - 1
            assert after.config == before.config

    run(body)


def test_a_check_that_gates_nothing_passes_before_its_first_probe(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        info = mesos_pb2.TaskInfo.FromString(with_check(task_info(), port))
        info.check.delay_seconds = 3600
        async with DriverDouble(health) as driver:
            await driver.launch(info.SerializeToString())
            await driver.until(lambda: bool(driver.verdicts))
            (verdict,) = driver.verdicts
            assert (verdict.passed, verdict.HasField("healthy"), verdict.check_result.changes) == (True, False, 0)
            assert driver.probes == []
            check = (await shown(health, CHECK)).check
            assert 3500 < check.next_probe_secs <= 3600

    run(body)


def test_a_snooze_outlives_the_service_and_an_operator_ends_it(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver, operator(health) as stub:
            await driver.launch(with_check(job(port), port))
            await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
            answer = await stub.SnoozeCheck(pb.SnoozeCheckRequest(task_id="t", duration_secs=600), timeout=PATIENCE)
            assert answer.check.snoozed
            asked = len(of_kind(driver, HEALTH))
            health.restart()
            Web.status = 503
            # The other check goes on meanwhile.
            await driver.until(lambda: driver.verdicts[-1].check_result.http_status == 503)
            told = len(of_kind(driver, CHECK))
            await driver.until(lambda: len(of_kind(driver, CHECK)) > told + 3)
            assert len(of_kind(driver, HEALTH)) <= asked + 1
            assert driver.verdicts[-1].healthy
            check = (await shown(health)).check
            assert check.snoozed
            assert 500 < check.snoozed_for_secs <= 600
            assert check.unprobed_reason == "snoozed"
            Web.status = 200
            before = len(of_kind(driver, HEALTH))
            await stub.SnoozeCheck(pb.SnoozeCheckRequest(task_id="t", duration_secs=0), timeout=PATIENCE)
            await driver.until(lambda: len(of_kind(driver, HEALTH)) > before + 1)
            assert not (await shown(health)).check.snoozed

    run(body)


def test_a_frozen_service_fails_nobody(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver:
            await driver.launch(job(port, initial_interval_secs=0))
            await driver.until(lambda: bool(driver.verdicts))
            assert health.process is not None
            for _ in range(3):
                seen = len(driver.probes)
                await driver.until(lambda seen=seen: len(driver.probes) > seen)  # type: ignore[misc]  # the default binds the loop's value
                health.process.send_signal(signal.SIGSTOP)
                await asyncio.to_thread(wait_stopped, health.process.pid)
                # Longer than the interval and its tolerance of lateness: time itself is what is tested.
                await asyncio.sleep(1.5)
                health.process.send_signal(signal.SIGCONT)
            seen = len(driver.probes)
            await driver.until(lambda: len(driver.probes) > seen + 2)
            assert all(verdict.passed and verdict.healthy and not verdict.dead for verdict in driver.verdicts)
            assert (await shown(health)).check.failures == 0

    run(body)


def wait_stopped(pid: int) -> None:
    """Until the kernel says so."""
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def test_a_timeout_of_a_frozen_driver_ends_nobody(health: HealthProcess) -> None:
    def frozen(probe: pb.Probe) -> pb.ProbeResult:
        late = len(seen) == 1
        seen.append(probe)
        result = pb.ProbeResult(key=probe.key, id=probe.id, check=probe.check)
        result.outcome = pb.PROBE_OUTCOME_TIMEOUT if late else pb.PROBE_OUTCOME_DONE
        result.latency_secs = probe.timeout_secs + 2 if late else 0.01
        result.http_status, result.body = 0 if late else 200, b"" if late else b"ok"
        return result

    seen: list[pb.Probe] = []

    async def body() -> None:
        async with DriverDouble(health, prober=frozen) as driver:
            await driver.launch(job(1, initial_interval_secs=0, timeout_secs=1))
            await driver.until(lambda: len(seen) > 3)
            assert not any(verdict.dead for verdict in driver.verdicts)
            check = (await shown(health)).check
            assert (check.failures, check.transients) == (0, 1)

    run(body)


@pytest.fixture(name="small_disk")
def mount_small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("needs root: mounts a file system")
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.root
def test_a_full_disk_holds_no_verdict_back(small_disk: Path, port: int) -> None:
    health = HealthProcess(str(small_disk.parent), state_dir=str(small_disk))

    async def body() -> None:
        async with DriverDouble(health) as driver:
            (small_disk / "checks").mkdir(exist_ok=True)
            (small_disk / "ballast").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
            await driver.launch(job(port, max_consecutive_failures=1000, initial_interval_secs=0))
            await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
            Web.status = 503
            await driver.until(lambda: driver.verdicts[-1].consecutive_failures >= 2)
            # What the driver remembers is enough, even after a restart with nothing on the disk.
            health.restart()
            await driver.until(lambda: driver.hellos == 2)
            failures = driver.verdicts[-1].consecutive_failures
            await driver.until(lambda: driver.verdicts[-1].consecutive_failures > failures)
            assert driver.verdicts[-1].passed
            (small_disk / "ballast").unlink()
            seen = len(driver.probes)
            await driver.until(lambda: len(driver.probes) > seen + 1)
            assert len(os.listdir(small_disk / "checks")) == 1

    try:
        run(body)
    finally:
        health.stop()
