"""The health service as a process behind real unix sockets. The driver is a double; what it probes is real."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from typing import Any

import grpc
import pytest

from tests.integration.health.double import PATIENCE, DriverDouble, HealthProcess, Web, operator, run
from tests.unit.health.tasks import task_info
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2


def job(port: int, **config: Any) -> bytes:
    return task_info({"interval_secs": 0.2, "timeout_secs": 20, **config}, {"health": port})


def test_a_web_service_passes_when_it_answers_and_dies_when_it_fails(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        Web.status, Web.body = 503, b"starting"
        async with DriverDouble(health) as driver:
            await driver.launch(job(port, initial_interval_secs=60, max_consecutive_failures=1))
            await driver.until(lambda: any(verdict.consecutive_failures >= 2 for verdict in driver.verdicts))
            assert not any(verdict.passed or verdict.dead for verdict in driver.verdicts)
            assert "expected body 'ok', got 'starting' (tolerated" in driver.verdicts[-1].message
            Web.status, Web.body = 200, b" OK\n"
            await driver.until(lambda: driver.verdicts[-1].passed)
            assert driver.verdicts[-1].healthy

    run(body)


def test_a_shell_check_decides_by_its_exit_status(health: HealthProcess) -> None:
    async def body() -> None:
        config = {"interval_secs": 0.2, "timeout_secs": 20, "initial_interval_secs": 0}
        async with DriverDouble(health) as driver:
            for command in ("exit 0", "echo no database; exit 3"):
                info = task_info({**config, "health_checker": {"shell": {"shell_command": command}}})
                await driver.launch(info, command)
            await driver.until(lambda: len(driver.verdicts) >= 2)
            first = {verdict.key.task_id: verdict for verdict in reversed(driver.verdicts)}
            assert first["exit 0"].passed
            bad = first["echo no database; exit 3"]
            assert (bad.passed, bad.dead, bad.healthy) == (False, True, False)
            assert "Command exited with status 3, output 'no database'" in bad.message

    run(body)


def test_operators_see_what_drivers_do(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver, operator(health) as stub:
            await driver.launch(task_info(), "unchecked")
            await driver.launch(job(port))
            watch = stub.WatchChecks(pb.WatchChecksRequest(task_id="t"), wait_for_ready=True)
            while not (update := await watch.read()).check.verdict.passed:
                pass
            assert update.check.phase == pb.CHECK_PHASE_PROBING
            watch.cancel()
            (check,) = (await stub.ListChecks(pb.ListChecksRequest(), timeout=PATIENCE)).checks
            assert (check.key.task_id, check.rule, check.attached) == ("t", "aurora-time", True)
            assert check.description == f"GET http://localhost:{port}/health every 0.2 s, timeout 20 s"
            got = await stub.GetCheck(pb.GetCheckRequest(task_id="t"), timeout=PATIENCE)
            assert got.check.verdict.passed
            assert got.results[0].success
            assert got.results[0].detail == "HTTP health check passed"
            for unknown in ("unchecked", "x", ""):
                with pytest.raises(grpc.aio.AioRpcError, match="no health check of a task") as error:
                    await stub.GetCheck(pb.GetCheckRequest(task_id=unknown), timeout=PATIENCE)
                assert error.value.code() is grpc.StatusCode.NOT_FOUND

    run(body)


def test_each_socket_serves_only_its_side(health: HealthProcess) -> None:
    async def body() -> None:
        async with operator(health, "health") as executors, operator(health) as admin:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await executors.ListChecks(pb.ListChecksRequest(), timeout=PATIENCE, wait_for_ready=True)
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await admin.Attach(timeout=PATIENCE, wait_for_ready=True).read()
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(body)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_restarts_change_no_verdict(health: HealthProcess, port: int, signum: int) -> None:
    async def body() -> None:
        async with contextlib.AsyncExitStack() as stack:
            drivers = [await stack.enter_async_context(DriverDouble(health, f"e{number}")) for number in range(5)]
            for driver in drivers:
                await driver.launch(job(port))
                await driver.until(lambda driver=driver: bool(driver.verdicts))  # type: ignore[misc]  # the default binds the loop's value
            for number in range(6):
                assert health.stop(signum) == (0 if signum == signal.SIGTERM else -signum)
                health.start()
                for driver in drivers:
                    seen = len(driver.probes)
                    await driver.until(lambda driver=driver, n=number: driver.hellos >= n + 2)  # type: ignore[misc]  # as above
                    await driver.until(lambda driver=driver, seen=seen: len(driver.probes) > seen)  # type: ignore[misc]  # as above
            for driver in drivers:
                assert len(driver.verdicts) >= 7
                assert {verdict.version for verdict in driver.verdicts} == {driver.verdicts[0].version}
                assert all(verdict.passed and verdict.healthy and not verdict.dead for verdict in driver.verdicts)

    run(body)


def test_a_kill_with_the_first_probe_under_way_fails_nothing(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver:
            driver.probing = False
            await driver.launch(job(port, initial_interval_secs=0))
            await driver.until(lambda: len(driver.probes) == 1)
            health.restart()
            driver.probing = True
            await driver.until(lambda: bool(driver.verdicts))
            assert driver.verdicts[0].passed
            assert driver.probes[1].id > driver.probes[0].id
            # The answer to the killed process's probe is nobody's any more.
            late = pb.ProbeResult(key=driver.probes[0].key, id=driver.probes[0].id, outcome=pb.PROBE_OUTCOME_TIMEOUT)
            await driver.say(result=late)
            seen = len(driver.probes)
            await driver.until(lambda: len(driver.probes) > seen + 1)
            assert not any(verdict.dead for verdict in driver.verdicts)

    run(body)


def test_a_lost_state_directory_is_rebuilt_from_the_driver(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver:
            await driver.launch(job(port))
            await driver.until(lambda: bool(driver.verdicts))
            health.stop()
            shutil.rmtree(f"{health.directory}/state")
            health.start()
            await driver.until(lambda: driver.hellos == 2 and len(driver.verdicts) >= 2)
            assert driver.verdicts[-1].passed
            assert driver.verdicts[-1].version > driver.verdicts[0].version

    run(body)


def test_an_ended_task_is_not_probed_after_a_restart(health: HealthProcess, port: int) -> None:
    async def body() -> None:
        async with DriverDouble(health) as driver, operator(health) as stub:
            key = await driver.launch(job(port))
            await driver.until(lambda: bool(driver.verdicts))
            await driver.state(key, link_pb2.TASK_PHASE_CLEANING, started=True)
            health.restart()
            await driver.until(lambda: driver.hellos == 2)
            seen = len(driver.probes)
            (check,) = (await stub.ListChecks(pb.ListChecksRequest(), wait_for_ready=True, timeout=PATIENCE)).checks
            assert check.phase == pb.CHECK_PHASE_STOPPED
            await driver.say(forget=link_pb2.Forget(key=key.to_pb()))
            watch = stub.WatchChecks(pb.WatchChecksRequest())
            while (await stub.ListChecks(pb.ListChecksRequest(), timeout=PATIENCE)).checks:
                await watch.read()
            assert len(driver.probes) == seen
            assert os.listdir(f"{health.directory}/state/checks") == []

    run(body)
