"""`trivet-agent`: settings, start, signals."""

from __future__ import annotations

import asyncio
import json
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
from services.local_agent.servicer import SERVICE_NAME, LocalAgentServicer
from services.local_agent.store import Store, WorkDirInUse
from trivet.agent.v1 import agent_pb2_grpc, faults_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grpc_health.v1 import health

    from services.local_agent.settings import Settings

_LOG = logging.getLogger(__name__)
DESCRIPTION = "agent.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the agent; returns its exit status."""
    settings = command_line.parse(sys.argv[1:] if argv is None else argv)
    logs.configure("agent", settings.log_level)
    try:
        os.makedirs(settings.work_dir, mode=0o755, exist_ok=True)
        os.makedirs(settings.run_dir, mode=0o755, exist_ok=True)
        store = Store(settings.work_dir)
        try:
            result = asyncio.run(_serve(settings, store))
        finally:
            store.close()
        if isinstance(result, restart.Restart):
            restart.execute(result)
        return result
    except (OSError, WorkDirInUse, JournalCorrupt, JournalUnavailable, RecordError, LauncherUnavailable) as error:
        print(f"trivet-agent: {error}", file=sys.stderr)
        return 1


async def _serve(settings: Settings, store: Store) -> int | restart.Restart:
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
    agent_pb2_grpc.add_LocalAgentServiceServicer_to_server(LocalAgentServicer(agent), server)
    wanted: list[restart.Restart] = []

    def start_again(how: restart.Restart) -> None:
        if how.kill:
            # A caller that looks for the agent by this file finds nothing until it is back.
            _remove(os.path.join(settings.run_dir, DESCRIPTION))
            restart.execute(how)
        wanted.append(how)
        end(signal.SIGTERM)

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
    description = _describe(settings, agent, socket)
    socket.publish()
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
        await server.stop(0.2)
        for path in (description, socket.public):
            _remove(path)
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


def _describe(settings: Settings, agent: LocalAgent, socket: PublicSocket) -> str:
    """Writes RUN_DIR/agent.json, so that callers find the agent; returns its path."""
    endpoint = f"{settings.ip}:{agent.state.port}"
    value = {
        "pid": os.getpid(),
        "ip": settings.ip,
        "port": agent.state.port,
        "endpoint": f"http://{endpoint}/{LIBPROCESS_ID}/api/v1/executor",
        "agent_id": agent.state.agent_id,
        "control": f"unix:{socket.public}",
        "domain_socket": settings.domain_socket,
        "work_dir": settings.work_dir,
    }
    path = os.path.join(settings.run_dir, DESCRIPTION)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as file:
        json.dump(value, file, indent=1)
    os.rename(temporary, path)
    return path


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        # Somebody tidied up first.
        return


if __name__ == "__main__":
    sys.exit(main())
