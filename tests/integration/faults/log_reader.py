"""Clients that read the logs of tasks through the runner."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.integration.faults.processes import TIMEOUT
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.parts import Gate
    from tests.integration.faults.stack import Stack


def stub(stack: Stack) -> Any:
    return runner_pb2_grpc.RunnerServiceStub(stack.channel("runner-admin"))


def request(task: LaunchedTask, process: str = "p", **more: Any) -> runner_pb2.ReadLogRequest:
    return runner_pb2.ReadLogRequest(task_id=task.task_id, process=process, **more)


def read(stack: Stack, task: LaunchedTask, process: str = "p", **more: Any) -> list[runner_pb2.ReadLogResponse]:
    return list(stub(stack).ReadLog(request(task, process, **more), timeout=TIMEOUT))


def text(pieces: list[runner_pb2.ReadLogResponse]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def refusal(stack: Stack, message: runner_pb2.ReadLogRequest) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.RpcError) as caught:
        list(stub(stack).ReadLog(message, timeout=TIMEOUT))
    return caught.value.code(), caught.value.details()


def shell(cmdline: str, **more: Any) -> dict[str, Any]:
    return {"processes": [{"name": "p", "cmdline": cmdline, **more}]}


def logs_of(task: LaunchedTask) -> Path:
    return Path(task.sandbox) / "sandbox/.logs/p/0"


def started(stack: Stack, cmdline: str, **more: Any) -> tuple[LaunchedTask, Gate]:
    """A task that waits at a gate after `cmdline`."""
    gate, said = stack.gate(), stack.gate()
    task = stack.launch(shell(f"{cmdline}\necho ok > {said.path}; read x < {gate.path}; echo last", **more))
    task.wait_for("TASK_RUNNING")
    said.read()
    return task, gate


class Follower(threading.Thread):
    """A client that follows, in a thread of its own."""

    def __init__(self, stack: Stack, message: runner_pb2.ReadLogRequest) -> None:
        super().__init__(daemon=True)
        self.call = stub(stack).ReadLog(message, timeout=2 * TIMEOUT)
        self.pieces: list[runner_pb2.ReadLogResponse] = []
        self.code: grpc.StatusCode | None = None
        self._news = threading.Condition()
        self.start()

    def run(self) -> None:
        try:
            for piece in self.call:
                with self._news:
                    self.pieces.append(piece)
                    self._news.notify_all()
        except grpc.RpcError:
            pass
        with self._news:
            self.code = self.call.code()
            self._news.notify_all()

    def wait_text(self, wanted: bytes) -> None:
        with self._news:
            assert self._news.wait_for(lambda: wanted in text(self.pieces), TIMEOUT), text(self.pieces)[-200:]

    def wait_event(self, event: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: any(piece.event == event for piece in self.pieces), TIMEOUT)

    def wait_end(self) -> grpc.StatusCode:
        with self._news:
            assert self._news.wait_for(lambda: self.code is not None, TIMEOUT), "still following"
        assert self.code is not None
        return self.code
