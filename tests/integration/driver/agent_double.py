"""An agent double: plain sockets that say exactly what a test wants, to the byte.

For what a sound agent never does. Everything else is tested against the local agent.
"""

from __future__ import annotations

import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT = 20.0
REASONS = {202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


class Received(NamedTuple):
    """One call of the executor."""

    at: float
    head: str
    body: bytes
    call: executor_pb2.Call

    @classmethod
    def of(cls, head: str, body: bytes) -> Received:
        return cls(time.monotonic(), head, body, executor_pb2.Call.FromString(body))

    @property
    def is_update(self) -> bool:
        return self.call.type == executor_pb2.Call.UPDATE


class AgentDouble:
    """Listens on loopback. SUBSCRIBE gets a stream, UPDATE is acknowledged."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.create_server((host, port))
        self.port = self._listener.getsockname()[1]
        self.subscribes: queue.Queue[Received] = queue.Queue()
        self.updates: queue.Queue[Received] = queue.Queue()
        self.streams: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    piece = sock.recv(1 << 16)
                    if not piece:
                        return
                    buffer += piece
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                assert found, head
                while len(buffer) < int(found[1]):
                    buffer += sock.recv(1 << 16)
                body, buffer = buffer[: int(found[1])], buffer[int(found[1]) :]
                self._handle(sock, head.decode(), body)
        except OSError:
            return

    def _handle(self, sock: socket.socket, head: str, body: bytes) -> None:
        received = Received.of(head, body)
        if received.call.type == executor_pb2.Call.SUBSCRIBE:
            self._subscribe(sock, received)
        elif received.is_update:
            answer(sock, 202)
            self.ack(received)
            # After all that is written by itself: what a test sends next stands alone.
            self.updates.put(received)

    def _subscribe(self, sock: socket.socket, received: Received) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-protobuf\r\n\r\n")
        self.streams.append(sock)
        self.send(subscribed())
        self.subscribes.put(received)

    def ack(self, received: Received) -> None:
        self.ack_status(received.call.update.status)

    def ack_status(self, status: mesos_pb2.TaskStatus) -> None:
        event = executor_pb2.Event(type="ACKNOWLEDGED")
        event.acknowledged.task_id.CopyFrom(status.task_id)
        event.acknowledged.uuid = status.uuid
        self.send(event)

    def send(self, event: executor_pb2.Event) -> None:
        self.send_raw(framed(event.SerializeToString()))

    def send_raw(self, data: bytes) -> None:
        self.streams[-1].sendall(data)

    def next_subscribe(self) -> Received:
        return self.subscribes.get(timeout=TIMEOUT)

    def next_update(self) -> Received:
        return self.updates.get(timeout=TIMEOUT)

    def next_states(self, count: int) -> list[str]:
        return [mesos_pb2.TaskState.Name(self.next_update().call.update.status.state) for _ in range(count)]

    def close(self) -> None:
        self._listener.close()


class ExecutorUnderTest:
    """`trivet-executor`, launched as an agent would."""

    def __init__(
        self,
        agent: AgentDouble,
        directory: str,
        services: str,
        *options: str,
        wrapper: Sequence[str] = (),
        **environ: str,
    ) -> None:
        self.sandbox = f"{directory}/sandbox-dir"
        os.makedirs(self.sandbox)
        self.log = f"{self.sandbox}/stderr"
        env = {
            "LIBPROCESS_PORT": "0",
            "MESOS_AGENT_ENDPOINT": f"127.0.0.1:{agent.port}",
            "MESOS_CHECKPOINT": "1",
            "MESOS_DIRECTORY": self.sandbox,
            "MESOS_EXECUTOR_ID": "E",
            "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
            "MESOS_FRAMEWORK_ID": "F",
            "MESOS_RECOVERY_TIMEOUT": "15mins",
            "MESOS_SANDBOX": self.sandbox,
            "MESOS_SLAVE_ID": "S",
            "MESOS_SLAVE_PID": f"slave(1)@127.0.0.1:{agent.port}",
            "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **environ,
        }
        program = f"{os.path.dirname(sys.executable)}/trivet-executor"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*wrapper, program, "--services", services, *options],
                env=env,
                cwd=self.sandbox,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> int:
        return self.process.wait(TIMEOUT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(TIMEOUT)


def answer(sock: socket.socket, status: int) -> None:
    body = b"" if status == 202 else b"no\n"
    reason = REASONS.get(status, "Other")
    sock.sendall(b"HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n%s" % (status, reason.encode(), len(body), body))


def framed(record: bytes) -> bytes:
    data = b"%d\n%s" % (len(record), record)
    return b"%x\r\n%s\r\n" % (len(data), data)


def subscribed() -> executor_pb2.Event:
    event = executor_pb2.Event(type="SUBSCRIBED")
    content = event.subscribed
    content.executor_info.executor_id.value = "E"
    content.framework_info.user, content.framework_info.name = "root", "double"
    content.framework_info.capabilities.add(type=mesos_pb2.FrameworkInfo.Capability.PARTITION_AWARE)
    content.agent_info.hostname, content.agent_info.id.value = "localhost", "S"
    content.container_id.value = "C"
    return event


def launch(task_id: str, data: bytes) -> executor_pb2.Event:
    event = executor_pb2.Event(type="LAUNCH")
    task = event.launch.task
    task.name, task.task_id.value, task.agent_id.value, task.data = task_id, task_id, "S", data
    return event


def kill(task_id: str, grace: float | None = None) -> executor_pb2.Event:
    event = executor_pb2.Event(type="KILL")
    event.kill.task_id.value = task_id
    if grace is not None:
        event.kill.kill_policy.grace_period.nanoseconds = int(grace * 1e9)
    return event
