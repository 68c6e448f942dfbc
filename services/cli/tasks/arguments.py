"""Command line of the commands about tasks. Loads nothing: `--help` is quick."""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

from services.cli.tasks import check_arguments as checks
from services.cli.tasks import explain_arguments as explain

VERBS = frozenset({"ps", "inspect", "logs", "kill", "top", "journal"}) | checks.VERBS | explain.VERBS
SORTS = ("cpu", "time", "memory", "disk", "task")

_RUN_DIR_HELP = (
    "directory of the services' sockets, or one that has it in run/ (`trivet up --dir`); default: $TRIVET_RUN_DIR, "
    "else /run/trivet"
)
_WHERE = """
The services are found by --run-dir, else by the environment variable TRIVET_RUN_DIR, else in /run/trivet. A service
that restarts is waited for. Only root and the user of the services may ask them.

An id that begins with a dash stands behind --, and options before it.
"""
_EXIT = """
exit status:
  0    {done}
  1    {failed}
  2    nothing was done: no services, no such task, or bad arguments
  130  you pressed Ctrl-C; tasks are not touched by that
"""
_PS_TEXT = """\
Lists the tasks that the runner knows: those that are not over, or all. RUNNING is the number of processes that run and
the number that the task has; SINCE, how long it has been in its phase; ATTACHED, whether its executor is connected.
"""
_PS_JSON = """
With --json each line is an object: {"type": "task", "task_id", "executor_id", "phase", "running", "total", ...}, and
{"type": "damaged", "path", "error", "offset", "task_id"} for each journal that was put aside.
"""
_INSPECT_TEXT = """\
Shows one task: its phases, what it uses at this moment, its warnings, and its processes as a tree, each below what it
waits for, with their runs, exits and times. Command lines are never shown: they may hold secrets.
"""
_LOGS_TEXT = """\
Prints what processes have written: the newest run of one process, or of each process of the task. It is read by the
task's executor, so it must be there; the logs of a task that is over and gone are in its sandbox on the host.

A process's stdout goes to stdout and its stderr to stderr, byte for byte, save that a terminal gets no control
sequences but colours. With --stderr or --stdout only that one is read, and goes to stdout. Lines of several processes
get a prefix: PROCESS/RUN and | for stdout, ! for stderr.
"""
_LOGS_FOLLOW = """
-f goes on with what is written until the task is over: with the next run when a process is run again, and with
processes that start later; with --run until that run is over. A restart of the runner or of the driver neither loses
nor repeats a byte. An executor lets 32 logs be read at a time: further ones wait, which is said; --stdout halves them.
An executor goes with its last task: of a last run that begins and ends in a moment, the rest may be in its file only;
that is said, too, and the exit status is 1.
"""
_KILL_TEXT = """\
Ends tasks in order, and waits until they are over: lifecycle endpoints, SIGTERM, the grace period, final processes. The
services are asked to do it, save with --agent (or with TRIVET_AGENT alone): then KILL goes to a local agent, the
scheduler's way, and what the executor makes of it, `trivet watch TASK` shows.

A TASK is an exact id. When several executors have a task of that id, --executor says which one is meant.
"""
_KILL_END = """
exit status:
  0    all tasks are over (--no-wait: all orders were taken; --agent: every KILL was written to an executor's stream)
  1    one of them is not; stderr says why
  2    nothing was done: no services, no agent, none of these tasks, or bad arguments
  130  you pressed Ctrl-C: orders that were taken are carried out all the same
"""
_TOP_TEXT = """\
Shows what tasks use, taken inside their containers: cores in use, CPU time, resident memory, processes, threads and the
size of the sandbox with its limit. With TASK its processes, too. Nothing is sampled while nobody looks.
"""
_JOURNAL_TEXT = """\
Prints the records of a journal of the runner, health or reporter, one a line: offset in the file, time, what happened.
The file is only read, so a running service may be writing it. TaskInfos, and what a check probes, are not shown: they
may hold secrets. --json shows them, all but the values of headers and environments in a journal of health.
"""
_JOURNAL_END = """
exit status:
  0    every record was read; a torn last record is said, and no error
  1    the file is damaged: what stands before the damage is shown, and its offset is named
  2    the file cannot be read
"""


