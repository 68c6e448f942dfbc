"""What all three services share: sockets, lock, take-over, Attach's admission."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.integration.faults.parts import Part
from tests.integration.faults.processes import TIMEOUT
from tests.integration.faults.stack import SERVICES, Stack
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def runner_stack() -> Iterator[Stack]:
    """The runner alone."""
    stack = Stack(start=("runner",), with_agent=False)
    yield stack
    stack.close()


class Attached:
    """An Attach stream by hand."""

    def __init__(self, stack: Stack) -> None:
        self._ready = threading.Event()
        self._requests: list[runner_pb2.AttachRequest] = []
        self._more = threading.Semaphore(0)
        self.call = runner_pb2_grpc.RunnerServiceStub(stack.channel("runner")).Attach(self._iterate(), timeout=TIMEOUT)

    def _iterate(self) -> Iterator[runner_pb2.AttachRequest]:
        while True:
            self._more.acquire()
            if not self._requests:
                return
            yield self._requests.pop(0)

    def say(self, **message: Any) -> None:
        self._requests.append(runner_pb2.AttachRequest(**message))
        self._more.release()

    def hello(self, **fields: Any) -> None:
        values = {
            "protocol": 1,
            "executor": link_pb2.ExecutorKey(framework_id="F", executor_id="E", incarnation="I"),
            "generation": 1,
            "token": b"secret",
            "boot_id": "B",
            **fields,
        }
        self.say(hello=link_pb2.Hello(**values))
        self.say(hello_end=link_pb2.HelloEnd())

    def acknowledged(self) -> bool:
        return bool(next(self.call).WhichOneof("message") == "hello_ack")

    def code(self) -> grpc.StatusCode:
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def close(self) -> None:
        self.call.cancel()
        self._more.release()


@pytest.mark.parametrize("service", SERVICES)
def test_executors_may_attach_and_nothing_else(service: str) -> None:
    stack = Stack(start=(service,), with_agent=False)
    try:
        run_dir = stack.run_dir
        assert os.stat(f"{run_dir}/{service}.sock").st_mode & 0o777 == 0o666
        assert os.stat(f"{run_dir}/{service}-admin.sock").st_mode & 0o777 == 0o600
        # No private name is left.
        assert sorted(os.listdir(run_dir)) == [f"{service}-admin.sock", f"{service}.sock"]
    finally:
        stack.close()


def test_operators_calls_are_not_on_the_executors_socket(runner_stack: Stack) -> None:
    stub = runner_pb2_grpc.RunnerServiceStub(runner_stack.channel("runner"))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListTasks(runner_pb2.ListTasksRequest(), timeout=TIMEOUT)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"protocol": 99}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"token": b""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"task_count": 3}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"executor": link_pb2.ExecutorKey()}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_wrong_hello_is_refused(runner_stack: Stack, fields: dict[str, Any], code: grpc.StatusCode) -> None:
    attached = Attached(runner_stack)
    attached.hello(**fields)
    assert attached.code() == code
    attached.close()


def test_nobody_can_claim_an_executor_without_its_token(runner_stack: Stack) -> None:
    owner, thief = Attached(runner_stack), Attached(runner_stack)
    owner.hello()
    assert owner.acknowledged()
    thief.hello(token=b"guess", generation=99)
    assert thief.code() == grpc.StatusCode.PERMISSION_DENIED
    # Neither while the owner is there nor after the service has been started anew.
    runner_stack.restart("runner")
    second = Attached(runner_stack)
    second.hello(token=b"guess", generation=99)
    assert second.code() == grpc.StatusCode.PERMISSION_DENIED
    for attached in (owner, thief, second):
        attached.close()


def test_a_newer_driver_ends_the_stream_of_an_older_one(runner_stack: Stack) -> None:
    older, newer, late = (Attached(runner_stack) for _ in range(3))
    older.hello(generation=1)
    assert older.acknowledged()
    newer.hello(generation=2)
    assert newer.acknowledged()
    assert older.code() == grpc.StatusCode.ABORTED
    late.hello(generation=1)
    assert late.code() == grpc.StatusCode.ABORTED
    for attached in (older, newer, late):
        attached.close()


def test_a_second_service_on_one_state_directory_refuses(runner_stack: Stack) -> None:
    part = runner_stack.parts["runner"]
    assert part.process is not None
    second = subprocess.run(part.argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert second.returncode == 1
    assert f"in use by process {part.process.pid}" in second.stderr
    assert "--wait-for-lock" in second.stderr


# What gRPC says to a call that meets the old server's end; trying again at once is all a client has to do.
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_an_upgrade_fails_no_call(runner_stack: Stack) -> None:
    stack = runner_stack
    failed: list[grpc.StatusCode] = []
    stop = threading.Event()
    stub = runner_pb2_grpc.RunnerServiceStub(stack.channel("runner-admin"))
    counted = threading.Event()

    def call() -> None:
        tried = 0
        while not stop.is_set():
            try:
                stub.ListTasks(runner_pb2.ListTasksRequest(), timeout=TIMEOUT, wait_for_ready=True)
                tried = 0
                counted.set()
            except grpc.RpcError as error:
                tried += 1
                if error.code() not in AGAIN or tried > 1:
                    failed.append(error.code())

    caller = threading.Thread(target=call)
    caller.start()
    old = stack.parts["runner"]
    for _ in range(3):
        new = Part("runner", [*old.argv, "--wait-for-lock", "20"], old.log)
        new.start()
        old.stop(signal.SIGTERM)
        stack.parts["runner"] = new
        stack.ready("runner")
        counted.clear()
        assert counted.wait(TIMEOUT)
        old = new
    stop.set()
    caller.join()
    assert not failed


def test_a_directory_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    argv = [sys.executable, "-m", "services.runner", "--run-dir", str(deep), "--state-dir", str(tmp_path / "s")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 2
    assert "--run-dir" in done.stderr
    assert "shorter" in done.stderr
