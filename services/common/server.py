"""Life of a service process: settings, state lock, two servers in one loop, signals, draining.

Taking over from an older version: the new process binds private names, waits for the state lock, replays, and only then
renames its sockets over the public names. Callers that wait for ready never see an error, only a short gap.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common import logs
from services.common.settings import Settings, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_LOG = logging.getLogger(__name__)

# Hello with a task of 16 MiB, and some air.
MAX_MESSAGE = 20 << 20
# Measured: a peer frozen after 45 s of silence is noticed in 8 s with these, never without.
CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    # Messages are small and local: measuring the bandwidth would only wake both sides once more for each.
    ("grpc.http2.bdp_probe", 0),
]
# How long unary calls that are under way may take when the service stops.
DRAIN_SECS = 1.0


# Some 20 are the process's own; half of the others serve its journals, however many there are.
MIN_DESCRIPTORS = 64


class TooFewDescriptors(Exception):
    """The process may not open as many files as it needs."""


class StateLocked(Exception):
    """Another process works on the state directory."""


class Service(Protocol):
    """One of runner, health, reporter, as the process around it sees it."""

    name: str
    service_names: Sequence[str]

    def register(self, executor_server: grpc.aio.Server, admin_server: grpc.aio.Server) -> None:
        """Adds the servicers: Attach to the executors' server, the rest to the operators'."""

    async def start(self) -> None:
        """Replays its state. The state lock is held; nobody can call yet."""

    async def stop(self) -> None:
        """Ends its streams and closes its files."""


@runtime_checkable
class Ailing(Protocol):
    """A service that can be in trouble and serve all the same."""

    def tell_soundness(self, tell: Callable[[bool], None]) -> None:
        """`tell` is to be called on the event loop: False when it cannot do all of its work, True when it can again."""


class Soundness:
    """What grpc.health.v1 says of the whole service (name ""): NOT_SERVING while it is in trouble.

    The names of its gRPC services stay SERVING: they answer.
    """

    def __init__(self, statuses: health.aio.HealthServicer) -> None:
        self._statuses = statuses
        self._sound = True
        self._ready = False
        self._telling: set[asyncio.Task[None]] = set()

    def tell(self, sound: bool) -> None:
        """The service is in trouble, or no more."""
        if sound == self._sound:
            return
        self._sound = sound
        if self._ready:
            # Tasks run in the order in which they were made; the set keeps them from being collected.
            telling = asyncio.get_running_loop().create_task(self._statuses.set("", self._status()))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def begin(self) -> None:
        """The service is there: from now on everybody may know."""
        self._ready = True
        await self._statuses.set("", self._status())

    def _status(self) -> health_pb2.HealthCheckResponse.ServingStatus:
        status = health_pb2.HealthCheckResponse
        return status.SERVING if self._sound else status.NOT_SERVING


def run(
    argv: Sequence[str],
    *,
    name: str,
    description: str,
    build: Callable[[Settings], Service],
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> int:
    """`main` of a service process; returns its exit status."""
    if f"services.{name}" not in " ".join(sys.orig_argv):
        # Started by its console script: `ps` and whoever looks for it there shall find it under one name.
        os.execv(sys.executable, [sys.executable, "-P", "-m", f"services.{name}", *argv])  # noqa: S606 - ourselves
    # The services never fork, and gRPC's fork handlers cost time and have crashed children.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    settings = parse(argv, name=name, description=description, add_options=add_options)
    logs.configure(name, settings.options.log_level)
    try:
        os.makedirs(settings.run_dir, mode=0o755, exist_ok=True)
        os.makedirs(settings.state_dir, mode=0o700, exist_ok=True)
        _use_all_descriptors()
        asyncio.run(serve(build, settings))
    except (StateLocked, TooFewDescriptors) as error:
        print(f"trivet-{name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"trivet-{name}: {error}", file=sys.stderr)
        return 1
    return 0


def _use_all_descriptors() -> None:
    """A stream an executor, and journals: the usual soft limit of 1024 would be reached at some hundred executors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < MIN_DESCRIPTORS:
        # gRPC ends the process without a word when it cannot open what it needs.
        raise TooFewDescriptors(
            f"the hard limit of open files is {hard}, at least {MIN_DESCRIPTORS} are needed: raise it "
            "(ulimit -Hn, LimitNOFILE=)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(
    build: Callable[[Settings], Service], settings: Settings, shutdown: asyncio.Event | None = None
) -> None:
    """Serves until SIGTERM, SIGINT or `shutdown`.

    Raises:
        StateLocked: Another process has the state directory.
        OSError: A directory or socket cannot be used.
    """
    loop = asyncio.get_running_loop()
    shutdown = shutdown or asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, shutdown.set)
    service = build(settings)
    executor_server = grpc.aio.server(options=CHANNEL_OPTIONS)
    admin_server = grpc.aio.server(options=CHANNEL_OPTIONS)
    service.register(executor_server, admin_server)
    add_standard_services(executor_server, service.service_names)
    statuses = add_standard_services(admin_server, service.service_names)
    soundness = Soundness(statuses)
    if isinstance(service, Ailing):
        service.tell_soundness(soundness.tell)
    sockets = [
        PublicSocket(settings.run_dir, service.name, 0o666),
        PublicSocket(settings.run_dir, f"{service.name}-admin", 0o600),
    ]
    lock = -1
    try:
        for server, socket in zip((executor_server, admin_server), sockets, strict=True):
            socket.bind(server)
            await server.start()
        lock = await lock_state(settings, shutdown)
        await service.start()
        for socket in sockets:
            socket.publish()
        for name in service.service_names:
            await statuses.set(name, health_pb2.HealthCheckResponse.SERVING)
        await soundness.begin()
        _LOG.info("ready", extra={"fields": {"pid": os.getpid(), "run_dir": settings.run_dir}})
        await shutdown.wait()
        _LOG.info("stopping")
        await statuses.enter_graceful_shutdown()
    finally:
        if lock >= 0:
            await service.stop()
        await asyncio.gather(executor_server.stop(DRAIN_SECS), admin_server.stop(DRAIN_SECS))
        for socket in sockets:
            socket.withdraw()
        if lock >= 0:
            os.close(lock)


