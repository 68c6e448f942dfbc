"""Command probes: started, listened to, cut off in time, answered once."""

from __future__ import annotations

import os
import signal

from executor_shim.coordinator import child, linux, spawn, tree
from executor_shim.coordinator.child import Command
from executor_shim.coordinator.hands import BEING_KILLED
from executor_shim.coordinator.runs import Orphan, Probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from executor_shim.coordinator.family import Family
    from executor_shim.coordinator.poller import Poller
    from executor_shim.coordinator.wire import Message

INFINITY = float("inf")

_LAST_WAIT = 1.0
"""Seconds after SIGKILL until a probe is answered although its process has not ended (D state)."""

_MAX_RUNNING = 256
"""Each one takes descriptors, and those are needed to reap and to kill."""

_DRAIN = 64
"""Reads of the pipe at the end: a grandchild may go on writing for ever."""


class Probes:
    """Command probes of all tasks."""

    def __init__(
        self, family: Family, poller: Poller, tell: Callable[[Message], None], refused: Callable[[str], bool]
    ) -> None:
        """See `Hands` for the arguments."""
        self._family = family
        self._poller = poller
        self._tell = tell
        self._refused = refused
        self._running: dict[str, Probe] = {}
        self._exec_pipes: dict[str, int] = {}

    def start(self, fields: dict[str, Any], now: float) -> None:
        """Carry out a probe. The id of one that is running already changes nothing; timeout 0: it has none."""
        probe_id, task, timeout = fields.pop("id"), fields.pop("task"), fields.pop("timeout")
        if probe_id in self._running:
            return
        command = Command(**fields)
        probe = Probe(probe_id, task, command.marker, now, now + timeout if timeout > 0 else INFINITY)
        if self._refused(task):
            probe.error = BEING_KILLED
        elif len(self._running) >= _MAX_RUNNING:
            probe.error = f"{_MAX_RUNNING} probes are running already"
        else:
            try:
                self._spawn(probe, command)
            except OSError as error:
                probe.error = f"fork: {error.strerror}"
        if probe.error:
            probe.over = True
            self._tell(probe.answer(now))
            return
        self._running[probe_id] = probe

    def _spawn(self, probe: Probe, command: Command) -> None:
        read_end, write_end = os.pipe()
        try:
            os.set_blocking(read_end, False)
            probe.pid, exec_pipe = spawn.spawn(command, (write_end, write_end))
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        probe.pipe = read_end
        self._family.born(probe)
        self._exec_pipes[probe.id] = exec_pipe
        self._poller.add(read_end, lambda: self._listen(probe, 1))

    def _listen(self, probe: Probe, reads: int) -> None:
        while reads and probe.pipe >= 0:
            reads -= 1
            try:
                data = os.read(probe.pipe, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self._close(probe)
                return
            probe.keep(data)

    def _close(self, probe: Probe) -> None:
        if probe.pipe >= 0:
            self._poller.remove(probe.pipe)
            os.close(probe.pipe)
            probe.pipe = -1

    def ended(self, probe: Probe) -> None:
        """Its main process was reaped: that is the answer, whoever still holds the pipe."""
        if probe.over:
            return
        error = spawn.exec_error(self._exec_pipes[probe.id])
        if error and probe.code in child.NOT_RUNNABLE:
            # As with a shell: the command has failed, not the probe.
            probe.keep(error.encode())
        elif error:
            probe.error, probe.code, probe.signal = error, None, None
        self._listen(probe, _DRAIN)
        self._answer(probe)

    def _answer(self, probe: Probe) -> None:
        probe.over = True
        self._close(probe)
        os.close(self._exec_pipes.pop(probe.id))
        del self._running[probe.id]
        self._tell(probe.answer(linux.now()))

    def stop(self, probe_id: str, now: float) -> None:
        """Kill one probe, if it is running."""
        probe = self._running.get(probe_id)
        if probe is not None:
            probe.cancelled = True
            self._kill(probe, now)

    def cancel(self, now: float, task: str | None = None) -> None:
        """Kill the running probes of a task, or all."""
        for probe in list(self._running.values()):
            if task is None or probe.task == task:
                self._kill(probe, now)
                probe.cancelled = True

    def tick(self, now: float) -> None:
        """Kill what has had its time."""
        for probe in list(self._running.values()):
            if probe.due > now:
                continue
            if probe.timed_out or probe.cancelled:
                probe.error = probe.error or "survives SIGKILL"
                self._answer(probe)
            else:
                self._kill(probe, now)
                probe.timed_out = True

    def _kill(self, probe: Probe, now: float) -> None:
        found = tree.members(
            tree.snapshot(),
            os.getpid(),
            owned=lambda top: top == probe.pid or self._left_by(probe, top),
            excluded=(),
            pinned_sids={probe.pid},
            markers={probe.marker},
            foreign={},
        )
        for proc in found:
            error = tree.send(proc, signal.SIGKILL)
            probe.error = probe.error or error
        # Last: if it could not be looked for, it is still due.
        probe.due = now + _LAST_WAIT

    def _left_by(self, probe: Probe, pid: int) -> bool:
        owner = self._family.children.get(pid)
        return isinstance(owner, Orphan) and owner.origin is probe

    def due(self) -> float:
        """When `tick` has something to do."""
        return min((probe.due for probe in self._running.values()), default=INFINITY)
