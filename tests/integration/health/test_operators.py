"""What operators ask of the service besides `trivet`: calls, reflection, metrics for Prometheus."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.health.double import PATIENCE, DriverDouble, HealthProcess, operator, run
from tests.integration.health.test_cli_health import Prober, job
from tests.integration.ready import readable
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("secs", "words"),
    [(-1.0, "is -1"), (float("nan"), "is nan"), (float("inf"), "is inf"), (604800.1, "from 0 to 604800 \\(7 days\\)")],
)
def test_a_snooze_has_a_length_that_can_be(health: HealthProcess, secs: float, words: str) -> None:
    async def body() -> None:
        async with DriverDouble(health, prober=Prober()) as driver, operator(health) as stub:
            await driver.launch(job())
            with pytest.raises(grpc.aio.AioRpcError, match=f"duration_secs: .*{words}") as error:
                await stub.SnoozeCheck(pb.SnoozeCheckRequest(task_id="t", duration_secs=secs), timeout=PATIENCE)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert not (await stub.GetCheck(pb.GetCheckRequest(task_id="t"), timeout=PATIENCE)).check.snoozed
            unknown = pb.GetCheckRequest(task_id="t", kind=99)  # type: ignore[arg-type]  # a newer client's
            with pytest.raises(grpc.aio.AioRpcError, match="kind: 99 is not known here") as error:
                await stub.GetCheck(unknown, timeout=PATIENCE)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(body)


def test_lists_and_watches_tell_what_they_are_asked_for(health: HealthProcess) -> None:
    async def body() -> None:
        prober = Prober()
        async with (
            DriverDouble(health, prober=prober) as driver,
            DriverDouble(health, "e1", prober=prober) as other,
            operator(health) as stub,
        ):
            key = await driver.launch(job(), "t")
            await other.launch(job(), "t")
            await other.launch(job(), "t2")
            # A launch is told on a stream, and listed when it has been read.
            seen = stub.WatchChecks(pb.WatchChecksRequest())
            met: set[tuple[str, str]] = set()
            while len(met) < 3:
                shown = (await seen.read()).check.key
                met.add((shown.executor.executor_id, shown.task_id))
            seen.cancel()
            for asked, found in (
                ({}, ["e t", "e1 t", "e1 t2"]),
                ({"task_id": "t"}, ["e t", "e1 t"]),
                ({"task_id": "t", "executor_id": "e1"}, ["e1 t"]),
                ({"executor_id": "e1"}, ["e1 t", "e1 t2"]),
                ({"framework_id": "x"}, []),
            ):
                listed = await stub.ListChecks(pb.ListChecksRequest(**asked), timeout=PATIENCE)
                names = [f"{check.key.executor.executor_id} {check.key.task_id}" for check in listed.checks]
                assert names == found, asked
            watch = stub.WatchChecks(pb.WatchChecksRequest(task_id="t", executor_id="e"))
            first = await watch.read()
            assert (first.check.key.executor.executor_id, first.gone) == ("e", False)
            await driver.say(forget=link_pb2.Forget(key=key.to_pb()))
            while not (update := await watch.read()).gone:
                assert update.check.key == key.to_pb()
            assert (update.check.key, update.check.phase) == (key.to_pb(), pb.CHECK_PHASE_STOPPED)

    run(body)


def test_counters_are_told(health: HealthProcess) -> None:
    async def body() -> None:
        prober = Prober()
        async with DriverDouble(health, prober=prober) as driver, operator(health) as stub:
            await driver.launch(job(max_consecutive_failures=10_000, initial_interval_secs=0))
            await driver.until(lambda: len(driver.probes) > 2)
            prober.answer = {"http_status": 500}
            await driver.until(lambda: driver.verdicts[-1].consecutive_failures > 2)
            (metrics,) = (await stub.GetMetrics(pb.GetMetricsRequest(), timeout=PATIENCE)).metrics
            assert (metrics.kind, metrics.type, metrics.checks) == (pb.CHECK_KIND_HEALTH, "http", 1)
            assert metrics.successes >= 2
            assert metrics.failures >= 3
            assert metrics.probes - metrics.successes - metrics.failures in (0, 1)
            assert metrics.latency[-1].count == metrics.successes + metrics.failures
            assert metrics.most_consecutive_failures == metrics.failures

    run(body)


def test_reflection_is_enough_for_a_foreign_client(health: HealthProcess) -> None:
    buf = f"{os.path.dirname(sys.executable)}/buf"
    call = f"{buf} curl --protocol grpc --http2-prior-knowledge --unix-socket {health.directory}/run/health-admin.sock"

    async def ask(method: str, **request: object) -> dict[str, Any]:
        url = f"http://localhost/trivet.health.v1.HealthCheckService/{method}"
        command = await asyncio.create_subprocess_exec(
            *(*call.split(), "-d", json.dumps(request), url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await asyncio.wait_for(command.communicate(), PATIENCE)
        assert command.returncode == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    async def body() -> None:
        async with DriverDouble(health, prober=Prober()) as driver:
            await driver.launch(job())
            await driver.until(lambda: bool(driver.verdicts))
            (check,) = (await ask("ListChecks"))["checks"]
            assert (check["key"]["taskId"], check["rule"], check["type"]) == ("t", "aurora-time", "http")
            snoozed = await ask("SnoozeCheck", task_id="t", duration_secs=60)
            assert snoozed["check"]["snoozed"] is True
            got = await ask("GetCheck", task_id="t")
            assert got["config"]["intervalSecs"] == 0.2
            assert (await ask("GetMetrics"))["metrics"][0]["latency"][-1]["upToSecs"] == "Infinity"

    run(body)


class Metered:
    """A service with metrics, at the port that the kernel gave it."""

    def __init__(self, health: HealthProcess) -> None:
        self.health = health
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, where: str = "127.0.0.1:0") -> None:
        command = [sys.executable, "-P", "-m", "services.health", "--metrics-address", where]
        directory = self.health.directory
        self.process = subprocess.Popen(
            [*command, "--run-dir", f"{directory}/run", "--state-dir", f"{directory}/state"],
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            stderr=subprocess.PIPE,
        )

    def until(self, words: bytes) -> bytes:
        """Reads the log until there is a line with these words."""
        assert self.process is not None
        assert self.process.stderr is not None
        fd, said = self.process.stderr.fileno(), b""
        while words not in said or not said.endswith(b"\n"):
            assert readable(fd, PATIENCE), said
            data = os.read(fd, 1 << 16)
            assert data, said
            said += data
        return said

    def serving(self) -> None:
        """Until metrics are served."""
        found = re.search(rb"http://[^/ ]*:(\d+)/metrics", self.until(b"metrics are served"))
        assert found is not None
        self.port = int(found[1])

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            _, said = self.process.communicate(timeout=PATIENCE)
            assert self.process.returncode == 0
            assert b"Traceback" not in said, said
            self.process = None

    def get(self, path: str = "/metrics") -> tuple[int, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()

    def raw(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(request)
            answer = b""
            while data := connection.recv(1 << 16):
                answer += data
            return answer


@pytest.fixture(name="metered")
def make_metered(health: HealthProcess) -> Iterator[Metered]:
    health.stop()
    metered = Metered(health)
    yield metered
    metered.stop()
    health.start()


def test_prometheus_is_served(health: HealthProcess, metered: Metered) -> None:
    async def body() -> None:
        metered.start()
        metered.serving()
        async with DriverDouble(health, prober=Prober()) as driver:
            await driver.launch(job())
            await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
            status, text = await asyncio.to_thread(metered.get)
            assert status == 200
            found = {family.name: family for family in text_string_to_metric_families(text)}
            assert found["trivet_health_probe_duration_seconds"].type == "histogram"
            (checks,) = found["trivet_health_checks"].samples
            assert (checks.labels, checks.value) == ({"kind": "health", "type": "http"}, 1)

    run(body)


def test_bad_requests_are_refused_and_cost_nothing(metered: Metered) -> None:
    metered.start()
    metered.serving()
    assert metered.raw(b"GET /else HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    assert metered.raw(b"POST /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    head = metered.raw(b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")
    assert metered.raw(b"\x16\x03\x01\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    endless = b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * (64 << 10)
    try:
        assert metered.raw(endless) == b""
    except ConnectionError:
        # Closed while there was more to read.
        pass
    # Silent ones take no place from others for ever, and no more than there is.
    silent = [socket.create_connection(("127.0.0.1", metered.port), timeout=PATIENCE) for _ in range(40)]
    for connection in silent:
        try:
            assert connection.recv(1) == b""
        except ConnectionError:
            pass
        connection.close()
    assert metered.get()[0] == 200


def test_a_connection_that_is_open_does_not_hold_the_service_up(metered: Metered) -> None:
    metered.start()
    metered.serving()
    with socket.create_connection(("127.0.0.1", metered.port), timeout=PATIENCE) as connection:
        # The answer on another one shows that this one was taken, too.
        assert metered.get()[0] == 200
        metered.stop()
        try:
            assert connection.recv(1) == b""
        except ConnectionError:
            pass


def test_an_address_that_is_taken_keeps_nobody_from_being_checked(health: HealthProcess, metered: Metered) -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            metered.start(f"127.0.0.1:{port}")
            assert f"127.0.0.1:{port}".encode() in metered.until(b"metrics are not served")
            async with DriverDouble(health, prober=Prober()) as driver:
                await driver.launch(job())
                await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
        await asyncio.to_thread(metered.serving)
        assert metered.port == port
        assert (await asyncio.to_thread(metered.get))[0] == 200

    run(body)


@pytest.mark.parametrize("where", ["0.0.0.0:9100", "[::]:9100", "localhost:9100"])
def test_another_address_is_refused_at_once(tmp_path: Any, where: str) -> None:
    directories = ["--run-dir", str(tmp_path), "--state-dir", str(tmp_path)]
    refused = subprocess.run(
        [sys.executable, "-m", "services.health", *directories, "--metrics-address", where],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert refused.returncode == 2
    assert f"argument --metrics-address: '{where}'" in refused.stderr
