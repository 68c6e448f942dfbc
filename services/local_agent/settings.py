"""Command line of `trivet-agent`. Flags that Mesos' agent has keep its names, defaults and units."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.common.attach import VERSION
from services.local_agent.containers import resources
from services.local_agent.containers.environment import EnvironmentFlags
from services.local_agent.core import durations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesos.v1 import mesos_pb2

# sockaddr_un.sun_path with its terminating zero.
MAX_SOCKET_PATH = 107
# Mesos' agent refuses more.
MAX_REREGISTRATION = durations.parse("15secs")

_DESCRIPTION = """\
A Mesos agent for one machine, for development and tests. It speaks the v1 executor HTTP API of Mesos over TCP; what
Mesos' master and a scheduler would do is done through trivet.agent.v1.LocalAgentService on RUN_DIR/agent.sock.
Executors run as the agent's own user, as children of the agent in sessions of their own.

SIGTERM leaves the executors alone: a new agent with the same --work-dir finds them again. SIGINT, or SIGTERM with
--on-exit=destroy, kills them first. Where the agent listens is written to RUN_DIR/agent.json.
"""


@dataclass(frozen=True)
class Settings:
    """What the agent was started with. Durations in nanoseconds; paths absolute."""

    work_dir: str
    run_dir: str
    ip: str
    port: int
    hostname: str
    resources: tuple[mesos_pb2.Resource, ...]
    executor_registration_timeout: int
    executor_reregistration_timeout: int
    executor_shutdown_grace_period: int
    destroy_on_exit: bool
    log_level: str
    environment_flags: EnvironmentFlags


def parse(argv: Sequence[str]) -> Settings:
    """Reads the command line; prints help or an error and raises SystemExit where due."""
    parser = _parser()
    options = parser.parse_args(argv)
    work_dir = os.path.abspath(options.work_dir)
    run_dir = os.path.abspath(options.run_dir or work_dir)
    if len(os.fsencode(os.path.join(run_dir, ".agent.4194304.sock"))) > MAX_SOCKET_PATH:
        parser.error(
            f"--run-dir: {run_dir} is too long for a unix socket (at most {MAX_SOCKET_PATH} bytes with the name): "
            "use a shorter directory"
        )
    if options.executor_reregistration_timeout > MAX_REREGISTRATION:
        parser.error("--executor-reregistration-timeout: at most 15secs")
    return Settings(
        work_dir=work_dir,
        run_dir=run_dir,
        ip=options.ip,
        port=options.port,
        hostname=options.hostname,
        resources=options.resources,
        executor_registration_timeout=options.executor_registration_timeout,
        executor_reregistration_timeout=options.executor_reregistration_timeout,
        executor_shutdown_grace_period=options.executor_shutdown_grace_period,
        destroy_on_exit=options.on_exit == "destroy",
        log_level=options.log_level,
        environment_flags=EnvironmentFlags(
            recovery_timeout=options.recovery_timeout,
            executor_reregistration_timeout=options.executor_reregistration_timeout,
            executor_shutdown_grace_period=options.executor_shutdown_grace_period,
            extra=options.executor_environment_variables,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trivet-agent", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--work-dir", required=True, metavar="DIR", help="sandboxes, and the log from which a new process recovers")
    add("--run-dir", metavar="DIR", help="where agent.sock (mode 0600) and agent.json are made (default: --work-dir)")
    add("--ip", type=_ip, default="127.0.0.1", metavar="ADDR", help="where executors connect (default: %(default)s)")
    add(
        "--port",
        type=_port,
        default=0,
        metavar="N",
        help="0: the port of the last run with this --work-dir, else any that is free (default: %(default)s)",
    )
    add("--hostname", default=socket.gethostname(), metavar="NAME", help="shown to executors (default: %(default)s)")
    add(
        "--resources",
        type=_resources,
        default=resources.of_this_host(),
        metavar="TEXT",
        help="shown to executors, not enforced (default: %(default)s)",
    )
    for name, default, text in (
        ("--executor-registration-timeout", "1mins", "from launch to the first SUBSCRIBE; then the executor is killed"),
        ("--executor-reregistration-timeout", "2secs", "from restart of the agent to SUBSCRIBE; at most 15secs"),
        ("--recovery-timeout", "15mins", "told to executors: how long they wait for a restarted agent"),
        ("--executor-shutdown-grace-period", "5secs", "from SHUTDOWN to SIGKILL; ExecutorInfo may say otherwise"),
    ):
        add(name, type=_duration, default=durations.parse(default), metavar="TIME", help=f"{text} (default: {default})")
    add(
        "--executor-environment-variables",
        type=_variables,
        default={},
        metavar="JSON",
        help="object of variables for executors; MESOS_* and the framework's own win (default: {})",
    )
    add("--launcher", choices=["posix"], default="posix", help="how executors are contained (default: %(default)s)")
    add(
        "--on-exit",
        choices=["leave", "destroy"],
        default="leave",
        help="what SIGTERM does to the executors; SIGINT always destroys (default: %(default)s)",
    )
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="on stderr (default: info)")
    add("--version", action="version", version=VERSION)
    return parser


def _duration(text: str) -> int:
    try:
        return durations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _ip(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if address.version != 4:
        raise argparse.ArgumentTypeError("Mesos' agent listens on IPv4 only")
    if not address.is_loopback:
        raise argparse.ArgumentTypeError("not a loopback address; this agent checks nobody's identity")
    return text


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a number from 0 to 65535")
    return int(text)


def _variables(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise argparse.ArgumentTypeError("an object of strings")
    return value


def _resources(text: str) -> tuple[mesos_pb2.Resource, ...]:
    try:
        return resources.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
