"""Start of the driver: SUBSCRIBE first, everything else afterwards.

The agent counts the time until the executor subscribes, so nothing is loaded for it but sockets: the call is encoded by
hand. grpc, asyncio, protobuf and logging come while the agent is preparing its answer.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from executor_shim.driver.agent import adoption
from executor_shim.driver.agent.endpoint import Endpoint
from executor_shim.driver.agent.wire import subscribe_call
from executor_shim.driver.environment import BadEnvironment, Environment
from executor_shim.driver.options import Options
from executor_shim.driver.state.book import Book
from executor_shim.driver.state.memlog import MemoryLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

# The coordinator's message {"op":"stream"}, framed: the json module can wait.
_KEEP_STREAM = b'\x00\x00\x00\x0f{"op":"stream"}'
# Nothing that was started by mistake twice in a row gets better by a third time.
_BAD_START = 2
_DEFECT = 70


def main(argv: list[str] | None = None) -> int:
    """Runs one driver; returns when the executor is over."""
    options = Options(sys.argv[1:] if argv is None else argv)
    hands_socket = socket.socket(fileno=options.fd)
    try:
        environment = Environment(os.environ)
    except BadEnvironment as error:
        sys.stderr.write(f"trivet-executor: {error}\n")
        hands_socket.sendall(_framed(b'{"op":"end","code":2}'))
        return _BAD_START
    token = os.pread(options.token_fd, 1 << 16, 0).decode() if options.token_fd >= 0 else ""
    endpoint = Endpoint(environment, token)
    book = Book(MemoryLog(options.state_fds))
    stream, adopted = _stream(options, environment, endpoint, book, hands_socket)

    # From here on the agent works, and there is time. What is loaded is there to stay: nothing of it is garbage.
    gc.disable()
    _load_asyncio()
    import asyncio
    import logging

    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s trivet-driver %(levelname)s %(message)s")
    from executor_shim.coordinator import linux
    from executor_shim.driver.hub import Hub

    # Later collections need not look at all of that again.
    gc.freeze()
    gc.enable()
    # Tasks of the same user must not get at the memory files through /proc.
    linux.forbid_inspection()

    book.ensure_secret()

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(_die)
        await Hub(options, environment, endpoint, book, hands_socket).run(stream, adopted=adopted)

    asyncio.run(work())
    return 0


def _load_asyncio() -> None:
    """Without `ssl`, which it can do without and nobody here needs: 8 ms and 1.2 MiB."""
    sys.modules["ssl"] = None  # type: ignore[assignment]
    import asyncio  # noqa: F401 - loaded for those who import it next

    del sys.modules["ssl"]


def _stream(
    options: Options, environment: Environment, endpoint: Endpoint, book: Book, hands_socket: socket.socket
) -> tuple[socket.socket | None, bool]:
    """The event stream: an older driver's if it stands, else a new one; None when the agent does not listen."""
    if options.stream_fd >= 0 and book.stream_open:
        old = socket.socket(fileno=options.stream_fd)
        try:
            adoption.settle(old, book.stream_offset, book.last_piece)
        except OSError:
            # Broken: reading will say so.
            pass
        return old, True
    if book.pending or book.shutdown or book.agent_lost_at or (book.identity and not environment.checkpoint):
        # Events are to be handled before the lists are made, or there is a policy to follow first.
        return None, False
    try:
        sock = endpoint.connect()
    except OSError:
        return None, False
    call = subscribe_call(
        environment.executor_id, environment.framework_id, book.unacknowledged_tasks(), book.unacknowledged_updates()
    )
    book.open_stream()
    # Kept before it is used: whatever moment this driver dies at, the next one finds the stream.
    socket.send_fds(hands_socket, [_KEEP_STREAM], [sock.fileno()])
    try:
        sock.sendall(endpoint.request(call, subscribe=True))
    except OSError:
        sock.close()
        book.close_stream()
        return None, False
    return sock, False


def _die(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A defect in a callback: the next driver goes on from the book, and skips an event that kills again and again."""
    import logging

    error = context.get("exception")
    if error is None or isinstance(error, BlockingIOError):
        # A remark of asyncio's, or gRPC's poller waking for nothing.
        loop.default_exception_handler(context)
        return
    logging.getLogger(__name__).critical("%s", context.get("message"), exc_info=error)
    os._exit(_DEFECT)


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


if __name__ == "__main__":
    sys.exit(main())
