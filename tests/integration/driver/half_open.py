"""Run in a network namespace of its own: an agent behind a veth pair vanishes without a word, and comes back.

Prints one JSON line: what the driver's subscription saw. Keepalive is faster than in life, or it would take a minute.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading

from executor_shim.driver.agent import endpoint as endpoint_module
from executor_shim.driver.agent.endpoint import Endpoint
from executor_shim.driver.agent.subscription import Subscription
from executor_shim.driver.environment import Environment
from executor_shim.driver.state.book import Book
from executor_shim.driver.state.memlog import MemoryLog
from mesos.v1.executor import executor_pb2
from tests.integration.driver.agent_double import AgentDouble, kill

_HERE, _THERE = "10.213.7.1", "10.213.7.2"
_CLONE_NEWNET = 0x40000000


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class Seen:
    """Listens to the subscription."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.subscription: Subscription | None = None
        self.subscribed = 0
        self.lost = 0
        self.kills = 0

    def on_event(self, record: bytes) -> None:
        event = executor_pb2.Event.FromString(record)
        self.kills += event.type == executor_pb2.Event.KILL
        if event.type == executor_pb2.Event.SUBSCRIBED and self.subscription is not None:
            self.subscription.confirm()
        self.changed.set()

    def on_poison(self, record: bytes, attempts: int) -> None:
        raise AssertionError(record, attempts)

    def on_subscribed(self) -> None:
        self.subscribed += 1

    def on_stream_lost(self) -> None:
        self.lost += 1
        self.changed.set()

    def on_agent_gone(self, why: str) -> None:
        raise AssertionError(why)

    async def until(self, name: str, count: int) -> None:
        while getattr(self, name) < count:
            self.changed.clear()
            await self.changed.wait()


def agent_over_there() -> AgentDouble:
    """Listens in the other end's namespace: sockets stay in the one that they were made in."""
    made: list[AgentDouble] = []
    told, linked = threading.Event(), threading.Event()

    def make() -> None:
        # A thread may have another network than its process.
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        told.set()
        linked.wait()
        ip("addr", "add", f"{_THERE}/24", "dev", "there")
        ip("link", "set", "there", "up")
        made.append(AgentDouble(_THERE))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    told.wait()
    ip("link", "add", "here", "type", "veth", "peer", "name", "there")
    ip("link", "set", "there", "netns", f"/proc/{os.getpid()}/task/{thread.native_id}/ns/net")
    ip("addr", "add", f"{_HERE}/24", "dev", "here")
    ip("link", "set", "here", "up")
    linked.set()
    thread.join()
    return made[0]


def cut_off() -> None:
    """From here on every packet is dropped, on both ways, and nobody is told."""
    for chain in ("INPUT", "OUTPUT"):
        subprocess.run(["iptables", "-A", chain, "-j", "DROP"], check=True)


def let_through() -> None:
    subprocess.run(["iptables", "-F"], check=True)


async def main() -> None:
    """The agent is there, is cut off, and is there again."""
    endpoint_module.KEEPALIVE = (1, 1, 2)
    agent = agent_over_there()
    environ = {
        "MESOS_FRAMEWORK_ID": "F",
        "MESOS_EXECUTOR_ID": "E",
        "MESOS_AGENT_ENDPOINT": f"{_THERE}:{agent.port}",
        "MESOS_CHECKPOINT": "1",
    }
    environment = Environment(environ)
    book = Book(MemoryLog((os.memfd_create("a"), os.memfd_create("b"))))
    seen, kept = Seen(), list[socket.socket]()
    loop = asyncio.get_running_loop()
    subscription = Subscription(book, Endpoint(environment, ""), environment, seen, keep=kept.append, clock=loop.time)
    seen.subscription = subscription
    subscription.start(None, adopted=False)
    await seen.until("subscribed", 1)
    lost = seen.lost
    cut_off()
    agent.send(kill("into the void"))
    await seen.until("lost", lost + 1)
    heard_in_between = seen.kills
    let_through()
    await seen.until("subscribed", 2)
    agent.send(kill("t"))
    await seen.until("kills", 1)
    subscription.close()
    told = {"lost": seen.lost - lost, "heard": heard_in_between, "subscribed": seen.subscribed, "kills": seen.kills}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
    # The double's threads wait for calls that do not come.
    sys.stdout.flush()
    os._exit(0)
