"""Notices that the agent whose answers are waited for has ended, and that no other one takes its place."""

from __future__ import annotations

import os
import select
import sys
import threading
from typing import TYPE_CHECKING

from services.local_agent.client import address
from services.local_agent.client.connection import AgentError

if TYPE_CHECKING:
    from services.local_agent.client.connection import AgentClient

_GONE = "the agent has ended, and none has come in its place; what became of its executors is not known"


def guard(client: AgentClient) -> None:
    """From now on, all calls of `client` fail when its agent has ended and no new one recovers within its patience.

    An agent that restarts keeps its process, however long it is away. One that was killed may be started again with
    its old directories, but nobody can know whether it will.
    """
    found = _find(client)
    threading.Thread(target=_guard, args=(client, found), name="guard of the agent", daemon=True).start()


def _find(client: AgentClient) -> tuple[int, int] | None:
    """Process id and pidfd; None: nobody listens."""
    try:
        return address.process(client.socket_path)
    except OSError:
        return None


def _guard(client: AgentClient, found: tuple[int, int] | None) -> None:
    # One in another pid namespace cannot be guarded.
    while found is None or found[0]:
        if found is not None:
            _wait_ended(found[1])
            _say(f"the agent (process {found[0]}) has ended; its log, on its stderr, says why")
        _say(f"nobody listens; waiting {client.patience:g} s for an agent")
        try:
            client.wait_serving(client.patience)
        except AgentError:
            client.fail(AgentError(_GONE, "UNAVAILABLE"))
            return
        except ValueError:
            # The command is over, and has closed its connection.
            return
        found = _find(client)


def _wait_ended(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.close(pidfd)


def _say(text: str) -> None:
    print(f"trivet: {text}", file=sys.stderr, flush=True)
