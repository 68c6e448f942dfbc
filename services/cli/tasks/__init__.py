"""Commands about the tasks of running services: what these know, read, check and end."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from services.cli import signals
from services.cli.tasks import address

if TYPE_CHECKING:
    import argparse

# As a shell says it of SIGINT.
INTERRUPTED = 130
CANNOT_START = 2
FAILED = 1


class Failure(Exception):
    """The command cannot be carried out; `lines` say why and what to do, `status` is its exit status."""

    def __init__(self, *lines: str, status: int = CANNOT_START) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines
        self.status = status


def note(text: str) -> None:
    """A line to whoever sits there: never among the output."""
    print(f"trivet: {text}", file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> int:
    """Carries out one command; returns its exit status."""
    try:
        status = _command(options)
        sys.stdout.flush()
        return status
    except address.NoService as error:
        return _complain(str(error).splitlines(), CANNOT_START)
    except Failure as error:
        return _complain(error.lines, error.status)
    except KeyboardInterrupt:
        # Nothing was begun that would have to be ended in order: tasks go on without whoever looks at them.
        if options.verb == "kill":
            note("not waiting any more; what was ordered is carried out all the same")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _command(options: argparse.Namespace) -> int:
    if options.verb == "journal":
        from services.cli.tasks.journal import journal

        return journal(options)
    directory = address.find(options.run_dir, os.environ, options.service)
    import asyncio

    from services.cli.tasks import commands
    from services.cli.tasks.connection import Refused

    async def carry_out() -> int:
        # asyncio itself makes an interrupt an end in order.
        signals.let_in()
        return await commands.carry_out(options, directory)

    try:
        with signals.held_back():
            return asyncio.run(carry_out())
    except Refused as error:
        raise Failure(*error.lines()) from None


def _complain(lines: list[str] | tuple[str, ...], status: int) -> int:
    for line in lines:
        note(line)
    return status
