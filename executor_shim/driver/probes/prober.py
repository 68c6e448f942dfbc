"""Carries out what health asks for, inside the container, and says what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from executor_shim.driver.probes import http
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import Task


class Prober:
    """HTTP probes run in the driver, commands in the coordinator."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._commands: dict[str, health_pb2.Probe] = {}

    def start(self, task: Task, probe: health_pb2.Probe) -> None:
        """Begins a probe; the result goes to health."""
        if task.latch is not None:
            self._answer(http.transient(probe.key, probe.id, "the task is over"))
        elif probe.WhichOneof("kind") == "http":
            name = f"{task.key}#{probe.id}"
            self._under_way[name] = asyncio.get_running_loop().create_task(self._http(name, probe))
        elif probe.WhichOneof("kind") == "command":
            self._command(task, probe)
        else:
            self._answer(http.transient(probe.key, probe.id, "this driver does not know such a probe"))

    def on_command(self, message: dict[str, Any]) -> None:
        """The coordinator's answer to a command probe."""
        probe = self._commands.pop(str(message["id"]), None)
        if probe is None:
            return
        result = health_pb2.ProbeResult(key=probe.key, id=probe.id, latency_secs=float(message.get("secs") or 0.0))
        result.output = str(message.get("output") or "").encode()
        if message.get("timeout"):
            result.outcome = health_pb2.PROBE_OUTCOME_TIMEOUT
            result.error = f"no end within {probe.timeout_secs:g} s"
        elif message.get("error"):
            result.outcome = health_pb2.PROBE_OUTCOME_TRANSIENT
            result.error = str(message["error"])
        else:
            result.outcome = health_pb2.PROBE_OUTCOME_DONE
            if message.get("code") is not None:
                result.exit.code = int(message["code"])
            if message.get("signal") is not None:
                result.exit.signal = int(message["signal"])
        self._answer(result)

    async def _http(self, name: str, probe: health_pb2.Probe) -> None:
        try:
            self._answer(await http.probe(probe))
        finally:
            self._under_way.pop(name, None)

    def _command(self, task: Task, probe: health_pb2.Probe) -> None:
        # The driver's generation: an answer to an older driver's probe is nobody's.
        name = f"{self._hub.options.generation}/{task.key}#{probe.id}"
        self._commands[name] = probe
        env = dict(probe.command.env)
        env.setdefault("PATH", self._hub.environment.path)
        self._hub.hands.send(
            {
                "op": "probe",
                "id": name,
                "task": task.key,
                "argv": list(probe.command.argv),
                "env": env,
                "cwd": probe.command.cwd,
                "user": probe.command.user,
                "timeout": probe.timeout_secs,
                "sandbox": self._hub.environment.sandbox,
            }
        )

    def _answer(self, result: health_pb2.ProbeResult) -> None:
        self._hub.peers.health.link.send(health_pb2.AttachRequest(result=result))
