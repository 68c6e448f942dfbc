"""A thousand servers in one process, for checks to probe: cheap, and with a memory for when they were called."""

from __future__ import annotations

import array
import json
import resource
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Targets:
    """Listeners on 127.0.0.1, each on a port of its own. They answer GET if there is one, and close."""

    def __init__(self, count: int) -> None:
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.calls = [array.array("d") for _ in range(count)]
        self._poll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, int]] = {}
        self._open: dict[int, socket.socket] = {}
        for index in range(count):
            listener = socket.create_server(("127.0.0.1", 0), backlog=16)
            listener.setblocking(False)
            self._listeners[listener.fileno()] = listener, index
            self._poll.register(listener, select.EPOLLIN)

    def ports(self) -> list[int]:
        """In the order of their numbers."""
        return [listener.getsockname()[1] for listener, _ in self._listeners.values()]

    def serve(self) -> None:
        """Until SystemExit."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._listeners:
                    self._accept(*self._listeners[fd])
                else:
                    self._poll.unregister(fd)
                    self._answer(self._open.pop(fd))

    def _accept(self, listener: socket.socket, index: int) -> None:
        # The moment of each call, not of the round that it is served in.
        self.calls[index].append(time.clock_gettime(time.CLOCK_BOOTTIME))
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            self.calls[index].pop()
            return
        connection.setblocking(False)
        self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        try:
            asked = connection.recv(4096)
            if asked:
                connection.send(ANSWER)
        except BlockingIOError:
            self._open[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
            return
        except OSError:
            # The caller has gone. It was a call all the same.
            pass
        connection.close()


def main(arguments: Sequence[str]) -> int:
    """`python -m bench.targets COUNT FILE`: prints the ports; writes all calls to FILE at SIGTERM (CLOCK_BOOTTIME)."""
    targets = Targets(int(arguments[0]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(json.dumps(targets.ports()), flush=True)
    try:
        targets.serve()
    finally:
        with open(arguments[1], "w") as file:
            json.dump([list(calls) for calls in targets.calls], file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
