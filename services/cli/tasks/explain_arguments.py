"""Command line of `trivet explain`. Loads nothing: `--help` is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

VERBS = frozenset({"explain"})

_TEXT = """\
Says why a task has the status that it has: what the reporter has learned of it, in the order of learning, from process
exits, health results and kills to the statuses that were proposed, accepted by the driver and acknowledged by the
agent.
It says, too, what a task that is not over waits for.

LEARNED is when the reporter heard of it, HAPPENED is the time that its source gives (FROM says which). A number like #3
is a status: it stands at each step. The first end is the cause; those after it have only made it come sooner.

The trace is short: when health flaps for long, old results and updates are dropped, which is said. Tasks that are over
are explained as long as the reporter remembers them.
"""
_EXIT = """
exit status:
  0    the task was explained
  1    whoever read the output has gone
  2    nothing was done: no services, no such task, or bad arguments
  130  you pressed Ctrl-C
"""
_JSON = """
With --json it is one object: {"type": "explanation", "task_id", "over", "attached", "dropped", "trace": [{"at",
"source_at", "source", "kind", "text", "n", "uuid"}, ...], "waiting": [{"text", "since"}, ...], ...}.
"""


def add(verbs: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the parser's subcommands; `command` makes one."""
    explain = command(verbs, "explain", "say why a task has its status", _TEXT, _EXIT + _JSON, "reporter")
    explain.add_argument("task", metavar="TASK", help="id of the task")
    explain.add_argument("--json", action="store_true", help="one object")
