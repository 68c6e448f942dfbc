"""`trivet up`: the three services in the foreground, for a real agent on this host."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from services.cli import signals
from services.cli.children import StackFailed
from services.cli.layout import Layout, LayoutError
from services.cli.stack import Stack
from services.cli.taskinfo import executor_argv
from services.cli.waiting import first

if TYPE_CHECKING:
    import argparse


def up(options: argparse.Namespace) -> int:
    """Runs until SIGINT or SIGTERM; returns the exit status."""
    layout = Layout(os.path.abspath(options.dir))
    try:
        layout.make()
        lock = layout.lock()
        with signals.held_back():
            asyncio.run(_serve(layout))
        os.close(lock)
    except (LayoutError, StackFailed) as error:
        print(f"trivet: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(layout: Layout) -> None:
    loop = asyncio.get_running_loop()
    shutdown = asyncio.Event()
    for signum in signals.ENDING:
        loop.add_signal_handler(signum, shutdown.set)
    signals.let_in()
    stack = Stack(layout, services=True, agent=False, note=_note)
    try:
        await first(stack.start(), shutdown.wait())
        if not shutdown.is_set():
            print(f"ready: runner, health and reporter serve in {layout.run}", flush=True)
            print(f"executor: {' '.join([*executor_argv(), '--services', layout.run])}", flush=True)
            print(f"logs: {layout.logs}", flush=True)
            await first(stack.failed(), shutdown.wait())
    finally:
        _note("stopping; running tasks go on without the services")
        await stack.stop()
        signals.let_go()


def _note(text: str) -> None:
    print(f"trivet: {text}", file=sys.stderr, flush=True)
