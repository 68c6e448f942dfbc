"""The health service as a process behind real unix sockets. The driver is a double; what it probes is real."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc
import pytest

from services.common.keys import Executor, TaskKey
from services.common.server import admin_options
from tests.unit.health.tasks import task_info
from trivet.health.v1 import health_pb2 as pb
from trivet.health.v1 import health_pb2_grpc
from trivet.link.v1 import link_pb2

T = TypeVar("T")
PATIENCE = 30.0


class HealthProcess:
    """`trivet-health` in directories of its own; can be killed and started again."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "services.health", "--log-level", "warning"]
        self.process = subprocess.Popen(
            [*command, "--run-dir", f"{self.directory}/run", "--state-dir", f"{self.directory}/state"]
        )

    def stop(self, signum: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)

    def restart(self, signum: int = signal.SIGKILL) -> None:
        self.stop(signum)
        self.start()

    def address(self, name: str) -> str:
        return f"unix:{self.directory}/run/{name}.sock"


@pytest.fixture(name="health")
def serve_health() -> Iterator[HealthProcess]:
    # Short: the path of a unix socket is limited.
    directory = tempfile.mkdtemp(prefix="th")
    health = HealthProcess(directory)
    try:
        yield health
    finally:
        health.stop()
        shutil.rmtree(directory)


class Web(http.server.BaseHTTPRequestHandler):
    """Answers what the test has set."""

    status, body = 200, b"ok"

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.end_headers()
        self.wfile.write(type(self).body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(name="port")
def serve_web() -> Iterator[int]:
    Web.status, Web.body = 200, b"ok"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class DriverDouble:
    """One executor: tells what a driver tells, makes the probes for real, and redials when the service is gone."""

    def __init__(self, health: HealthProcess, executor_id: str = "e", generation: int = 1) -> None:
        self.health = health
        self.executor = Executor("f", executor_id, "i")
        self.generation = generation
        self.infos: dict[TaskKey, bytes] = {}
        self.states: dict[TaskKey, link_pb2.TaskState] = {}
        self.verdicts: list[link_pb2.Verdict] = []
        self.hellos = 0
        self.probing = True
        self.probes: list[pb.Probe] = []
        self.changed = asyncio.Condition()
        self.call: Any = None
        self.running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> DriverDouble:
        self.running = asyncio.create_task(self.run())
        await self.until(lambda: self.hellos > 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.running is not None
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    async def run(self) -> None:
        while True:
            async with grpc.aio.insecure_channel(self.health.address("health"), options=admin_options()) as channel:
                try:
                    await self.attach(channel)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise

    async def attach(self, channel: grpc.aio.Channel) -> None:
        call = health_pb2_grpc.HealthCheckServiceStub(channel).Attach(wait_for_ready=True)
        hello = link_pb2.Hello(
            protocol=1,
            executor=self.executor.to_pb(),
            generation=self.generation,
            token=b"token",
            task_count=len(self.infos),
            sandbox="/sb",
            uid=os.getuid(),
        )
        await call.write(pb.AttachRequest(hello=hello))
        for key, info in self.infos.items():
            task = link_pb2.HelloTask(key=key.to_pb(), task_hash=hashlib.sha256(info).digest())
            if key in self.states:
                task.task_state.CopyFrom(self.states[key])
            await call.write(pb.AttachRequest(hello_task=task))
        await call.write(pb.AttachRequest(hello_end=link_pb2.HelloEnd()))
        self.call = call
        while (message := await call.read()) is not grpc.aio.EOF:
            await self.take(message)

    async def take(self, message: pb.AttachResponse) -> None:
        match message.WhichOneof("message"):
            case "hello_ack":
                self.hellos += 1
            case "need_task":
                key = TaskKey.of(message.need_task.key)
                await self.say(launch=link_pb2.Launch(key=key.to_pb(), info=self.infos[key]))
            case "verdict":
                self.verdicts.append(message.verdict)
            case "probe":
                self.probes.append(message.probe)
                if self.probing:
                    await self.answer(message.probe)
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that a message brings; an end of the double is an error here."""

        async def wait() -> None:
            async with self.changed:
                await self.changed.wait_for(condition)

        assert self.running is not None
        waiting = asyncio.create_task(wait())
        await asyncio.wait({waiting, self.running}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            if self.running.done():
                self.running.result()
            raise AssertionError(f"did not happen in time; verdicts: {self.verdicts}")

    async def say(self, **message: Any) -> None:
        await self.call.write(pb.AttachRequest(**message))

    async def launch(self, info: bytes, task_id: str = "t") -> TaskKey:
        key = TaskKey(self.executor, task_id, 1)
        self.infos[key] = info
        await self.say(launch=link_pb2.Launch(key=key.to_pb(), info=info))
        await self.state(key, started=True)
        return key

    async def state(self, key: TaskKey, phase: link_pb2.TaskPhase = link_pb2.TASK_PHASE_ACTIVE, **fields: Any) -> None:
        self.states[key] = link_pb2.TaskState(key=key.to_pb(), phase=phase, **fields)
        await self.say(task_state=self.states[key])

    async def answer(self, probe: pb.Probe) -> None:
        result = pb.ProbeResult(key=probe.key, id=probe.id, outcome=pb.PROBE_OUTCOME_DONE)
        if probe.HasField("http"):
            url = f"http://127.0.0.1:{probe.http.port}{probe.http.path}"
            result.http_status, result.body = await asyncio.to_thread(get, url)
        else:
            process = await asyncio.create_subprocess_exec(*probe.command.argv, stdout=subprocess.PIPE)
            result.output, _ = await process.communicate()
            assert process.returncode is not None
            result.exit.code = process.returncode
        await self.say(result=result)


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@contextlib.asynccontextmanager
async def operator(health: HealthProcess, socket: str = "health-admin") -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(health.address(socket), options=admin_options()) as channel:
        yield health_pb2_grpc.HealthCheckServiceStub(channel)


def run(body: Callable[[], Awaitable[T]]) -> T:
    return asyncio.run(asyncio.wait_for(body(), 2 * PATIENCE))  # type: ignore[arg-type]  # an async function's result is a coroutine


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
            assert "exit status 3, output 'no database'" in bad.message

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
            for number in range(10):
                health.restart(signum)
                for driver in drivers:
                    seen = len(driver.probes)
                    await driver.until(lambda driver=driver, n=number: driver.hellos >= n + 2)  # type: ignore[misc]  # as above
                    await driver.until(lambda driver=driver, seen=seen: len(driver.probes) > seen)  # type: ignore[misc]  # as above
            for driver in drivers:
                assert len(driver.verdicts) >= 11
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
