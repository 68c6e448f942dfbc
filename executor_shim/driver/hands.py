"""The driver's side of the socketpair to the coordinator, and its picture of what the coordinator holds."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from executor_shim.coordinator.wire import Channel, MalformedMessageError, WireError
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable


_LOG = logging.getLogger(__name__)
BEAT_SECS = 2.0

_STATES = {
    "forked": link_pb2.RUN_STATE_FORKED,
    "running": link_pb2.RUN_STATE_RUNNING,
    "exited": link_pb2.RUN_STATE_EXITED,
    "not_started": link_pb2.RUN_STATE_NOT_STARTED,
}


class HandsTask:
    """What the coordinator knows of one task."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, int], dict[str, Any]] = {}
        self.alive = 0
        self.stuck = False

    def to_pb(self, runs: Iterable[dict[str, Any]] | None = None) -> link_pb2.HandsState:
        """As the services see it: all runs, or only those given."""
        return link_pb2.HandsState(
            runs=[run_to_pb(run) for run in (self.runs.values() if runs is None else runs)],
            alive=self.alive,
            stuck=self.stuck,
        )


class Listener(Protocol):
    """What the coordinator reports."""

    def on_run(self, key: str, run: dict[str, Any]) -> None:
        """A run changed."""

    def on_alive(self, key: str) -> None:
        """Nothing of the task is left, or it is stuck."""

    def on_command_probe(self, message: dict[str, Any]) -> None:
        """A command probe has ended, or was refused."""

    def on_terminate(self, deadline: float) -> None:
        """The coordinator was told to end everything (SIGTERM)."""

    def on_coordinator_gone(self) -> None:
        """The coordinator is dead: so is the executor."""


class Hands:
    """Commands to the coordinator; its reports come to the listener."""

    def __init__(self, sock: socket.socket, listener: Listener) -> None:
        self._channel = Channel(sock)
        self._listener = listener
        self._writing = False
        self.tasks: dict[str, HandsTask] = {}
        self.boot_id = ""
        self.uid = 0
        # Set when the coordinator's picture is complete.
        self.known = asyncio.Event()

    def start(self) -> None:
        """Begins to read and to beat."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._readable)
        self._beat()
        self._readable()

    def task(self, key: str) -> HandsTask:
        """The coordinator's view of a task; empty when it knows nothing of it."""
        return self.tasks.get(key) or HandsTask()

    def send(self, message: dict[str, Any], fd: int = -1) -> None:
        """Queues a command; never blocks."""
        self._channel.send(message, fd)
        if self._channel.pending and not self._writing:
            self._writing = True
            asyncio.get_running_loop().add_writer(self._channel.fileno(), self._writable)

    def keep_stream(self, sock: socket.socket) -> None:
        """Gives the coordinator the event stream for the next driver."""
        self.send({"op": "stream"}, sock.fileno())

    def terminate(self, key: str, kill_at: float) -> None:
        """SIGTERM now, SIGKILL at `kill_at` (CLOCK_BOOTTIME)."""
        self.send({"op": "terminate", "task": key, "kill_at": kill_at})

    def stop_run(self, key: str, process: str, run: int) -> None:
        """SIGKILL to one run; it is never started if it has not been yet."""
        self.send({"op": "stop", "task": key, "process": process, "run": run})

    def stop_probe(self, name: str) -> None:
        """SIGKILL to a command probe that nobody waits for any more."""
        self.send({"op": "stop_probe", "id": name})

    def limit(self, key: str, at: float) -> None:
        """Everything of the task is killed at `at`, whatever the driver does; an empty key means all tasks."""
        self.send({"op": "hard", "task": key, "at": at})

    def settle(self, key: str, process: str, below: int) -> None:
        """Drops the records of a process's ended runs below a number."""
        task = self.task(key)
        for number in [run for name, run in task.runs if name == process and run < below]:
            del task.runs[process, number]
        self.send({"op": "settle", "task": key, "process": process, "below": below})

    def forget(self, key: str) -> None:
        """Drops the records of a task that is over."""
        self.tasks.pop(key, None)
        self.send({"op": "forget", "task": key})

    def end(self, code: int) -> None:
        """The executor is done: kill what is left and exit with `code`."""
        self.send({"op": "end", "code": code})

    def _beat(self) -> None:
        self.send({"op": "beat"})
        asyncio.get_running_loop().call_later(BEAT_SECS, self._beat)

    def _writable(self) -> None:
        self._channel.flush()
        if not self._channel.pending:
            self._writing = False
            asyncio.get_running_loop().remove_writer(self._channel.fileno())

    def _readable(self) -> None:
        self._channel.receive()
        while True:
            try:
                message = self._channel.take()
            except MalformedMessageError as error:
                _LOG.error("coordinator: %s", error)
                continue
            except WireError as error:
                # Only a new socketpair helps: the coordinator starts the next driver with one.
                raise SystemExit(f"coordinator: {error}") from error
            if message is None:
                break
            self._dispatch(message)
        if self._channel.eof:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._listener.on_coordinator_gone()

    def _dispatch(self, message: dict[str, Any]) -> None:
        event = message.get("ev")
        if event == "run":
            self._run(message)
        elif event == "task":
            task = self._update(message)
            task.stuck = bool(message.get("stuck"))
            if message.get("error"):
                _LOG.warning("task %s: %s", message["task"], message["error"])
            if not message.get("told"):
                self._listener.on_alive(message["task"])
        elif event == "probe":
            self._listener.on_command_probe(message)
        elif event == "state":
            self._state(message)
        elif event == "terminate":
            self._listener.on_terminate(float(message["deadline"]))
        elif event == "error":
            _LOG.error("coordinator refused %s: %s", message.get("op"), message.get("error"))
            if message.get("op") == "probe" and "id" in message:
                self._listener.on_command_probe(message)

    def _state(self, message: dict[str, Any]) -> None:
        self.boot_id = message["boot_id"]
        self.uid = int(message["uid"])
        for key, state in message["tasks"].items():
            task = self.tasks[key] = HandsTask()
            task.alive, task.stuck = state["alive"], state["stuck"]
            for run in state["runs"]:
                task.runs[run["process"], run["run"]] = run
        self.known.set()
        if message.get("terminating"):
            self._listener.on_terminate(float(message["terminating"]))

    def _update(self, message: dict[str, Any]) -> HandsTask:
        task = self.tasks.setdefault(message["task"], HandsTask())
        task.alive = int(message["alive"])
        return task

    def _run(self, message: dict[str, Any]) -> None:
        task = self._update(message)
        run = message["run"]
        task.runs[run["process"], run["run"]] = run
        self._listener.on_run(message["task"], run)


def run_to_pb(run: dict[str, Any]) -> link_pb2.Run:
    """A run as the services see it."""
    record = link_pb2.Run(
        process=run["process"],
        run=run["run"],
        state=_STATES[run["state"]],
        pid=run.get("pid") or 0,
        start_ticks=run.get("ticks") or 0,
        error=run.get("error") or "",
        forked_at=run.get("forked_at") or 0.0,
        exited_at=run.get("exited_at") or 0.0,
    )
    if run["state"] == "exited":
        record.exit.core_dumped = bool(run.get("core"))
        if run.get("code") is not None:
            record.exit.code = run["code"]
        if run.get("signal") is not None:
            record.exit.signal = run["signal"]
    return record
