"""The link to the driver of the moment: messages, beats, its death and its successor."""

from __future__ import annotations

import os
import signal

from executor_shim.coordinator import poller
from executor_shim.coordinator.supervise import Supervisor
from executor_shim.coordinator.wire import Channel, MalformedMessageError, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from executor_shim.coordinator.launch import Launcher
    from executor_shim.coordinator.wire import Message

MAX_PENDING = 8 << 20
"""Bytes that a driver may leave unread before it counts as frozen."""


class DriverLink:
    """Talks to the driver and replaces it."""

    def __init__(
        self,
        launcher: Launcher,
        watch: poller.Poller,
        beat_timeout: float,
        command: Callable[[Message], None],
        state: Callable[[], Message],
        malformed: Callable[[Message, str], None],
    ) -> None:
        """Wire up.

        Args:
            launcher: starts drivers.
            watch: where the socket is watched.
            beat_timeout: seconds of silence after which a driver is killed.
            command: carries out a message.
            state: what a new driver is told.
            malformed: answers what is no message at all.
        """
        self._launcher = launcher
        self._poller = watch
        self._command = command
        self._state = state
        self._malformed = malformed
        self._supervisor = Supervisor(beat_timeout)
        self._channel: Channel | None = None
        self._limit = MAX_PENDING
        self._stream_fd = -1
        self._generation = 0
        self.pid = 0
        """The driver's; 0: none is alive."""

    def attach(self, pid: int, sock: _socket.socket, now: float) -> None:
        """A driver was started: tell it everything."""
        self.pid = pid
        self._generation += 1
        self._supervisor.started(now)
        channel = self._channel = Channel(sock)
        self._poller.add(channel.fileno(), self._on_ready)
        self._limit = MAX_PENDING
        self.tell(
            {
                "ev": "state",
                "incarnation": self._launcher.incarnation,
                "generation": self._generation,
                **self._state(),
            }
        )
        # A long history is no sign of a frozen reader.
        self._limit = MAX_PENDING + channel.pending

    def tell(self, message: Message) -> None:
        """Send an event. Without a driver it is dropped: the next one is told the whole state."""
        channel = self._channel
        if channel is None:
            return
        try:
            channel.send(message)
        except WireError:
            # Longer than any message may be: only a history without end could be.
            self.kill_driver()
            return
        if channel.pending > self._limit:
            self._hang_up()
            self.kill_driver()
        elif channel.pending:
            self._poller.add(channel.fileno(), self._on_ready, poller.READ | poller.WRITE)

    def beat(self, now: float) -> None:
        """The driver has said something."""
        self._supervisor.beat(now)

    def woke(self, expected: float, now: float) -> None:
        """The loop wanted to wake at `expected` and did at `now`."""
        self._supervisor.woke(expected, now)

    def keep_stream(self) -> None:
        """Keep the descriptor that came with the command for the next driver."""
        fd = self._channel.take_fd() if self._channel is not None else None
        if fd is None:
            self._malformed({"op": "stream"}, "stream: no descriptor came with it")
            return
        if self._stream_fd >= 0:
            os.close(self._stream_fd)
        self._stream_fd = fd

    def _on_ready(self) -> None:
        channel = self._channel
        if channel is None:
            return
        channel.flush()
        if not channel.pending:
            self._poller.add(channel.fileno(), self._on_ready)
        self._receive(channel)
        if channel.eof:
            # It cannot be reached any more; its death, now or soon, makes room for the next.
            self._hang_up()
            self.kill_driver()

    def _receive(self, channel: Channel) -> None:
        channel.receive()
        while True:
            try:
                message = channel.take()
            except MalformedMessageError as error:
                self._malformed({}, str(error))
                continue
            except WireError:
                channel.eof = True
                return
            if message is None:
                return
            self._command(message)

    def _hang_up(self) -> None:
        channel = self._channel
        if channel is not None:
            self._channel = None
            self._poller.remove(channel.fileno())
            channel.close()

    def kill_driver(self) -> None:
        """SIGKILL to the driver, if there is one. It is reaped like any other child."""
        if self.pid > 0:
            os.kill(self.pid, signal.SIGKILL)

    def detach(self) -> None:
        """The driver was reaped: carry out the complete commands that it left, and close the link."""
        self.pid = 0
        if self._channel is not None:
            self._receive(self._channel)
            self._hang_up()

    def died(self, now: float) -> bool:
        """Plan the next driver. Returns False when there will be none."""
        return self._supervisor.died(now)

    def tick(self, now: float) -> int:
        """Kill a frozen driver, start the next one. Returns the pid of a driver that was started, else 0."""
        if self._supervisor.frozen(now):
            self.kill_driver()
        if now < self._supervisor.start_at:
            return 0
        try:
            pid, sock = self._launcher.start(self._generation + 1, self._stream_fd)
        except OSError:
            if not self.died(now):
                raise
            return 0
        self.attach(pid, sock, now)
        return pid

    def due(self) -> float:
        """When `tick` has something to do."""
        return self._supervisor.due()