def add_standard_services(server: grpc.aio.Server, service_names: Sequence[str]) -> health.aio.HealthServicer:
    """grpc.health.v1 and reflection, on every server."""
    statuses = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(statuses, server)
    names = [*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)
    return statuses


class PublicSocket:
    """A unix socket that appears under its public name only when the service is ready for it."""

    def __init__(self, run_dir: str, name: str, mode: int) -> None:
        self.public = os.path.join(run_dir, f"{name}.sock")
        # A second bind on one path would silently unlink a live socket.
        self.private = os.path.join(run_dir, f".{name}.{os.getpid()}.sock")
        self._mode = mode

    def bind(self, server: grpc.aio.Server) -> None:
        """Binds the private name.

        Raises:
            OSError: The address cannot be used.
        """
        # gRPC makes the file with the umask's mode: closed until chmod.
        previous = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{self.private}")
        except RuntimeError as error:
            raise OSError(f"{self.private}: {error}") from error
        finally:
            os.umask(previous)

    def publish(self) -> None:
        """Lets clients in: atomic, and an older server's clients are not disturbed."""
        os.chmod(self.private, self._mode)
        os.rename(self.private, self.public)

    def withdraw(self) -> None:
        """Removes the private name of a service that never came to serve."""
        try:
            os.unlink(self.private)
        except FileNotFoundError:
            # It was published, or never bound.
            pass


async def lock_state(settings: Settings, shutdown: asyncio.Event) -> int:
    """Takes the exclusive lock on the state directory; returns its descriptor.

    Raises:
        StateLocked: Another process holds it, and still does after `--wait-for-lock` seconds.
    """
    path = os.path.join(settings.state_dir, "lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    wait: float = settings.options.wait_for_lock
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "?"
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0 or shutdown.is_set():
                os.close(fd)
                raise StateLocked(
                    f"{settings.state_dir}: in use by process {holder}. Stop it first, "
                    "or start this one with --wait-for-lock SECS to take over from it"
                ) from None
            # flock has no asynchronous form; this runs once an upgrade, not on a task's path.
            await asyncio.sleep(min(0.02, remaining))
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        # The lock is what counts; the pid is for people, and a full disk must not keep the service from starting.
        _LOG.warning("pid not written", extra={"fields": {"path": path, "error": error.strerror}})
    return fd


def admin_options() -> list[tuple[str, Any]]:
    """Channel options of clients that outlive restarts of a service."""
    return [*CHANNEL_OPTIONS, ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
