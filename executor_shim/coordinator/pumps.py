"""The coordinator's side of the log pumps: started when a task needs one, replaced when it dies, left when all is done.

A pump is forked, not exec'ed: it shares the coordinator's pages and is there in a millisecond. The coordinator keeps
the read end of every pipe until its end of file has come, so a dead pump costs its task neither SIGPIPE nor a byte
that is still in the pipe; the next pump goes on there.
"""

from __future__ import annotations

import _socket
import os
import signal

from executor_shim.coordinator import poller, pump, spawn
from executor_shim.coordinator.wire import Channel, MalformedMessageError, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.coordinator.child import Command
    from executor_shim.coordinator.runs import Run
    from executor_shim.coordinator.wire import Message

INFINITY = float("inf")

FLUSH_WAIT = 1.0
"""Seconds that an exit is held back until the run's last output is in its file: a disk may be slow."""

LAST_WORDS = 2.0
"""Seconds that the pumps have to write what is left when everything else is over."""

_PAUSES = (0.0, 0.1, 0.5, 1.0)
"""Seconds until a pump that has died is replaced, the first, second ... time, the last one from then on."""


class _Stream:
    """One pipe, from its run's start to its end of file."""

    __slots__ = ("fd", "message", "run", "said")

    def __init__(self, fd: int, run: Run, message: Message) -> None:
        self.fd = fd
        self.run = run
        self.message = message
        self.said = False
        """A pump has been told of it: what the pump had in its hands when it died is lost."""


class _Pump:
    """All pipes of a task that end in files of one user."""

    __slots__ = ("channel", "deaths", "flushes", "pid", "sandbox", "start_at", "streams", "user")

    def __init__(self, user: str, sandbox: bytes) -> None:
        self.user = user
        self.sandbox = sandbox
        self.pid = 0
        self.channel: Channel | None = None
        self.streams: dict[int, _Stream] = {}
        self.flushes: dict[int, Run] = {}
        self.deaths = 0
        self.start_at = INFINITY