def add(verbs: Any) -> None:
    """Adds the commands to the parser's subcommands."""
    _add_ps(verbs)
    _add_inspect(verbs)
    _add_logs(verbs)
    _add_kill(verbs)
    _add_top(verbs)
    checks.add(verbs, _command)
    explain.add(verbs, _command)
    journal = verbs.add_parser(
        "journal",
        help="print the records of a service's journal",
        description=_JOURNAL_TEXT,
        epilog=_JOURNAL_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    journal.add_argument(
        "file", metavar="FILE", help="STATE/tasks/*.journal, STATE/checks/*.journal, damaged ones, too"
    )
    journal.add_argument(
        "--json", action="store_true", help="one object a line, with what is in the record (see above)"
    )


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses what cannot be meant."""
    if options.verb == "kill":
        _check_kill(parser, options)
    if options.verb == "logs" and options.run is not None and options.process is None:
        parser.error("--run: name the PROCESS, too")
    if options.verb in checks.VERBS:
        checks.check(parser, options)


def _check_kill(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Settles who is asked: `options.agent` is None when it is not an agent."""
    ours = [
        flag
        for flag, given in (
            ("--run-dir", options.run_dir),
            ("--executor", options.executor),
            ("--framework", options.framework),
            ("--lose", options.lose),
            ("--timeout", options.timeout is not None),
            ("--no-wait", not options.wait),
        )
        if given
    ]
    if options.agent is not None:
        if ours:
            parser.error(f"{ours[0]} is for the services, --agent for an agent: not both")
        return
    if options.lose and options.grace is not None:
        parser.error("--lose gives no grace period")
    agent = os.environ.get("TRIVET_AGENT")
    if agent and not ours:
        if os.environ.get("TRIVET_RUN_DIR"):
            parser.error(
                "TRIVET_AGENT and TRIVET_RUN_DIR are both set: say who shall be asked, --agent DIR or --run-dir DIR"
            )
        options.agent = agent


def _add_ps(verbs: Any) -> None:
    exits = _EXIT.format(done="the list is complete", failed="whoever read the output has gone")
    ps = _command(verbs, "ps", "list tasks", _PS_TEXT, exits + _PS_JSON)
    ps.add_argument("pattern", nargs="?", metavar="PATTERN", help="of the task id, as a shell has them: 'web-*'")
    ps.add_argument("-a", "--all", action="store_true", help="those that are over, too")
    ps.add_argument("--json", action="store_true", help="one object a line")


def _add_inspect(verbs: Any) -> None:
    exits = _EXIT.format(done="the task was shown", failed="whoever read the output has gone")
    inspect = _command(verbs, "inspect", "show everything about one task", _INSPECT_TEXT, exits)
    inspect.add_argument("task", metavar="TASK", help="id of the task")
    inspect.add_argument("-a", "--all", action="store_true", help="every run, not only the newest five of each process")
    inspect.add_argument("--json", action="store_true", help="one object, with every run")


def _add_logs(verbs: Any) -> None:
    exits = _EXIT.format(done="everything was read", failed="something could not be read; stderr says what and why")
    logs = _command(verbs, "logs", "print what processes have written", _LOGS_TEXT, _LOGS_FOLLOW + exits)
    logs.add_argument("task", metavar="TASK", help="id of the task")
    logs.add_argument("process", nargs="?", metavar="PROCESS", help="default: all processes that have been started")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    logs.add_argument("--run", type=_count, metavar="N", help="that run of the process, from 0; default: the newest")
    stream = logs.add_mutually_exclusive_group()
    stream.add_argument("--stdout", dest="stream", action="store_const", const="stdout", help="only stdout")
    stream.add_argument("--stderr", dest="stream", action="store_const", const="stderr", help="only stderr")
    logs.add_argument("--tail", type=_lines, metavar="N", help="begin with the last N lines of each log")


def _add_kill(verbs: Any) -> None:
    kill = _command(verbs, "kill", "end tasks", _KILL_TEXT, _KILL_END)
    kill.add_argument("tasks", nargs="+", metavar="TASK", help="id of a task")
    kill.add_argument(
        "--agent", metavar="DIR_OR_SOCKET", help="send KILL to this local agent instead; default: $TRIVET_AGENT"
    )
    kill.add_argument(
        "--grace",
        type=seconds,
        metavar="TIME",
        help="from the order to SIGKILL: 5s, 500ms, 2mins; lifecycle endpoints take half of it at most, SIGTERM has "
        "the rest; default: the task's",
    )
    kill.add_argument(
        "--lose",
        action="store_true",
        help="give the task up: SIGKILL at once, no endpoints, no final processes; it is LOST",
    )
    kill.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until they are over")
    kill.add_argument("--timeout", type=seconds, metavar="TIME", help="wait at most this long; default: for ever")


def _add_top(verbs: Any) -> None:
    exits = _EXIT.format(done="--once, or the TASK is over", failed="whoever read the output has gone")
    top = _command(verbs, "top", "show what tasks use", _TOP_TEXT, exits)
    top.add_argument("task", nargs="?", metavar="TASK", help="id of a task; default: all that are not over")
    top.add_argument("--once", action="store_true", help="one page, as soon as all have been sampled")
    top.add_argument("--sort", choices=SORTS, default="cpu", help="what stands at the top (default: %(default)s)")
    top.add_argument(
        "--interval", type=_interval, metavar="TIME", help="between two samples, 0.5s to 1h; default: 2s, --once: 0.5s"
    )
    top.add_argument("--json", action="store_true", help="one object a line, for each sample as it comes")


def _command(
    verbs: Any, name: str, short: str, text: str, end: str, service: str = "runner"
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=short,
        description=text,
        epilog=end.lstrip("\n") + _WHERE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(service=service)
    parser.add_argument("--run-dir", metavar="DIR", help=_RUN_DIR_HELP)
    parser.add_argument("--executor", metavar="ID", help="only tasks of this executor")
    parser.add_argument("--framework", metavar="ID", help="only tasks of this framework")
    return parser


def seconds(text: str) -> float:
    """A time of the command line, in seconds."""
    from services.cli.orders.arguments import seconds as parse

    return parse(text)


def _interval(text: str) -> float:
    value = seconds(text)
    if not (math.isfinite(value) and 0.5 <= value <= 3600):
        raise argparse.ArgumentTypeError(f"{text!r}: from 0.5s to 1h")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def _lines(text: str) -> int:
    count = _count(text)
    if not count:
        raise argparse.ArgumentTypeError("from 1")
    return count
