"""Calls to a running agent. They wait for one that restarts or recovers, and say in words what went wrong."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

# Before gRPC is imported: its fork handlers have no business in a process that starts others by vfork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trivet.agent.v1 import agent_pb2, agent_pb2_grpc, faults_pb2_grpc

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from mesos.v1 import mesos_pb2
    from trivet.agent.v1 import faults_pb2

# An agent that starts waits for its executors first: `--executor-reregistration-timeout`, at most 15 s.
PATIENCE_SECS = 30.0
_RECONNECT_MS = 100
_OPTIONS = [
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
    ("grpc.min_reconnect_backoff_ms", _RECONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", 20 << 20),
    ("grpc.max_send_message_length", 20 << 20),
]
# A stream that breaks like this is opened again; everything else is an answer.
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_PAUSE_SECS = 0.1


class AgentError(Exception):
    """The agent refused the order, or did not answer; `code` is the name of the gRPC status."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class AgentClient:
    """A connection to the control socket of an agent. May be used from several threads.

    Args:
        socket_path: RUN_DIR/agent.sock.
        patience: seconds that a call waits for an agent that is away or recovers.
    """

    def __init__(self, socket_path: str, *, patience: float = PATIENCE_SECS) -> None:
        self.socket_path = socket_path
        self.patience = patience
        self._channel = grpc.insecure_channel(f"unix:{socket_path}", options=_OPTIONS)
        self._stubs: list[Any] = [
            agent_pb2_grpc.LocalAgentServiceStub(self._channel),
            faults_pb2_grpc.FaultServiceStub(self._channel),
        ]
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._failure: Exception | None = None

    def close(self) -> None:
        """Ends all calls that are under way."""
        self._channel.close()

    def fail(self, failure: Exception) -> None:
        """It is known that the agent has gone for good: all calls raise this, those under way too."""
        self._failure = failure
        self._channel.close()

    def ask(self, method: str, request: Message, *, timeout: float | None = None) -> Any:
        """The answer to one unary call of LocalAgentService or FaultService.

        Args:
            method: name of the RPC.
            request: its request.
            timeout: seconds in all, instead of the client's patience.

        Raises:
            AgentError: the order is refused, or there is no answer in time.
        """
        deadline = time.monotonic() + (self.patience if timeout is None else timeout)
        call = self._method(method)
        refusal = None
        while True:
            try:
                return call(request, timeout=_left(deadline), wait_for_ready=True)
            except (grpc.RpcError, ValueError) as caught:
                error = self._answer(caught)
                if error.code() is not grpc.StatusCode.UNAVAILABLE or error.details() == refusal:
                    raise self._error(error) from None
                # It restarts or recovers. What it says again when it serves is meant: it has no master, say.
                refusal = error.details()
            self.wait_serving(_left(deadline))

    def wait_serving(self, timeout: float) -> None:
        """Returns when the agent has recovered and takes orders.

        Raises:
            AgentError: it has not after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        request = health_pb2.HealthCheckRequest()
        while True:
            try:
                for answer in self._health.Watch(request, timeout=_left(deadline), wait_for_ready=True):
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except (grpc.RpcError, ValueError) as caught:
                error = self._answer(caught)
                if error.code() not in _PASSING:
                    raise self._error(error) from None
            time.sleep(min(_PAUSE_SECS, _left(deadline)))

    def restart(self, request: faults_pb2.RestartAgentRequest) -> None:
        """Restarts the agent; returns when it has recovered.

        Raises:
            AgentError: refused (INVALID_ARGUMENT names the field), or it does not come back.
        """
        # The new one serves when the old one's stream has broken.
        old = self._health.Watch(health_pb2.HealthCheckRequest(), timeout=self.patience, wait_for_ready=True)
        try:
            next(old)
            self.ask("RestartAgent", request)
            for _ in old:
                # It says that it does not serve any more.
                continue
        except grpc.RpcError as error:
            if error.code() not in _PASSING:
                raise self._error(error) from None
        phases = request.gap_seconds + request.not_found_seconds + request.unavailable_seconds
        self.wait_serving(phases + self.patience)

    def stream(
        self,
        method: str,
        request: Message,
        *,
        replays: bool = True,
        ended: threading.Event | None = None,
        interrupted: Callable[[], None] | None = None,
        opened: Callable[[], None] | None = None,
    ) -> Iterator[Any]:
        """Messages of a streaming call, each once, over restarts of the agent.

        Args:
            method: name of the RPC.
            request: its request.
            replays: each time it is opened it tells everything from the first on.
            ended: set from another thread before `close`, it ends the stream without an error.
            interrupted: called each time the agent goes away; the stream goes on when it is back.
            opened: called each time the agent has taken the call, which must say so before its first message.

        Raises:
            AgentError: the agent refuses the call.
        """
        seen = 0
        while True:
            position = 0
            try:
                call = self._method(method)(request, wait_for_ready=True)
                if opened is not None:
                    call.initial_metadata()
                    opened()
                for message in call:
                    position += 1
                    if position > seen or not replays:
                        seen = position
                        yield message
            except (grpc.RpcError, ValueError) as caught:
                if ended is not None and ended.is_set():
                    return
                error = self._answer(caught)
                if error.code() not in _PASSING:
                    raise self._error(error) from None
            if interrupted is not None:
                interrupted()
            # wait_for_ready holds the next attempt back until somebody listens; this is for one that breaks each time.
            time.sleep(_PAUSE_SECS)

    def launch(
        self, task: mesos_pb2.TaskInfo, framework: mesos_pb2.FrameworkInfo, *, fresh: bool = False
    ) -> agent_pb2.LaunchTaskResponse:
        """Launches a task; returns when its executor's process runs, or with `failure` set: it could not be started.

        Args:
            task: the task.
            framework: who launches it.
            fresh: the task's id was made for this call: the agent knows it already only when an answer got lost.

        Raises:
            AgentError: INVALID_ARGUMENT names the field; ALREADY_EXISTS: a live task has the id; or no answer.
        """
        answer: agent_pb2.LaunchTaskResponse
        try:
            answer = self.ask("LaunchTask", agent_pb2.LaunchTaskRequest(task=task, framework=framework))
        except AgentError as error:
            if not fresh or error.code != grpc.StatusCode.ALREADY_EXISTS.name:
                raise
            for entry in self.executors():
                if task.task_id.value in entry.task_ids:
                    return agent_pb2.LaunchTaskResponse(
                        framework_id=entry.framework_id,
                        container_id=entry.container_id,
                        sandbox=entry.sandbox,
                        failure=entry.launch_failure,
                    )
            raise
        return answer

    def executors(self) -> list[agent_pb2.Executor]:
        """Those that run, and the last ones that ended.

        Raises:
            AgentError: no answer.
        """
        return list(self.ask("ListExecutors", agent_pb2.ListExecutorsRequest()).executors)

    def watch(
        self,
        task_id: str,
        *,
        since: float = 0.0,
        ended: threading.Event | None = None,
        interrupted: Callable[[], None] | None = None,
    ) -> Iterator[agent_pb2.WatchTaskResponse]:
        """The updates of a task as the scheduler receives them, each once; has no end of its own.

        Args:
            task_id: the task.
            since: CLOCK_MONOTONIC, seconds; what came earlier belonged to a former task of this id.
            ended: as for `stream`.
            interrupted: as for `stream`.

        Raises:
            AgentError: no task of this id was ever launched (NOT_FOUND).
        """
        update: agent_pb2.WatchTaskResponse
        request = agent_pb2.WatchTaskRequest(task_id=task_id)
        for update in self.stream("WatchTask", request, ended=ended, interrupted=interrupted):
            if update.received_at >= since:
                yield update

    def _method(self, name: str) -> Any:
        return next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))

    def _answer(self, caught: grpc.RpcError | ValueError) -> grpc.RpcError:
        """The error as an answer of the other side. Raises what `fail` was told, and ValueError of a closed channel."""
        if self._failure is not None:
            raise self._failure from None
        if isinstance(caught, ValueError):
            raise caught
        return caught

    def _error(self, error: grpc.RpcError) -> AgentError:
        code, text = error.code(), error.details() or ""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"{self.socket_path}: no answer in time: the agent is away, still recovers, or is frozen"
        elif code is grpc.StatusCode.UNIMPLEMENTED:
            text = f"{self.socket_path}: this agent does not know the call: it is of an older version"
        return AgentError(text, code.name)


def _left(deadline: float) -> float:
    """Seconds; gRPC takes 0 for an answer that must be there already."""
    return max(deadline - time.monotonic(), 0.0)
