"""One log pump as the coordinator sees it: the process, the socket to it, the pipes that it empties."""

from __future__ import annotations

import _socket

from executor_shim.coordinator import poller, pump, spawn
from executor_shim.coordinator.wire import Channel, MalformedMessageError, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.coordinator.runs import Run
    from executor_shim.coordinator.wire import Message

INFINITY = float("inf")

_MAX_WHY = 300
"""Characters of a pump's own account of its end."""


class Stream:
    """One pipe, from its run's start to its end of file."""

    __slots__ = ("fd", "message", "run", "said")

    def __init__(self, fd: int, run: Run, message: Message) -> None:
        """Keep what the pump has to know of it.

        Args:
            fd: the read end.
            run: whose output it is.
            message: the command to the pump; `again` comes with each sending.
        """
        self.fd = fd
        self.run = run
        self.message = message
        self.said = False
        """A pump has been told of it: what the pump had in its hands when it died is lost."""


class PumpLink:
    """All pipes of a task that end in files of one user, and the pump that empties them, if there is one now."""

    __slots__ = (
        "_channel",
        "_poller",
        "deaths",
        "flushes",
        "heard",
        "lost",
        "pid",
        "sandbox",
        "start_at",
        "streams",
        "user",
        "why",
    )

    def __init__(
        self,
        user: str,
        sandbox: bytes,
        watch: poller.Poller,
        heard: Callable[[PumpLink, str, int], None],
        lost: Callable[[PumpLink], None],
    ) -> None:
        """Nothing is started yet.

        Args:
            user: whose files are written.
            sandbox: where they are.
            watch: where the socket is watched.
            heard: called with `closed` or `flushed`, and the number.
            lost: called when the pump cannot be talked to any more; it may still be there.
        """
        self.user = user
        self.sandbox = sandbox
        self.heard = heard
        self.lost = lost
        self.pid = 0
        self.streams: dict[int, Stream] = {}
        self.flushes: dict[int, Run] = {}
        self.deaths = 0
        self.start_at = INFINITY
        self.why = ""
        """What is known of why the pump has ended, or has to."""
        self._poller = watch
        self._channel: Channel | None = None

    @property
    def up(self) -> bool:
        """There is a pump to talk to."""
        return self._channel is not None

    def start(self) -> None:
        """Fork a pump.

        Raises:
            OSError: there is no process or no socket to be had.
        """
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            self.pid = spawn.fork(lambda: pump.run(theirs, self.user, self.sandbox))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.start_at = INFINITY
        self.why = ""
        channel = self._channel = Channel(ours)
        self._poller.add(channel.fileno(), lambda: self._on_ready(channel))

    def tell_stream(self, stream: Stream) -> None:
        """Hand a pipe to the pump."""
        if self.up:
            self.send({**stream.message, "again": stream.said}, stream.fd)
            stream.said = True

    def send(self, message: Message, fd: int = -1) -> None:
        """Say something to the pump, if there is one."""
        channel = self._channel
        if channel is None:
            return
        channel.send(message, fd)
        if channel.pending:
            self._poller.add(channel.fileno(), lambda: self._on_ready(channel), poller.READ | poller.WRITE)

    def _on_ready(self, channel: Channel) -> None:
        channel.flush()
        if not channel.pending:
            self._poller.add(channel.fileno(), lambda: self._on_ready(channel))
        self._listen(channel)
        if channel.eof and self._channel is channel:
            self.lost(self)
            self.hang_up()

    def _listen(self, channel: Channel) -> None:
        channel.receive()
        while True:
            try:
                message = channel.take()
            except (MalformedMessageError, WireError) as error:
                # Somebody of the task's has got at its pump.
                self.why = f"it spoke out of step: {error}"
                self.lost(self)
                return
            if message is None:
                return
            event, number = message.get("ev"), message.get("id")
            if event == "failed":
                # It runs as the task's user, so the task may have put words into its mouth.
                self.why = ascii(message.get("why"))[:_MAX_WHY]
            elif isinstance(event, str) and isinstance(number, int):
                self.heard(self, event, number)

    def died(self) -> None:
        """The pump was reaped. Its last words may still be there."""
        self.pid = 0
        if self._channel is not None:
            self._listen(self._channel)
        self.flushes.clear()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the socket: a pump ends when it has nobody to talk to."""
        channel = self._channel
        if channel is not None:
            self._channel = None
            self._poller.remove(channel.fileno())
            channel.close()
