"""The log pump of a task: a forked child of the coordinator that moves output from pipes to where it belongs.

It runs as the task's user, for it writes where the task may write. Whatever holds it up - a slow disk, a stuck
console - holds up nobody but its own task. The coordinator keeps the read ends, so that the pump may die without harm.

Commands: `stream` (a read end travels beside it; `id`, `out`, `path`, `limit`, `backups`, `console`, `again`),
`flush` (`id`, `streams`). Events: `closed` (`id`): end of file, all is written. `flushed` (`id`): what was in the pipes
when the command came is written. `failed` (`why`): it cannot go on, and ends.
"""

from __future__ import annotations

import os
import select
import signal

from executor_shim.coordinator import child, linux
from executor_shim.coordinator.logfile import RESTARTED, Console, LogFile, LogRules
from executor_shim.coordinator.wire import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import pwd
    from collections.abc import Iterable
    from typing import Any, NoReturn

_CHUNK = 1 << 16

_FULL_PIPE = 1 << 20
"""Linux: the most that a pipe of an ordinary user holds (pipe-max-size)."""

_FAILED = 70
_SILENT = 71
"""Not even the cause could be told."""


def run(sock: _socket.socket, user: str, sandbox: bytes) -> NoReturn:
    """Be the pump, until the coordinator hangs up.

    Args:
        sock: to the coordinator.
        user: whose files are written; empty: the coordinator's own.
        sandbox: relative paths are relative to it.
    """
    channel = Channel(sock)
    try:
        _drop_everything(sock.fileno())
        linux.set_name(b"trivet-pump")
        account = _account(user)
        # Before the user changes: the way to the sandbox may not be open to everybody.
        directory = os.open(sandbox, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if account is not None:
            child.change_user(account)
        os.fchdir(directory)
        _Pump(channel).work()
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the coordinator's own frames
        # The coordinator tells why, and starts the next pump.
        _tell(channel, f"{type(error).__name__}: {error}")
        os._exit(_FAILED)
    os._exit(0)


def _account(user: str) -> pwd.struct_passwd | None:
    try:
        return child.account_of(user)
    except child.Refused as error:
        raise child.Refused(f"user {user}: {error}") from None


def _tell(channel: Channel, why: str) -> None:
    try:
        channel.send({"ev": "failed", "why": why})
    except BaseException:  # noqa: BLE001 - as above; without words, the exit status is what there is
        os._exit(_SILENT)


def _drop_everything(kept: int) -> None:
    """Nothing of the coordinator's is for us: neither signals nor descriptors, on whose end others wait."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    # SIGPIPE and SIGXFSZ are ignored already: both are errors of a write here.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd != kept:
            try:
                os.close(fd)
            except OSError:
                # The descriptor of the listing itself is closed by now.
                continue
    nothing = os.open(b"/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.umask(0o022)


class _Stream:
    __slots__ = ("id", "pipe", "targets")

    def __init__(self, number: int, pipe: int, targets: list[LogFile | Console]) -> None:
        self.id = number
        self.pipe = pipe
        self.targets = targets

    def move(self, most: int = _CHUNK) -> int:
        """Move what is there, once. Returns the number of bytes; 0: end of file; -1: nothing for now."""
        try:
            data = os.read(self.pipe, most)
        except BlockingIOError:
            return -1
        for target in self.targets if data else ():
            target.write(data)
        return len(data)

    def close(self) -> None:
        for target in self.targets:
            if isinstance(target, LogFile):
                target.close()
        os.close(self.pipe)


class _Pump:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)
        self._streams: dict[int, _Stream] = {}
        self._by_pipe: dict[int, _Stream] = {}
        self._consoles: dict[int, Console] = {}

    def work(self) -> None:
        while not self._channel.eof:
            for fd, _events in self._poll.poll():
                if fd == self._channel.fileno():
                    self._obey()
                elif fd in self._by_pipe and self._by_pipe[fd].move() == 0:
                    self._close(self._by_pipe[fd])
        # The coordinator is gone, and with it whoever would want more than what is in the pipes now.
        self._flush(self._streams.values())

    def _obey(self) -> None:
        self._channel.flush()
        self._channel.receive()
        while (message := self._channel.take()) is not None:
            if message["op"] == "stream":
                self._add(message)
            else:
                self._flush(self._streams[number] for number in message["streams"] if number in self._streams)
                self._channel.send({"ev": "flushed", "id": message["id"]})
        self._watch_channel()

    def _add(self, message: dict[str, Any]) -> None:
        pipe = self._channel.take_fd()
        if pipe is None:
            raise ValueError("no descriptor")
        targets: list[LogFile | Console] = []
        path = message["path"].encode("utf-8", "surrogateescape")
        if path:
            file = LogFile(path, LogRules(limit=message["limit"], backups=message["backups"]))
            targets.append(file)
            if message["again"]:
                file.write(RESTARTED)
        if message["console"]:
            out = message["out"]
            console = self._consoles.get(out)
            if console is None:
                console = self._consoles[out] = Console(out)
            targets.append(console)
        stream = _Stream(message["id"], pipe, targets)
        self._streams[stream.id] = self._by_pipe[pipe] = stream
        self._poll.register(pipe, select.POLLIN)

    def _flush(self, streams: Iterable[_Stream]) -> None:
        for stream in list(streams):
            left = _FULL_PIPE
            while left > 0 and (moved := stream.move()) > 0:
                left -= moved
            if left > 0 and moved == 0:
                self._close(stream)

    def _close(self, stream: _Stream) -> None:
        self._poll.unregister(stream.pipe)
        del self._streams[stream.id], self._by_pipe[stream.pipe]
        stream.close()
        self._channel.send({"ev": "closed", "id": stream.id})
        self._watch_channel()

    def _watch_channel(self) -> None:
        # The coordinator always reads, so hardly ever is anything left to send.
        events = select.POLLIN | (select.POLLOUT if self._channel.pending else 0)
        self._poll.modify(self._channel.fileno(), events)
