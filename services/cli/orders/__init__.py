"""Commands to a running local agent: what a scheduler orders, and what only a test does to an agent."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from services.local_agent.client import address

if TYPE_CHECKING:
    import argparse

    from services.local_agent.client.connection import AgentClient

# As a shell says it of SIGINT.
INTERRUPTED = 130
CANNOT_START = 2
FAILED = 1


class Failure(Exception):
    """The command cannot be carried out; `lines` say why, `status` is its exit status."""

    def __init__(self, *lines: str, status: int = CANNOT_START) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines
        self.status = status


def connect(options: argparse.Namespace) -> AgentClient:
    """A client of the agent that the command line or TRIVET_AGENT names.

    Raises:
        NoAgent: nobody listens there.
    """
    path = address.find(options.agent, os.environ)
    from services.local_agent.client.connection import AgentClient

    return AgentClient(path)


def run(options: argparse.Namespace) -> int:
    """Carries out one command; returns its exit status."""
    try:
        return _command(options)
    except address.NoAgent as error:
        return _complain(str(error).splitlines(), CANNOT_START)
    except Failure as error:
        return _complain(error.lines, error.status)
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _command(options: argparse.Namespace) -> int:
    client = connect(options)
    from services.local_agent.client.connection import AgentError

    try:
        if options.verb == "launch":
            from services.cli.orders.launch import launch

            return launch(options, client)
        if options.verb == "watch":
            from services.cli.orders.watch import watch

            return watch(client, options.task, as_json=options.json)
        from services.cli.orders import control

        return control.COMMANDS[options.verb](options, client)
    except AgentError as error:
        raise Failure(f"{error.code}: {error}") from None
    finally:
        client.close()


def _complain(lines: list[str] | tuple[str, ...], status: int) -> int:
    for line in lines:
        print(f"trivet: {line}", file=sys.stderr)
    return status
