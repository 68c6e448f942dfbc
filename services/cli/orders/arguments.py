"""Command line of the commands to a running agent. Loads nothing: `--help` is quick."""

from __future__ import annotations

import argparse
from typing import Any

# `kill` is one, too, when an agent is named: services.cli.tasks.arguments.
VERBS = frozenset({"launch", "watch", "executors", "fault", "agent-restart"})

_AGENT_HELP = (
    "the agent: its run or work directory, or its socket; default: $TRIVET_AGENT. There is no other default: "
    "it must be clear which agent is meant"
)
_WHERE = """
The agent is found by --agent, else by the environment variable TRIVET_AGENT. `trivet agent --work-dir DIR` starts one.
"""
_LAUNCH_TEXT = """\
Launches a task on a running local agent, as a scheduler does, and returns when the executor's process runs.

EXECUTOR is any executor of Mesos' v1 HTTP API, as one text (--executor './mine --flag') or as words behind --. It
starts in its sandbox, with exactly the environment that Mesos gives, and your PATH. Words of it that name files from
here are made absolute. No shell is involved unless --shell is given. (`trivet run -- COMMAND` is something else: there
COMMAND is the task's, run by Trivet's own executor.)

FILE.json is a Mesos TaskInfo as JSON (it has a `task_id`; without `executor`, --executor gives one), or a task of
Thermos or Aurora, for Trivet's own executor; that needs --services.
"""
_EXIT = """\
exit status:
  0    the task finished (TASK_FINISHED){launched}
  1    the task ended in any other way
  2    {nothing}
  130  the task was killed (TASK_KILLED), or you pressed Ctrl-C: the task goes on
"""
_WATCH_JSON = """
With --json each update is an object on a line of its own: {"type": "status", "task_id", "state", "reason", "message",
"healthy", "source", "timestamp", "uuid"}; what is not set is null. After the terminal one: {"type": "end", "state",
"sandbox", "exit_code", "exit_signal"}, the executor's, as far as it has ended.

When the agent is away, this waits for it; when its process has ended, 30 s for a new one (then the exit status is 2).
"""
_FAULT_TEXT = """\
Faults of the local agent: what networks, agents and schedulers do to executors on a bad day, on demand.

  trivet fault add 'SPEC'     puts a fault into force and prints its id
  trivet fault list           faults with their hits
  trivet fault remove [ID]    takes one away, or all; what they hold back goes out at once

SPEC is TARGET EFFECT [NAME=VALUE...], such as
  update refuse=503 times=3          the next three UPDATEs are answered 503
  event=ACKNOWLEDGED lose            no acknowledgement arrives
  event=any hold executor=mine       the stream of one executor is frozen
docs/local-agent.md has them all.
"""
_RESTART_TEXT = """\
Ends the agent and lets it come back, with the same flags, work directory, port and process id. Executors live on, as
they do when Mesos' agent is restarted. Returns when it has recovered. Faults that were added by command are gone then.
"""


def add(verbs: Any) -> None:
    """Adds the commands to the parser's subcommands."""
    agent = verbs.add_parser("agent", help="run a local Mesos agent for development and tests", add_help=False)
    agent.add_argument("flags", nargs="*")
    _add_launch(_command(verbs, "launch", "launch a task on a local agent", _LAUNCH_TEXT, _launch_end()))
    watch = _command(
        verbs,
        "watch",
        "follow the updates of a task",
        "Shows every update of a task as its scheduler receives it, from the first, and ends with the terminal one.",
        _EXIT.format(launched="", nothing="no agent, no such task, or bad arguments") + _WATCH_JSON,
    )
    watch.add_argument("task", metavar="TASK", help="id of the task")
    watch.add_argument("--json", action="store_true", help="one object a line")
    executors = _command(verbs, "executors", "list the executors of a local agent", "Lists executors that run or ran.")
    executors.add_argument("--json", action="store_true", help="one object a line")
    _add_fault(_command(verbs, "fault", "faults of a local agent: refuse, lose, delay, ...", _FAULT_TEXT))
    _add_restart(_command(verbs, "agent-restart", "restart a local agent, executors live on", _RESTART_TEXT))


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses what cannot be meant."""
    if options.verb != "launch":
        if options.command is not None:
            parser.error(f"`{options.verb}` takes no command")
        return
    given = [name for name, value in (("--executor", options.executor), ("--", options.command)) if value is not None]
    if len(given) > 1:
        parser.error("give the executor either with --executor or behind --, not both")
    if options.command is not None and not options.command:
        parser.error("nothing behind --")
    if not given and options.file is None:
        parser.error("what shall be launched? Give --executor 'COMMAND', or -- and a command, or FILE.json")
    if options.file is None and (options.services or options.port):
        parser.error("--services and --port are for a task of Thermos or Aurora: FILE.json")
    if options.shell and options.executor is None:
        parser.error("--shell goes with --executor 'TEXT'")
    _check_task_info(parser, options)
    options.port = dict(options.port)


def _check_task_info(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What says something about a task that FILE.json says already."""
    if options.file is None:
        return
    for flag in ("task_data", "name", "task_id", "kill_grace"):
        if getattr(options, flag):
            parser.error(f"--{flag.replace('_', '-')}: FILE.json says that")


