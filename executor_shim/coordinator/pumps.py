"""The coordinator's side of the log pumps: started when a task needs one, replaced when it dies, left when all is done.

A pump is forked, not exec'ed: it shares the coordinator's pages and is there in a millisecond. The coordinator keeps
the read end of every pipe until its end of file has come, so a dead pump costs its task neither SIGPIPE nor a byte
that is still in the pipe; the next pump goes on there.
"""

from __future__ import annotations

import os
import signal

from executor_shim.coordinator.pump_link import INFINITY, PumpLink, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.coordinator import poller
    from executor_shim.coordinator.child import Command
    from executor_shim.coordinator.runs import Run

FLUSH_WAIT = 1.0
"""Seconds that an exit is held back until the run's last output is in its file: a disk may be slow."""

LAST_WORDS = 2.0
"""Seconds that the pumps have to write what is left when everything else is over."""

_PAUSES = (0.0, 0.1, 0.5, 1.0)
"""Seconds until a pump that has died is replaced, the first, second ... time, the last one from then on."""


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
        self._pumps: dict[tuple[str, str, bytes], PumpLink] = {}
        self._pids: dict[int, PumpLink] = {}
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
            one = self._pumps[key] = PumpLink(command.user, command.sandbox, self._poller, self._heard, self._kill)
        ends: list[int] = []
        new = []
        try:
            for out, path in ((1, command.stdout), (2, command.stderr)):
                read_end, write_end = os.pipe()
                ends.append(write_end)
                os.set_blocking(read_end, False)
                self._ids += 1
                rules = command.logging
                stream = one.streams[self._ids] = Stream(
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
            if not one.up and one.start_at == INFINITY:
                self._start(one)
        except OSError:
            for end in ends:
                os.close(end)
            self.drop(run)
            raise
        for stream in new:
            one.tell_stream(stream)
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
        for one in self._pumps.values():
            self._ask_flush(one, run)
        self._waiting[run] = now + FLUSH_WAIT
        return True

    def _ask_flush(self, one: PumpLink, run: Run) -> None:
        numbers = [number for number, stream in one.streams.items() if stream.run is run]
        if numbers:
            self._ids += 1
            one.flushes[self._ids] = run
            one.send({"op": "flush", "id": self._ids, "streams": numbers})

    def _done(self, run: Run) -> None:
        if self._waiting.pop(run, None) is not None:
            self._flushed(run)

    # -- pumps

    def _start(self, one: PumpLink) -> None:
        one.start()
        self._pids[one.pid] = one

    def _heard(self, one: PumpLink, event: str, number: int) -> None:
        if event == "flushed" and number in one.flushes:
            self._done(one.flushes.pop(number))
        elif event == "closed" and number in one.streams:
            stream = one.streams.pop(number)
            os.close(stream.fd)
            if all(other.run is not stream.run for other in one.streams.values()):
                self._done(stream.run)
            self._leave(one)

    def _leave(self, one: PumpLink) -> None:
        """A pump without pipes is not needed: it goes when we hang up."""
        if one.streams:
            return
        one.hang_up()
        one.start_at = INFINITY
        self._pumps = {key: other for key, other in self._pumps.items() if other is not one}

    def _kill(self, one: PumpLink) -> None:
        if one.pid in self._pids:
            os.kill(one.pid, signal.SIGKILL)

    def look_for_stopped(self, now: float) -> None:
        """A pump that somebody has stopped would hold up its task for ever."""
        for pid in list(self._pids):
            try:
                # Exits are asked for, too: without, one that is dead and not reaped counts as no child at all.
                status = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                # Somebody else has reaped it.
                self.died(pid, now)
                continue
            if status is not None and status.si_code == os.CLD_STOPPED:
                os.kill(pid, signal.SIGKILL)

    def died(self, pid: int, now: float) -> bool:
        """A child was reaped. Returns whether it was a pump; the next one is planned, if it is needed."""
        one = self._pids.pop(pid, None)
        if one is None:
            return False
        if one.pid != pid:
            return True
        one.died()
        if one.streams:
            self._complain(f"the log pump {pid} has died{one.why and f' ({one.why})'}: starting another one")
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

    def _restart(self, one: PumpLink, now: float) -> None:
        try:
            self._start(one)
        except OSError as error:
            self._complain(f"no log pump can be started: {error.strerror}: trying again")
            one.start_at = now + _PAUSES[-1]
            return
        for stream in one.streams.values():
            one.tell_stream(stream)
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
