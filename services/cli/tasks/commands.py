"""From the verb to what carries it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cli.tasks.connection import Health, Reporter, Runner

if TYPE_CHECKING:
    import argparse


async def carry_out(options: argparse.Namespace, directory: str) -> int:
    """Carries out one command with the service whose socket is in `directory`; returns its exit status.

    Raises:
        Refused: the service refuses it or does not answer.
        Failure: it cannot be carried out.
    """
    if options.service == "health":
        async with Health(directory) as service:
            if options.verb == "snooze":
                from services.cli.tasks.snooze import snooze

                return await snooze(options, service)
            from services.cli.tasks.health import health

            return await health(options, service)
    if options.service == "reporter":
        from services.cli.tasks.explain import explain

        async with Reporter(directory) as reporter:
            return await explain(options, reporter)
    async with Runner(directory) as runner:
        if options.verb == "ps":
            from services.cli.tasks.ps import ps

            return await ps(options, runner)
        if options.verb == "inspect":
            from services.cli.tasks.inspection import inspect

            return await inspect(options, runner)
        if options.verb == "logs":
            from services.cli.tasks.logs import logs

            return await logs(options, runner)
        if options.verb == "top":
            from services.cli.tasks.top import top

            return await top(options, runner)
        from services.cli.tasks.kill import kill

        return await kill(options, runner)
