"""Carries out what health asks for, inside the container, and says what came of it."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from typing import TYPE_CHECKING, Any

from executor_shim.driver.probes import command, results, tcp
from executor_shim.driver.probes.http import HttpProbes
from executor_shim.driver.probes.results import NoAnswer, NotMade
from executor_shim.driver.probes.snooze import SnoozeFiles
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import Task

    # Task and kind of check: at most one probe of each is under way.
    Check = tuple[str, int]

_LOG = logging.getLogger(__name__)
OVER = "the task is over"
ENDING = "the task is ending"
# Descriptors that are left to everything but probes: the agent, the services, logs, usage.
_RESERVE = 128


def capacity(descriptors: int) -> int:
    """How many probes may hold a socket at once, by the soft limit of descriptors."""
    if descriptors == resource.RLIM_INFINITY:
        return sys.maxsize
    return descriptors - min(_RESERVE, descriptors // 2)


class Prober:
    """HTTP and TCP probes run in the driver, commands in the coordinator."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._under_way: dict[Check, asyncio.Task[None]] = {}
        self._probes: dict[Check, health_pb2.Probe] = {}
        # The coordinator's name of a command probe, and the other way round.
        self._commands: dict[str, Check] = {}
        self._names: dict[Check, str] = {}
        self._http = HttpProbes()
        self._snooze = SnoozeFiles(hub.environment.sandbox)
        self._most = capacity(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def start(self, task: Task, probe: health_pb2.Probe) -> None:
        """Begins a probe; the result goes to health. An older one of the same check ends without a word."""
        check = (task.key, probe.check or health_pb2.CHECK_KIND_HEALTH)
        self._drop(check)
        if task.latch is not None:
            self._answer(results.transient(probe, OVER))
        elif task.ends or self._hub.peers.runner.state_of(task).end_cause:
            self._answer(results.transient(probe, ENDING))
        elif len(self._under_way) + self._http.sockets >= self._most:
            self._answer(results.transient(probe, f"{self._most} probes are being made already"))
        else:
            self._probes[check] = probe
            work = asyncio.get_running_loop().create_task(self._carry_out(task.key, check, probe))
            self._under_way[check] = work
            work.add_done_callback(lambda done: self._carried_out(check, done))

    async def _carry_out(self, task: str, check: Check, probe: health_pb2.Probe) -> None:
        kind = probe.WhichOneof("kind")
        try:
            if probe.snooze_file and await self._snooze.present(probe.snooze_file):
                self._settle(check, results.snoozed(probe))
            elif kind == "http":
                self._settle(check, await self._http.probe(probe))
            elif kind == "tcp":
                self._settle(check, await tcp.probe(probe))
            elif kind == "command":
                self._order(task, check, probe)
            else:
                self._settle(check, results.transient(probe, "this driver does not know such a probe"))
        except NotMade as error:
            self._settle(check, results.transient(probe, str(error)))
        except NoAnswer as error:
            self._settle(check, results.no_answer(probe, str(error)))

    def _carried_out(self, check: Check, done: asyncio.Task[None]) -> None:
        current = self._under_way.get(check) is done
        if current:
            del self._under_way[check]
        if done.cancelled() or (error := done.exception()) is None:
            return
        # A defect of ours must not look like the target's, nor leave health without an answer.
        _LOG.error("a probe went wrong", exc_info=error)
        if current and check in self._probes:
            self._settle(check, results.transient(self._probes[check], f"internal error: {type(error).__name__}"))

    def _order(self, task: str, check: Check, probe: health_pb2.Probe) -> None:
        # The driver's generation: an answer to an older driver's probe is nobody's.
        name = f"{self._hub.options.generation}/{task}#{check[1]}#{probe.id}"
        message = command.order(name, task, probe, self._hub.environment, self._hub.options)
        self._commands[name] = check
        self._names[check] = name
        self._hub.hands.send(message)

    def on_command(self, message: dict[str, Any]) -> None:
        """The coordinator's answer to a command probe: its end, or why there is none."""
        check = self._commands.get(str(message["id"]))
        if check is not None:
            self._settle(check, command.result_of(self._probes[check], message))

    # Ends before the answer

    def task_ends(self, task: Task) -> None:
        """The end of a task has begun: what is being probed is called off, and health told so."""
        for check, probe in list(self._probes.items()):
            if check[0] == task.key:
                self._drop(check)
                self._answer(results.transient(probe, ENDING))

    def forget(self, task: Task) -> None:
        """The task is over for everybody."""
        for check in [check for check in self._probes if check[0] == task.key]:
            self._drop(check)

    def drop_all(self) -> None:
        """Whoever has asked is gone."""
        for check in list(self._probes):
            self._drop(check)

    def _drop(self, check: Check) -> None:
        if self._probes.pop(check, None) is None:
            return
        work = self._under_way.pop(check, None)
        if work is not None:
            work.cancel()
        name = self._names.pop(check, None)
        if name is not None:
            del self._commands[name]
            self._hub.hands.stop_probe(name)

    def _settle(self, check: Check, result: health_pb2.ProbeResult) -> None:
        del self._probes[check]
        name = self._names.pop(check, None)
        if name is not None:
            del self._commands[name]
        self._answer(result)

    def _answer(self, result: health_pb2.ProbeResult) -> None:
        self._hub.peers.health.link.send(health_pb2.AttachRequest(result=result))
