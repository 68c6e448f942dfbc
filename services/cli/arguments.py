"""Command line of `trivet`."""

from __future__ import annotations

import argparse
import importlib.metadata
import re
from typing import TYPE_CHECKING, NoReturn

from services.cli.orders import arguments as orders
from services.cli.tasks import arguments as tasks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# They take no command, and a task's id may begin with a dash.
_ABOUT_TASKS = tasks.VERBS | {"watch"}
_PORT = re.compile(r"([\w\-./]+)[:=]([0-9]{1,5})")

_RUN_TEXT = """\
Runs one task through every part of the system: a local Mesos agent launches trivet-executor, and runner, health and
reporter take care of the task. The stack is started for this run in a directory of its own, or taken from --services.

TASK.json is a Thermos task (`processes`), or an Aurora job (`task` and what the job says around it). A COMMAND becomes
a task of one process. Commands run in the task's sandbox, with your PATH and with a bare environment else.
"""
_RUN_END = """\
exit status:
  0    the task finished (TASK_FINISHED)
  1    the task ended in any other way, or a part of the stack could not be kept running
  2    nothing was started: bad arguments, or an invalid task
  130  the task was killed (TASK_KILLED)

Ctrl-C kills the task in order: SIGTERM, its grace period, its final processes. Ctrl-C again kills it at once.

With --output json each line on stdout is an object: {"type": "status", ...} for every status update that the scheduler
receives, {"type": "process", ...} for every transition of a process, and {"type": "end", "state", "sandbox"} at last.
"""
_UP_TEXT = """\
Runs runner, health and reporter in the foreground, for executors that a real Mesos agent on this host launches. A
service that dies is started again. Running tasks are not disturbed when this command ends: start it again with the same
directory.
"""
_UP_END = """\
in DIR:
  run/     sockets; executors get it with: trivet-executor --services DIR/run
  state/   journals; keep them
  logs/    one file a service
"""
_VALIDATE_TEXT = """\
Says of each FILE whether the task in it is valid, and what would be run in which order. Nothing is started, and no
agent is asked.

A FILE holds a Thermos task, an Aurora job or task instance (JSON), Aurora's AssignedTask around one (thrift, binary),
or a TaskInfo in Mesos' JSON. Ports that only an agent assigns are shown as such; --port gives them a number.
"""
_VALIDATE_END = """\
exit status:
  0    every task is valid
  1    a task is invalid: all its violations are listed, each with its place
  2    a file could not be read

With --json each line on stdout is an object, one for each FILE. Command lines are never shown.
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; prints help or an error and raises SystemExit where due.

    Everything behind the first `--` is the command, whatever it looks like; of a verb about tasks, it is ids.
    """
    words = list(argv)
    if words[:1] == ["agent"]:
        # All of it is the agent's, `--help` too.
        return argparse.Namespace(verb="agent", flags=words[1:])
    command: list[str] | None = None
    if "--" in words and words[0] not in _ABOUT_TASKS:
        split = words.index("--")
        words, command = words[:split], words[split + 1 :]
    parser, commands = _parser()
    options, unknown = parser.parse_known_args(words)
    options.command = command
    # What is wrong from here on is wrong with this command.
    parser = commands[options.verb]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.verb == "run":
        _check_run(parser, options)
    elif options.verb == "validate":
        # `trivet validate -- -odd-name`
        options.file += command or []
        if not options.file:
            parser.error("which FILE shall be examined? (-: stdin)")
        _check_ports(parser, options)
    elif options.verb in orders.VERBS:
        orders.check(parser, options)
    elif options.verb in tasks.VERBS:
        tasks.check(parser, options)
    elif command is not None:
        parser.error("`up` takes no command")
    return options


def _check_run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.command is not None and options.task is not None:
        parser.error("give either TASK.json or a command, not both")
    if not options.command and options.task is None:
        parser.error("what shall run? Give TASK.json, or -- and a command")
    _check_ports(parser, options)


def _check_ports(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    names = [name for name, _ in options.port]
    if len(set(names)) != len(names):
        parser.error("--port: a name is given twice")
    options.port = dict(options.port)


class _Parser(argparse.ArgumentParser):
    """One line for a mistake; the usage fills the screen and hides it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The whole, and each command's."""
    parser = _Parser(prog="trivet", description="Trivet, a Mesos executor whose parts can be restarted.")
    parser.add_argument("--version", action="version", version=importlib.metadata.version("trivet"))
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    _add_run(
        verbs.add_parser(
            "run",
            help="run one task on this machine and watch it",
            usage="trivet run [options] TASK.json\n       trivet run [options] -- COMMAND [ARG...]",
            description=_RUN_TEXT,
            epilog=_RUN_END,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    _add_validate(
        verbs.add_parser(
            "validate",
            help="say whether a task is valid, and what it would do",
            description=_VALIDATE_TEXT,
            epilog=_VALIDATE_END,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    up = verbs.add_parser(
        "up",
        help="run the services for a Mesos agent on this machine",
        description=_UP_TEXT,
        epilog=_UP_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    up.add_argument("--dir", required=True, metavar="DIR", help="where sockets, state and logs are; made when missing")
    tasks.add(verbs)
    orders.add(verbs)
    return parser, verbs.choices


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("task", nargs="?", metavar="TASK.json", help="the task; - reads it from stdin")
    run.add_argument(
        "--services",
        metavar="DIR",
        help="use the services whose sockets are in DIR (`trivet up --dir X` makes them in X/run) instead of new ones",
    )
    run.add_argument(
        "--port",
        action="append",
        default=[],
        type=port,
        metavar="NAME:NUMBER",
        help="number of a named port; ports that the task refers to get free ones otherwise; may be repeated",
    )
    run.add_argument(
        "--output",
        choices=["auto", "live", "plain", "json"],
        default="auto",
        help="auto (default): live on a terminal, else plain lines; json: one object a line",
    )
    run.add_argument(
        "--dir",
        metavar="DIR",
        help="where everything of this run is put, and stays; default: a new directory under the temporary directory",
    )
    run.add_argument(
        "--keep",
        action="store_true",
        help="keep sockets, journals and service logs as well; the sandbox with the task's logs is always kept, and "
        "everything when the task failed",
    )


def _add_validate(validate: argparse.ArgumentParser) -> None:
    validate.add_argument("file", nargs="*", metavar="FILE", help="a task; - reads it from stdin")
    validate.add_argument(
        "--port",
        action="append",
        default=[],
        type=port,
        metavar="NAME=NUMBER",
        help="number of a named port; may be repeated",
    )
    validate.add_argument("--aurora", action="store_true", help="warn of what Aurora's client would refuse, too")
    validate.add_argument("--json", action="store_true", help="one object a line instead of text")


def port(text: str) -> tuple[str, int]:
    """NAME:NUMBER of the command line."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:NUMBER")
    number = int(match[2])
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a port is from 1 to 65535")
    return match[1], number
