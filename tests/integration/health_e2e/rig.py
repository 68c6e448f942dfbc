"""What the checks of these tests probe, and how tasks with checks are written."""

from __future__ import annotations

import http.server
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

from mesos.v1 import mesos_pb2
from tests.integration.faults.processes import TIMEOUT
from trivet.health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack

HEALTH = mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED
CHECK = mesos_pb2.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED
SLEEP: dict[str, Any] = {"processes": [{"name": "main", "cmdline": "exec sleep 600"}]}
CAPABLE = ("PARTITION_AWARE", "TASK_KILLING_STATE")


class Target:
    """A real HTTP server under the test's hands. The container of these tests has the host's network."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"ok"
        self.script: list[int] = []
        """Statuses of the next answers, before `status`."""
        self.requests: list[float] = []
        """CLOCK_MONOTONIC of their arrivals."""
        self.abandoned = 0
        """Held requests whose client has gone."""
        self._held = False
        self._changed = threading.Condition()
        self._server: http.server.ThreadingHTTPServer | None = None
        self.port = 0
        self.listen()

    def listen(self) -> None:
        """Serves, on the same port as before."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        server.daemon_threads = True
        self._server, self.port = server, server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        target = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = target._arrived()
                if target._held and not target._hold(self.connection):
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(target.body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _arrived(self) -> int:
        with self._changed:
            self.requests.append(time.monotonic())
            self._changed.notify_all()
            return self.script.pop(0) if self.script else self.status

    def _hold(self, connection: Any) -> bool:
        """Until the client gives up (false) or the test lets go (true)."""
        connection.settimeout(0.02)
        while self._held:
            try:
                if not connection.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            return True
        with self._changed:
            self.abandoned += 1
            self._changed.notify_all()
        return False

    def hold(self) -> None:
        """No request that comes from now on is answered."""
        self._held = True

    def let_go(self) -> None:
        """They are answered again, held ones too."""
        self._held = False

    def wait_requests(self, more: int) -> None:
        """Until so many more have come."""
        goal = len(self.requests) + more
        self._wait(lambda: len(self.requests) >= goal, f"{more} more requests")

    def wait_abandoned(self, number: int = 1) -> None:
        """Until the clients of so many held requests have gone."""
        self._wait(lambda: self.abandoned >= number, f"{number} abandoned requests")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, TIMEOUT), f"waited for {what}, {len(self.requests)} came"

    def stop(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        """Everything ends."""
        self.let_go()
        self.stop()


def aurora(port: int, **config: Any) -> dict[str, Any]:
    """A task with Aurora's HTTP check."""
    checker = {"http": {"endpoint": "/health", "port": port}}
    config = {"interval_secs": 0.1, "timeout_secs": 20, "initial_interval_secs": 600, **config}
    return {"task": SLEEP, "health_check_config": {"health_checker": checker, **config}}


def mesos_health(kind: str, **fields: Any) -> mesos_pb2.HealthCheck:
    """Mesos' health check without delay; its grace period ends with the first result."""
    defaults = {"delay_seconds": 0, "interval_seconds": 0.1, "grace_period_seconds": 0, "timeout_seconds": 20}
    return mesos_pb2.HealthCheck(type=kind, **{**defaults, **fields})


def http_health(port: int, **fields: Any) -> mesos_pb2.HealthCheck:
    """An HTTP one."""
    check = mesos_health("HTTP", **fields)
    check.http.port, check.http.path = port, "/health"
    return check


def with_health(check: mesos_pb2.HealthCheck, *, gated: bool = False) -> Callable[[mesos_pb2.TaskInfo], None]:
    """For `Stack.launch(edit=...)`."""

    def edit(info: mesos_pb2.TaskInfo) -> None:
        info.health_check.CopyFrom(check)
        if gated:
            info.labels.labels.add(key="trivet.health_gated", value="true")

    return edit


def with_check(kind: str, **fields: Any) -> Callable[[mesos_pb2.TaskInfo], mesos_pb2.CheckInfo]:
    """For `Stack.launch(edit=...)`: Mesos' CheckInfo without delay."""

    def edit(info: mesos_pb2.TaskInfo) -> mesos_pb2.CheckInfo:
        check = mesos_pb2.CheckInfo(type=kind, delay_seconds=0, interval_seconds=0.1, timeout_seconds=20)
        check.MergeFrom(mesos_pb2.CheckInfo(**fields))
        info.check.CopyFrom(check)
        return info.check

    return edit


def assert_a_second_apart(task: LaunchedTask) -> None:
    """RUNNING statuses are; how the agent's clock sees it."""
    running = [at for at, state in zip(task.received_at, task.states, strict=True) if state == "TASK_RUNNING"]
    assert all(later - earlier > 0.8 for earlier, later in itertools.pairwise(running)), running


def told_healthy(task: LaunchedTask, *, healthy: bool, after: int = 0) -> mesos_pb2.TaskStatus:
    """Until an update says so."""
    return task.wait_status(
        lambda status: status.reason == HEALTH and status.healthy is healthy,
        f"update with healthy={healthy}",
        after=after,
    )


def shown(stack: Stack, task: LaunchedTask, kind: health_pb2.CheckKind = health_pb2.CHECK_KIND_HEALTH) -> Any:
    """The health service's GetCheck."""
    stub = health_pb2_grpc.HealthCheckServiceStub(stack.channel("health-admin"))
    request = health_pb2.GetCheckRequest(task_id=task.task_id, kind=kind)
    return stub.GetCheck(request, timeout=TIMEOUT, wait_for_ready=True)


def watch_until(stack: Stack, task: LaunchedTask, condition: Callable[[health_pb2.Check], bool]) -> health_pb2.Check:
    """Until the health service shows the check so."""
    stub = health_pb2_grpc.HealthCheckServiceStub(stack.channel("health-admin"))
    request = health_pb2.WatchChecksRequest(task_id=task.task_id)
    for reply in stub.WatchChecks(request, timeout=TIMEOUT, wait_for_ready=True):
        check: health_pb2.Check = reply.check
        if condition(check):
            return check
    raise AssertionError("the stream has ended")


def snooze(stack: Stack, task: LaunchedTask, seconds: float) -> health_pb2.Check:
    """SnoozeCheck."""
    stub = health_pb2_grpc.HealthCheckServiceStub(stack.channel("health-admin"))
    request = health_pb2.SnoozeCheckRequest(task_id=task.task_id, duration_secs=seconds)
    check: health_pb2.Check = stub.SnoozeCheck(request, timeout=TIMEOUT, wait_for_ready=True).check
    return check