def seconds(text: str) -> float:
    """A time of the command line, in seconds: as the agent's flags take it (`5secs`, `5s`), or a bare number."""
    from services.local_agent.core import durations

    try:
        return durations.parse_flag(f"{text}s" if text.replace(".", "", 1).isdecimal() else text) / 1e9
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: 5s, 500ms, 2mins") from None


def _add_launch(launch: argparse.ArgumentParser) -> None:
    launch.usage = (
        "trivet launch [options] --executor 'EXECUTOR [ARG...]'\n"
        "       trivet launch [options] -- EXECUTOR [ARG...]\n"
        "       trivet launch [options] FILE.json"
    )
    add = launch.add_argument
    add(
        "file", nargs="?", metavar="FILE.json", help="a TaskInfo, or a task of Thermos or Aurora; - reads it from stdin"
    )
    add("--executor", metavar="TEXT", help="command of the executor")
    add("--shell", action="store_true", help="the executor's command is for `sh -c`, unchanged")
    add("--task-data", metavar="FILE", help="TaskInfo.data; - reads it from stdin")
    add("--name", default="", help="name of the task; its id begins with it")
    add("--task-id", default="", metavar="ID", help="default: a new one")
    add("--executor-id", default="", metavar="ID", help="default: a new one; tasks with the same id share an executor")
    add("--cpus", type=_amount, default=0.1, metavar="N", help="of the task (default: %(default)s)")
    add("--mem", type=_amount, default=32, metavar="MIB", help="of the task (default: %(default)s)")
    add("--kill-grace", type=seconds, metavar="TIME", help="TaskInfo.kill_policy.grace_period")
    add("--shutdown-grace", type=seconds, metavar="TIME", help="ExecutorInfo.shutdown_grace_period")
    add("--env", action="append", default=[], type=_variable, metavar="NAME=VALUE", help="for the executor; repeatable")
    add(
        "--checkpoint",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the framework checkpoints: executors outlive a restart of the agent (default: yes)",
    )
    add(
        "--capability",
        action="append",
        metavar="NAME",
        help="of the framework, instead of MULTI_ROLE, PARTITION_AWARE and TASK_KILLING_STATE; repeatable; none: none",
    )
    add("--framework-id", default="", metavar="ID", help="default: one for each kind of framework")
    add("--services", metavar="DIR", help="Trivet's services (`trivet up --dir DIR`), for a task of Thermos or Aurora")
    add("--port", action="append", default=[], type=_port, metavar="NAME:NUMBER", help="as in `trivet run`")
    add("--watch", action="store_true", help="follow the task to its end, as `trivet watch` does")
    add("--json", action="store_true", help="print objects: first {type: launched, task_id, sandbox, ...}")


def _launch_end() -> str:
    nothing = "nothing was launched: bad arguments, no agent, or refused"
    return _EXIT.format(launched="; without --watch: it was launched", nothing=nothing)


def _add_fault(fault: argparse.ArgumentParser) -> None:
    actions = fault.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="put a fault into force; prints its id")
    add.add_argument("spec", nargs="+", metavar="SPEC", help="'update refuse=503 times=3'")
    listing = actions.add_parser("list", help="faults with their hits")
    listing.add_argument("--json", action="store_true", help="one object a line")
    remove = actions.add_parser("remove", help="take away one fault, or all")
    remove.add_argument("id", nargs="?", default="", metavar="ID", help="default: all")
    for action in (add, listing, remove):
        # Also behind the action, where one writes it; without undoing what stands before it.
        action.add_argument("--agent", metavar="DIR_OR_SOCKET", default=argparse.SUPPRESS, help=_AGENT_HELP)


def _add_restart(restart: argparse.ArgumentParser) -> None:
    add = restart.add_argument
    add("--kill", action="store_true", help="as a crash does it; default: in order, as SIGTERM does it")
    add("--no-wait", dest="wait", action="store_false", help="do not wait until it is back and has recovered")
    for flag, text in (
        ("--gap", "from the end of the old to the start of the new; nobody listens"),
        ("--not-found", "how long the new one then answers 404 to executors"),
        ("--unavailable", "and how long 503 after that"),
    ):
        add(flag, type=seconds, default=0.0, metavar="TIME", help=f"{text} (default: 0s)")


def _command(verbs: Any, name: str, short: str, text: str, end: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=short,
        description=text,
        epilog=end + _WHERE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--agent", metavar="DIR_OR_SOCKET", help=_AGENT_HELP)
    return parser


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount: 0.5, 32")
    return amount


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _port(text: str) -> tuple[str, int]:
    from services.cli.arguments import port

    return port(text)
