"""`trivet-agent`: settings, start, signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

# Before gRPC is imported: its fork handlers have no business in a process that only uses vfork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
from grpc_health.v1 import health_pb2

from services.common import logs
from services.common.journal import JournalCorrupt, JournalUnavailable
from services.common.server import CHANNEL_OPTIONS, PublicSocket, add_standard_services
from services.local_agent import settings as command_line
from services.local_agent.agent import LocalAgent
from services.local_agent.containers.contract import LauncherUnavailable
from services.local_agent.containers.environment import LIBPROCESS_ID
from services.local_agent.core.records import RecordError
from services.local_agent.faults import restart
from services.local_agent.faults.servicer import SERVICE_NAME as FAULT_SERVICE_NAME
from services.local_agent.faults.servicer import FaultServicer
from services.local_agent.run_dir import RunDir, RunDirInUse
from services.local_agent.servicer import SERVICE_NAME, LocalAgentServicer
from services.local_agent.store import Store, WorkDirInUse
from trivet.agent.v1 import agent_pb2_grpc, faults_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grpc_health.v1 import health

    from services.local_agent.settings import Settings

_LOG = logging.getLogger(__name__)
# How long answers that are under way may take when the agent ends.
DRAIN_SECS = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the agent; returns its exit status."""
    settings = command_line.parse(sys.argv[1:] if argv is None else argv)
    logs.configure("agent", settings.log_level)
    try:
        with contextlib.ExitStack() as held:
            with _naming("--work-dir", settings.work_dir):
                os.makedirs(settings.work_dir, mode=0o755, exist_ok=True)
                store = Store(settings.work_dir)
            held.callback(store.close)
            with _naming("--run-dir", settings.run_dir):
                run_dir = RunDir(settings.run_dir)
            held.callback(run_dir.close)
            result = asyncio.run(_serve(settings, store, run_dir))
        if isinstance(result, restart.Restart):
            restart.execute(result)
        return result
    except _REPORTED as error:
        print(f"trivet-agent: {error}", file=sys.stderr)
        return 1


# What is wrong outside of this program; the text is all that there is to say.
_REPORTED = (OSError, WorkDirInUse, RunDirInUse, JournalCorrupt, JournalUnavailable, RecordError, LauncherUnavailable)


@contextlib.contextmanager
def _naming(flag: str, path: str) -> Iterator[None]:
    """Errors of the system name the flag whose directory cannot be used."""
    try:
        yield
    except OSError as error:
        inside = f" ({error.filename})" if error.filename not in {None, path} else ""
        raise OSError(f"{flag}: {path} cannot be used: {error.strerror}{inside}") from error


async def _serve(settings: Settings, store: Store, run_dir: RunDir) -> int | restart.Restart:
    """Returns the exit status, or how the process is to go on."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[signal.Signals] = loop.create_future()

    def end(number: signal.Signals) -> None:
        if not ended.done():
            ended.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    agent = LocalAgent(settings, store, store.load())
    await agent.start()
    loop.add_signal_handler(signal.SIGUSR1, agent.leave)
    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    try:
        return await _control(settings, agent, server, run_dir, ended)
    finally:
        agent.scheduler.end_watches()
        await server.stop(DRAIN_SECS)


async def _control(
    settings: Settings,
    agent: LocalAgent,
    server: grpc.aio.Server,
    run_dir: RunDir,
    ended: asyncio.Future[signal.Signals],
) -> int | restart.Restart:
    """From the first call to the agent's end."""
    agent_pb2_grpc.add_LocalAgentServiceServicer_to_server(LocalAgentServicer(agent), server)
    wanted: list[restart.Restart] = []

    def start_again(how: restart.Restart) -> None:
        if how.kill:
            # A caller that looks for the agent by this file finds nothing until it is back.
            run_dir.hide()
            restart.execute(how)
        wanted.append(how)
        if not ended.done():
            ended.set_result(signal.SIGTERM)

    faults = FaultServicer(agent.faults, agent.apply_listening, start_again)
    faults_pb2_grpc.add_FaultServiceServicer_to_server(faults, server)
    statuses = add_standard_services(server, [SERVICE_NAME, FAULT_SERVICE_NAME])
    for name in ("", SERVICE_NAME):
        await statuses.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    # Faults may be put into force before executors come.
    await statuses.set(FAULT_SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
    socket = PublicSocket(settings.run_dir, "agent", 0o600)
    socket.bind(server)
    await server.start()
    try:
        run_dir.describe(_description(settings, agent, socket))
        run_dir.publish(socket)
    finally:
        socket.withdraw()
    print(f"trivet-agent ready: executors at {settings.ip}:{agent.state.port}, control at {socket.public}", flush=True)
    serving = asyncio.create_task(_serving(agent, statuses))
    try:
        waiting: list[asyncio.Future[Any]] = [ended, agent.failed, agent.left]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await statuses.enter_graceful_shutdown()
        if agent.failed.done():
            _LOG.critical("cannot go on", extra={"fields": {"error": agent.failed.result()}})
            await agent.stop(destroy=False)
            return 1
        destroy = settings.destroy_on_exit or (ended.done() and ended.result() == signal.SIGINT)
        if await _stop(agent, destroy=destroy):
            wanted.clear()
    finally:
        serving.cancel()
    return wanted[0] if wanted else 0


async def _stop(agent: LocalAgent, *, destroy: bool) -> bool:
    """Stops; a second signal ends the waiting for containers that do not go. True: there was one."""
    again = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, again.set)
    stopping, impatience = asyncio.create_task(agent.stop(destroy=destroy)), asyncio.create_task(again.wait())
    waiting: list[asyncio.Future[Any]] = [stopping, impatience, agent.failed]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    impatience.cancel()
    if stopping.done():
        stopping.result()
    else:
        stopping.cancel()
    return again.is_set()


async def _serving(agent: LocalAgent, statuses: health.aio.HealthServicer) -> None:
    """Healthy from the end of recovery on."""
    await agent.ready.wait()
    for name in ("", SERVICE_NAME):
        await statuses.set(name, health_pb2.HealthCheckResponse.SERVING)
    _LOG.info("recovered", extra={"fields": {"executors": len(list(agent.state.executors()))}})


def _description(settings: Settings, agent: LocalAgent, socket: PublicSocket) -> dict[str, Any]:
    """Content of RUN_DIR/agent.json, by which callers find the agent."""
    endpoint = f"{settings.ip}:{agent.state.port}"
    return {
        "pid": os.getpid(),
        "ip": settings.ip,
        "port": agent.state.port,
        "endpoint": f"http://{endpoint}/{LIBPROCESS_ID}/api/v1/executor",
        "agent_id": agent.state.agent_id,
        "control": f"unix:{socket.public}",
        "domain_socket": settings.domain_socket,
        "work_dir": settings.work_dir,
    }


if __name__ == "__main__":
    sys.exit(main())
