"""The whole executor under test: agent, runner and health are doubles, coordinator and driver are real.

So a test says which probe is made when, and sees what comes of it.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc

from tests.integration.driver.agent_double import AgentDouble, ExecutorUnderTest, kill, launch
from tests.integration.faults.processes import children_of, command_line, wait_until
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0


class Service:
    """A service that answers Hello and keeps what else the driver says."""

    def __init__(self, directory: str, name: str, method: str, request: Any, response: Any) -> None:
        self.response = response
        self.said: list[Any] = []
        self.hellos = 0
        self._changed = threading.Condition()
        self._stream: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._where = f"unix:{directory}/{name}.sock"
        service, _, call = method[1:].rpartition("/")
        handler = grpc.stream_stream_rpc_method_handler(self._attach, request.FromString, response.SerializeToString)
        self._handlers = grpc.method_handlers_generic_handler(service, {call: handler})
        self.start()

    def start(self) -> None:
        """Begins to serve (again)."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self._handlers,))
        assert self._server.add_insecure_port(self._where)
        self._server.start()

    def stop(self) -> None:
        """Breaks the stream."""
        self._server.stop(0).wait(PATIENCE)

    def _attach(self, messages: Iterator[Any], _context: grpc.ServicerContext) -> Iterator[Any]:
        stream = self._stream = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(messages, stream), daemon=True).start()
        while (message := stream.get()) is not None:
            yield message

    def _listen(self, messages: Iterator[Any], stream: queue.SimpleQueue[Any]) -> None:
        try:
            for message in messages:
                if message.HasField("hello_end"):
                    stream.put(self.response(hello_ack=link_pb2.HelloAck()))
                with self._changed:
                    self.hellos += message.HasField("hello_end")
                    self.said.append(message)
                    self._changed.notify_all()
        except grpc.RpcError:
            # The driver was killed, or the test breaks the stream.
            pass
        finally:
            stream.put(None)

    def say(self, **message: Any) -> None:
        self._stream.put(self.response(**message))

    def wait(self, wanted: Callable[[Any], bool]) -> Any:
        """The first message that is wanted."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(wanted(said) for said in self.said), PATIENCE), self.said[-5:]
            return next(said for said in self.said if wanted(said))

    def attached(self, count: int) -> None:
        """Until the driver has said Hello so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.hellos >= count, PATIENCE)


class Executor:
    """One executor with one task."""

    def __init__(self, tmp_path: Path, agent: AgentDouble | None = None, wrapper: tuple[str, ...] = ()) -> None:
        services = f"{tmp_path}/run"
        os.mkdir(services)
        self.runner = Service(
            services, "runner", "/trivet.runner.v1.RunnerService/Attach", runner_pb2.AttachRequest,
            runner_pb2.AttachResponse,
        )  # fmt: skip
        self.health = Service(
            services, "health", "/trivet.health.v1.HealthCheckService/Attach", pb.AttachRequest, pb.AttachResponse
        )
        self.agent = agent or AgentDouble()
        self.executor = ExecutorUnderTest(self.agent, str(tmp_path), services, wrapper=wrapper)
        self.sandbox = self.executor.sandbox
        self.agent.next_subscribe()
        self.runner.attached(1)
        self.health.attached(1)
        self.agent.send(launch("t", b"{}"))
        self.key = self.runner.wait(lambda said: said.HasField("launch")).launch.key
        self.state()
        self.health.wait(lambda said: said.HasField("launch"))
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.stop()
        self.runner.stop()
        self.health.stop()
        self.agent.close()

    def state(self, **fields: Any) -> None:
        """The runner speaks of the task."""
        fields.setdefault("phase", link_pb2.TASK_PHASE_ACTIVE)
        self.runner.say(task_state=link_pb2.TaskState(key=self.key, **fields))

    def run(self, script: str) -> None:
        """The runner starts a process."""
        self.runner.say(
            start=runner_pb2.Start(key=self.key, process="p", argv=["/bin/bash", "-c", script], cwd="sandbox")
        )

    def probe(self, *, secs: float = PATIENCE, **fields: Any) -> int:
        """Health asks for a probe; its id."""
        self.count += 1
        self.health.say(probe=pb.Probe(key=self.key, id=self.count, timeout_secs=secs, **fields))
        return self.count

    def command(self, script: str, *, secs: float = PATIENCE, **fields: Any) -> int:
        """A shell command as a probe."""
        command = pb.CommandProbe(argv=["/bin/bash", "-c", script], cwd="sandbox", **fields)
        return self.probe(secs=secs, command=command)

    def result(self, number: int) -> pb.ProbeResult:
        said = self.health.wait(lambda said: said.HasField("result") and said.result.id == number)
        result: pb.ProbeResult = said.result
        return result

    def results(self) -> list[int]:
        """Ids of all results so far."""
        return [said.result.id for said in self.health.said if said.HasField("result")]

    def file(self, name: str) -> str:
        """Content of a file in the sandbox once it has a whole line."""
        path = f"{self.sandbox}/{name}"
        return str(wait_until(lambda: _whole(path), path))

    def driver(self) -> int:
        def find() -> int:
            children = children_of(self.executor.process.pid)
            return next((pid for pid in children if "executor_shim.driver" in command_line(pid)), 0)

        pid: int = wait_until(find, "a driver")
        return pid

    def kill_driver(self) -> None:
        """SIGKILL, and until its successor has said Hello."""
        hellos = self.health.hellos
        os.kill(self.driver(), signal.SIGKILL)
        self.health.attached(hellos + 1)

    def kill(self) -> None:
        """KILL of the task by the agent."""
        self.agent.send(kill("t", 30))


def _whole(path: str) -> str:
    try:
        with open(path) as file:
            content = file.read()
    except FileNotFoundError:
        return ""
    return content if content.endswith("\n") else ""


def alive(pid: int) -> bool:
    """Not gone, and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_gone(pid: int) -> None:
    wait_until(lambda: not alive(pid), f"the end of {pid}")
