"""Command line of `trivet health` and `trivet snooze`. Loads nothing: `--help` is quick."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

VERBS = frozenset({"health", "snooze"})
LONGEST_SNOOZE = 7 * 86400.0
DEFAULT_SNOOZE = 600.0
# Results that health keeps of each check.
KEPT = 50

_HEALTH_TEXT = """\
Lists the checks of all tasks that have any; with TASK, everything about its checks: what is probed and how often, the
rule and its numbers, the verdict, counters, and the newest results with how long they took. Command lines are never
shown: they may hold secrets.

KIND is `health` (leads to a verdict) or `check` (Mesos' TaskInfo.check: told as it is). STATE:

  STARTING                RUNNING waits for this check
  healthy, undecided      the verdict; undecided: there is none yet, and nothing waits for it
  failing 2 of 3          two failures in a row, three end the task
  snoozed 5m00s           nothing is probed, by `trivet snooze`; (file): by .healthchecksnooze in the task's sandbox/
  unprobed 12s: WHY       no probe can be made: counts neither way, and the verdict stands
  unattached 4m05s        the executor is away, or has ended; the verdict stands until it is back
  not begun, stopped      the task has not started; it is ending or over
"""
_HEALTH_JSON = """
With --json each line is an object: {"type": "check", "task_id", "kind", "probe", "rule", "passed", "healthy", ...};
with TASK it has "config" and "results", too. With --watch there is one for each change, and "gone" says that it is the
last.
"""
_SNOOZE_TEXT = """\
Stops the probes of a task's health check for a while. Nothing else changes: a healthy task stays healthy, a starting
one stays STARTING, and its initial interval (grace period) stands still. It outlives restarts of health. The file
.healthchecksnooze in the task's sandbox/ does the same for as long as it is there.
"""
_EXIT = """
exit status:
  0    {done}
  1    whoever read the output has gone
  2    nothing was done: no services, no such check, or bad arguments
  130  you pressed Ctrl-C{more}
"""


def add(verbs: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands to the parser's subcommands; `command` makes one."""
    exits = _EXIT.format(done="what there is was shown; --watch: the TASK is over", more="")
    health = command(verbs, "health", "show the checks of tasks", _HEALTH_TEXT, exits + _HEALTH_JSON, "health")
    health.add_argument("task", nargs="?", metavar="TASK", help="id of a task; default: all")
    health.add_argument("-w", "--watch", action="store_true", help="go on with what changes; of a TASK: each result")
    health.add_argument(
        "--results", type=_results, metavar="N", help=f"with TASK: its newest N results, at most {KEPT}; default: 10"
    )
    health.add_argument("--json", action="store_true", help="one object a line")
    exits = _EXIT.format(done="it is as you said", more=" before the answer came; say it again")
    snooze = command(verbs, "snooze", "stop a task's health probes for a while", _SNOOZE_TEXT, exits, "health")
    snooze.add_argument("task", metavar="TASK", help="id of the task")
    how = snooze.add_mutually_exclusive_group()
    how.add_argument(
        "--for",
        dest="span",
        type=_span,
        default=DEFAULT_SNOOZE,
        metavar="TIME",
        help="from now on: 30s, 10m, 2h, at most 7days; replaces what was set before; default: 10m",
    )
    how.add_argument("--wake", action="store_true", help="end it: probe at once")
    snooze.add_argument("--json", action="store_true", help="the check as it is then, as one object")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses what cannot be meant."""
    if options.verb == "health" and options.results is not None and options.task is None:
        parser.error("--results: name the TASK, too")


def _results(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= KEPT):
        raise argparse.ArgumentTypeError(f"{text!r}: from 0 to {KEPT}")
    return int(text)


def _span(text: str) -> float:
    from services.cli.tasks.arguments import seconds

    value = seconds(text)
    if not (math.isfinite(value) and 0 < value <= LONGEST_SNOOZE):
        raise argparse.ArgumentTypeError(f"{text!r}: more than 0 and at most 7days (--wake ends a snooze)")
    return value