class Pumps:
    """The pumps of all tasks."""

    def __init__(self, watch: poller.Poller, flushed: Callable[[Run], None], complain: Callable[[str], None]) -> None:
        """Wire up.

        Args:
            watch: where the sockets are watched.
            flushed: called when a run's last output is written, or has had its time.
            complain: takes a line for the log.
        """
        self._poller = watch
        self._flushed = flushed
        self._complain = complain
        self._pumps: dict[tuple[str, str, bytes], _Pump] = {}
        self._pids: dict[int, _Pump] = {}
        self._ids = 0
        self._waiting: dict[Run, float] = {}
        self._finish_by = INFINITY

    @property
    def pids(self) -> set[int]:
        """Children that are pumps, those on their way out included."""
        return set(self._pids)

    # -- from start to end of a run

    def open(self, run: Run, command: Command) -> tuple[int, int]:
        """Make the pipes of a run that starts now, and see to it that there is a pump.

        Returns:
            Write ends for stdout and stderr; the caller closes them.

        Raises:
            OSError: no pipe or no process could be had.
        """
        key = run.task, command.user, command.sandbox
        one = self._pumps.get(key)
        if one is None:
            one = self._pumps[key] = _Pump(command.user, command.sandbox)
        ends: list[int] = []
        new = []
        try:
            for out, path in ((1, command.stdout), (2, command.stderr)):
                read_end, write_end = os.pipe()
                ends.append(write_end)
                os.set_blocking(read_end, False)
                self._ids += 1
                rules = command.logging
                stream = one.streams[self._ids] = _Stream(
                    read_end,
                    run,
                    {
                        "op": "stream",
                        "id": self._ids,
                        "out": out,
                        "path": path.decode("utf-8", "surrogateescape"),
                        "limit": rules.limit,
                        "backups": rules.backups,
                        "console": rules.console,
                    },
                )
                new.append(stream)
            if one.channel is None and one.start_at == INFINITY:
                self._start(one)
        except OSError:
            for end in ends:
                os.close(end)
            self.drop(run)
            raise
        for stream in new:
            self._tell_stream(one, stream)
        return ends[0], ends[1]

    def drop(self, run: Run) -> None:
        """The run has never become anything: nothing will come of it."""
        for one in list(self._pumps.values()):
            for number in [number for number, stream in one.streams.items() if stream.run is run]:
                os.close(one.streams.pop(number).fd)
            self._leave(one)

    def flush(self, run: Run, now: float) -> bool:
        """Ask that everything a run has said is written. Returns False when it is."""
        if not any(stream.run is run for one in self._pumps.values() for stream in one.streams.values()):
            return False
        self._waiting[run] = now + FLUSH_WAIT
        for one in self._pumps.values():
            self._ask_flush(one, run)
        return True

    def _ask_flush(self, one: _Pump, run: Run) -> None:
        numbers = [number for number, stream in one.streams.items() if stream.run is run]
        if numbers:
            self._ids += 1
            one.flushes[self._ids] = run
            self._send(one, {"op": "flush", "id": self._ids, "streams": numbers})

    def _done(self, run: Run) -> None:
        if self._waiting.pop(run, None) is not None:
            self._flushed(run)

    # -- pumps

    def _start(self, one: _Pump) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            one.pid = spawn.fork(lambda: pump.run(theirs, one.user, one.sandbox))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._pids[one.pid] = one
        one.start_at = INFINITY
        channel = one.channel = Channel(ours)
        self._poller.add(channel.fileno(), lambda: self._on_ready(one, channel))

    def _tell_stream(self, one: _Pump, stream: _Stream) -> None:
        if one.channel is not None:
            self._send(one, {**stream.message, "again": stream.said}, stream.fd)
            stream.said = True

    def _send(self, one: _Pump, message: Message, fd: int = -1) -> None:
        channel = one.channel
        if channel is None:
            return
        channel.send(message, fd)
        if channel.pending:
            self._poller.add(channel.fileno(), lambda: self._on_ready(one, channel), poller.READ | poller.WRITE)

    def _on_ready(self, one: _Pump, channel: Channel) -> None:
        channel.flush()
        if not channel.pending:
            self._poller.add(channel.fileno(), lambda: self._on_ready(one, channel))
        channel.receive()
        while True:
            try:
                message = channel.take()
            except (MalformedMessageError, WireError):
                # Somebody of the task's has got at its pump.
                self._kill(one)
                break
            if message is None:
                break
            self._heard(one, message)
        if channel.eof and one.channel is channel:
            self._kill(one)
            self._hang_up(one)

    def _heard(self, one: _Pump, message: Message) -> None:
        number = message.get("id", -1)
        if message.get("ev") == "flushed" and number in one.flushes:
            self._done(one.flushes.pop(number))
        elif message.get("ev") == "closed" and number in one.streams:
            stream = one.streams.pop(number)
            os.close(stream.fd)
            if all(other.run is not stream.run for other in one.streams.values()):
                self._done(stream.run)
            self._leave(one)

    def _leave(self, one: _Pump) -> None:
        """A pump without pipes is not needed: it goes when we hang up."""
        if one.streams:
            return
        self._hang_up(one)
        one.start_at = INFINITY
        self._pumps = {key: other for key, other in self._pumps.items() if other is not one}

    def _hang_up(self, one: _Pump) -> None:
        channel = one.channel
        if channel is not None:
            one.channel = None
            self._poller.remove(channel.fileno())
            channel.close()

    def _kill(self, one: _Pump) -> None:
        if one.pid in self._pids:
            os.kill(one.pid, signal.SIGKILL)

    def look_for_stopped(self) -> None:
        """A pump that somebody has stopped would hold up its task for ever."""
        for pid in self._pids:
            if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None:
                os.kill(pid, signal.SIGKILL)

    def died(self, pid: int, now: float) -> bool:
        """A child was reaped. Returns whether it was a pump; the next one is planned, if it is needed."""
        one = self._pids.pop(pid, None)
        if one is None:
            return False
        if one.pid != pid:
            return True
        one.pid = 0
        one.flushes.clear()
        self._hang_up(one)
        if one.streams:
            self._complain(f"the log pump {pid} has died: starting another one")
            one.start_at = now + _PAUSES[min(one.deaths, len(_PAUSES) - 1)]
            one.deaths += 1
        return True

    # -- time

    def tick(self, now: float) -> None:
        """Replace what has died; let go of exits whose output takes too long."""
        for one in list(self._pumps.values()):
            if one.start_at <= now:
                self._restart(one, now)
        for run in [run for run, by in self._waiting.items() if by <= now]:
            self._done(run)
        if self._finish_by <= now:
            self._finish_by = INFINITY
            for one in list(self._pumps.values()):
                for number in list(one.streams):
                    os.close(one.streams.pop(number).fd)
                self._leave(one)
            self.kill_all()

    def _restart(self, one: _Pump, now: float) -> None:
        try:
            self._start(one)
        except OSError:
            one.start_at = now + _PAUSES[-1]
            return
        for stream in one.streams.values():
            self._tell_stream(one, stream)
        for run in list(self._waiting):
            self._ask_flush(one, run)

    def due(self) -> float:
        """When `tick` has something to do."""
        starts = min((one.start_at for one in self._pumps.values()), default=INFINITY)
        return min(starts, min(self._waiting.values(), default=INFINITY), self._finish_by)

    # -- the end

    def finish(self, now: float) -> bool:
        """Everything else is over. Returns True when the pumps are, too: at the latest in `LAST_WORDS` seconds."""
        if not self._pids and not self._pumps:
            self._finish_by = INFINITY
            return True
        if self._finish_by == INFINITY:
            self._finish_by = now + LAST_WORDS
        return False

    def kill_all(self) -> None:
        """SIGKILL to all pumps."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
