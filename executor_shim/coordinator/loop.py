"""The coordinator's loop: the driver's commands, children's ends, signals and times, one after the other."""

from __future__ import annotations

import gc
import os
import select
import signal

from executor_shim.coordinator import commands, grace, linux, tree
from executor_shim.coordinator.driver_link import DriverLink
from executor_shim.coordinator.ending import Ending
from executor_shim.coordinator.family import Family
from executor_shim.coordinator.hands import Hands
from executor_shim.coordinator.poller import Poller
from executor_shim.coordinator.probing import Probes
from executor_shim.coordinator.pumps import Pumps
from executor_shim.coordinator.reaper import Reaper
from executor_shim.coordinator.slayer import Slayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from executor_shim.coordinator.launch import Launcher
    from executor_shim.coordinator.options import Options
    from executor_shim.coordinator.runs import Run
    from executor_shim.coordinator.wire import Message

BEAT = 2.0
"""Seconds between two beats to the driver."""

_RETRY_PAUSE = 0.1
"""Seconds until what failed (no descriptors, no memory) is tried again."""

_COLLECT_EVERY = 150
"""Beats between two garbage collections. In between there is none, so that forked children share our pages."""

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)


class Coordinator:
    """Parent of all task processes. Decides nothing: it does what the driver says and what the clock demands."""

    def __init__(self, launcher: Launcher, options: Options, driver_pid: int, sock: _socket.socket) -> None:
        """Take over a driver that was started just now."""
        linux.become_subreaper()
        linux.forbid_inspection()
        tree.mark_with(launcher.incarnation)
        self._poller = Poller()
        self._wake = self._catch_signals()
        self._ending = Ending()
        self._family = Family()
        self._link = DriverLink(
            launcher, self._poller, options.beat_timeout, self._command, self._state, self._malformed
        )
        self._slayer = Slayer(self._family, self._link.tell)
        self._probes = Probes(self._family, self._poller, self._link.tell, self._refuses)
        self._pumps = Pumps(self._poller, self._flushed, log)
        self._hands = Hands(
            self._family,
            self._poller,
            self._pumps,
            self._link.tell,
            self._refuses,
            self._slayer.orphaned,
        )
        self._reaper = Reaper(
            self._hands,
            self._family,
            self._pumps,
            self._slayer.in_grace,
            self._slayer.orphaned,
            self._probes.ended,
            self._emptied,
        )
        self._slayer.hands, self._slayer.reaper = self._hands, self._reaper
        self._boot_id = linux.boot_id()
        self._beat_at = 0.0
        self._beats = 0
        self._pause_until = 0.0
        self._last_error = ""
        self._now = linux.now()
        self._commands: dict[str, Callable[[dict[str, Any]], None]] = {
            "beat": self._on_beat,
            "start": self._on_start,
            "terminate": lambda f: self._slayer.terminate(f["task"], f["kill_at"], self._now),
            "hard": lambda f: self._slayer.hard(f["task"], f["at"]),
            "probe": lambda f: self._probes.start(f, self._now),
            "stop_probe": lambda f: self._probes.stop(f["id"], self._now),
            "stop_probes": lambda f: self._probes.cancel(self._now, f["task"]),
            "forget": self._on_forget,
            "stop": lambda f: self._hands.stop(f["task"], f["process"], f["run"]),
            "settle": lambda f: self._hands.settle(f["task"], f["process"], f["below"]),
            "stream": lambda _: self._link.keep_stream(),
            "end": self._on_end,
        }
        self._link.attach(driver_pid, sock, self._now)
        self._reaper.driver = driver_pid
        # Signals that came before the handlers were there.
        self._guard(self._reap)
        gc.collect()
        gc.freeze()
        gc.disable()

    def run(self) -> int:
        """Work until everything is over. Returns the exit code."""
        while True:
            # Counted from the last time that we looked at the clock, so that a freeze anywhere since then shows.
            expected = max(self._due(), self._now)
            ready = self._poller.wait(expected - linux.now())
            self._now = linux.now()
            self._link.woke(expected, self._now)
            for fd in ready:
                handler = self._poller.handler(fd)
                if handler is not None:
                    self._guard(handler)
            if self._now >= self._pause_until:
                for part in (self._tick_reap, self._tick_beat, self._tick_hands, self._tick_driver):
                    self._guard(part)
            code = self._check_end()
            if code is not None:
                self._link.kill_driver()
                self._pumps.kill_all()
                return code

    def _guard(self, step: Callable[[], None]) -> None:
        """Nothing that goes wrong in one step may end this process: all task processes would die with it."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - see above; the driver and the log are told
            # What failed is still due: it is tried again, but not in a tight loop.
            self._pause_until = self._now + _RETRY_PAUSE
            text = f"internal error: {_describe(error)}"
            if text != self._last_error:
                self._last_error = text
                self._complain({}, text)

    def _due(self) -> float:
        parts = (self._link, self._hands, self._slayer, self._probes, self._pumps, self._ending)
        due = min(self._beat_at, *(part.due() for part in parts))
        return max(0.0 if self._reaper.unfinished else due, self._pause_until)

    def _tick_reap(self) -> None:
        if self._reaper.unfinished:
            self._reap()

    def _tick_beat(self) -> None:
        if self._now < self._beat_at:
            return
        self._beat_at = self._now + BEAT
        self._link.tell({"ev": "beat"})
        self._beats += 1
        if self._beats % _COLLECT_EVERY == 0:
            self._last_error = ""
            gc.collect()

    def _tick_hands(self) -> None:
        self._hands.tick(self._now)
        self._probes.tick(self._now)
        self._slayer.tick(self._now)
        self._pumps.tick(self._now)

    def _tick_driver(self) -> None:
        if not self._ending.ending:
            started = self._link.tick(self._now)
            if started:
                self._reaper.driver = started

    def _check_end(self) -> int | None:
        if not self._ending.begun:
            return None
        quiet = not self._family.children and self._slayer.idle and self._pumps.finish(self._now)
        return self._ending.check(quiet=quiet, driver=self._link.pid > 0, now=self._now)

    # -- the driver

    def _command(self, message: Message) -> None:
        try:
            op, fields = commands.check(message)
            self._link.beat(self._now)
            self._commands[op](fields)
        except commands.CommandError as error:
            self._malformed(message, str(error))
        except Exception as error:  # noqa: BLE001 - the loop must go on, and the driver must hear of it
            self._complain(message, f"internal error: {_describe(error)}")

    def _malformed(self, message: Message, text: str) -> None:
        self._link.tell(commands.error_event(message, text))

    def _complain(self, message: Message, text: str) -> None:
        log(text)
        self._malformed(message, text)

    def _state(self) -> Message:
        tasks = {
            task.key: {
                "runs": [self._hands.wire(run) for run in task.runs.values()],
                "alive": self._family.alive(task.key),
                "stuck": task.stuck,
                "hard": self._slayer.limit(task.key),
            }
            for task in self._hands.tasks.values()
        }
        return {"boot_id": self._boot_id, "uid": os.geteuid(), "terminating": self._ending.deadline, "tasks": tasks}

    def _on_beat(self, _fields: dict[str, Any]) -> None:
        """Every command is a sign of life; this one is nothing else."""

    def _on_start(self, fields: dict[str, Any]) -> None:
        self._slayer.make_way(fields["task"], self._now)
        self._hands.start(fields, self._now)

    def _on_forget(self, fields: dict[str, Any]) -> None:
        self._hands.forget(fields["task"])
        self._slayer.forget(fields["task"])
        if not self._hands.tasks:
            self._slayer.kill_strays(self._now)

    def _on_end(self, fields: dict[str, Any]) -> None:
        self._end(fields["code"])

    def _end(self, code: int) -> None:
        self._ending.end(code, self._now)
        self._slayer.kill_all(self._now)

    # -- children

    def _refuses(self, task: str) -> bool:
        return self._slayer.refuses(task, self._now)

    def _flushed(self, run: Run) -> None:
        self._reaper.flushed(run)

    def _emptied(self, task: str, *, told: bool) -> None:
        self._slayer.emptied(task, self._now, told=told)

    def _reap(self) -> None:
        gone = self._reaper.reap()
        if gone is None:
            return
        pid, code, number = gone
        what = f"signal {number}" if number else f"code {code}"
        # Complete commands that it left behind are carried out first.
        self._link.detach()
        if self._ending.ending:
            return
        log(f"driver {pid} ended by {what}")
        if not self._link.died(self._now):
            log("the driver dies again and again: ending everything")
            self._end(1)
        self._probes.cancel(self._now)

    # -- signals

    def _catch_signals(self) -> int:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            # Only the byte in the wake-up pipe counts.
            signal.signal(number, _noticed)
        # The start held them back.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._poller.add(read_end, self._on_signals)
        return read_end

    def _on_signals(self) -> None:
        numbers = os.read(self._wake, 4096)
        if signal.SIGTERM in numbers:
            self._on_terminate()
        self._reap()

    def _on_terminate(self) -> None:
        if self._ending.deadline is None:
            seconds = grace.time_to_live(os.environ.get("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"))
        else:
            # Asked twice: at once.
            seconds = 0.0
        deadline = self._now + seconds
        self._ending.terminate(deadline)
        log(f"SIGTERM: everything ends within {seconds:g} s")
        self._link.tell({"ev": "terminate", "deadline": deadline})
        self._slayer.terminate_all(deadline, self._now)


def _noticed(_number: int, _frame: object) -> None:
    """Handler of signals that only have to wake the loop."""


def _describe(error: Exception) -> str:
    """Where and what, without values: they may be secrets."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" in {place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place is not None else ""
    reason = error.strerror if isinstance(error, OSError) else ""
    return f"{type(error).__name__}{where}" + (f": {reason}" if reason else "")


def log(text: str) -> None:
    """One line to stderr, unless that would block: a full pipe must not stop the reaping."""
    line = f"executor_shim.coordinator: {text}\n".encode("utf-8", "replace")[:512]
    ready = select.poll()
    ready.register(2, select.POLLOUT)
    try:
        if ready.poll(0):
            os.write(2, line)
    except OSError:
        # Nobody reads any more.
        return
