"""The runner's order to start a process, completed with what only the executor knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor_shim.driver.environment import Environment
    from executor_shim.driver.options import Options
    from trivet.runner.v1 import runner_pb2

_USER_NAMES = ("USER", "LOGNAME")


def start_command(key: str, start: runner_pb2.Start, environment: Environment, options: Options) -> dict[str, Any]:
    """The coordinator's command: environment and logging filled in.

    What the task says of its logger wins over the executor's options (Thermos: Process.logger, flags, defaults).
    """
    logging = start.logging
    file, console, limit, backups = logging.file, logging.console, logging.log_size, logging.backups
    if not start.HasField("logging"):
        file = options.log_destination in ("file", "both")
        console = options.log_destination in ("console", "both")
        rotate = options.log_mode == "rotate"
        limit, backups = (options.log_size, options.log_backups) if rotate else (0, 0)
    return {
        "op": "start",
        "task": key,
        "process": start.process,
        "run": start.run,
        "argv": list(start.argv),
        "env": environment_of(start.env, environment, options),
        "cwd": start.cwd,
        "user": start.user,
        "stdout": start.stdout if file else "",
        "stderr": start.stderr if file else "",
        "profile": start.profile,
        "sandbox": environment.sandbox,
        "logging": {"console": console, "limit": limit if file else 0, "backups": backups},
    }


def environment_of(wanted: Mapping[str, str], environment: Environment, options: Options) -> dict[str, str]:
    """The executor's environment where `--preserve-env` says so, then what is wanted, and always a PATH.

    The user's names are never inherited, as they may be those of whoever started the agent: where nobody names a user,
    the coordinator says who it is (Thermos: HOME, USER, LOGNAME, PATH, with and without preserve_env).
    """
    inherited = environment.inherited if options.preserve_env else {}
    env = {**{name: value for name, value in inherited.items() if name not in _USER_NAMES}, **wanted}
    env.setdefault("PATH", environment.path)
    return env
