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
from services.local_agent.containers import launcher_flags, resources
from services.local_agent.containers.environment import EnvironmentFlags
from services.local_agent.core import durations
from services.local_agent.faults import spec as fault_spec
from services.local_agent.faults.rules import RuleBook, add_all
from services.local_agent.faults.validation import FaultRefused
from services.local_agent.flag_parser import FlagParser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesos.v1 import mesos_pb2
    from services.local_agent.containers.isolation import LauncherFlags
    from trivet.agent.v1 import faults_pb2

# sockaddr_un.sun_path with its terminating zero.
MAX_SOCKET_PATH = 107
# Mesos' agent refuses more.
MAX_REREGISTRATION = durations.parse("15secs")

_DESCRIPTION = """\
A Mesos agent for one machine, for development and tests. It speaks the v1 executor HTTP API of Mesos over TCP; what
Mesos' master and a scheduler would do is done through trivet.agent.v1.LocalAgentService on RUN_DIR/agent.sock.
Executors are children of the agent in sessions of their own, or containers with --launcher=linux.

SIGTERM leaves the executors alone: a new agent with the same --work-dir finds them again. SIGINT, or SIGTERM with
--on-exit=destroy, kills them first. SIGUSR1 shuts them down, waits for them, and gives the agent's id up. Where the
agent listens is written to RUN_DIR/agent.json.
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
    # Instead of `reconnect`: executors of an earlier process are shut down, and the agent ends after them.
    cleanup: bool
    # End by SIGABRT where Mesos' agent fails a check, instead of refusing.
    abort_on_check_failure: bool
    # From the start on 404, then 503, is all that executors hear.
    not_found_for: int
    unavailable_for: int
    # Makes container ids and uuids reproducible.
    seed: int | None
    # In force from the start of each process.
    faults: tuple[faults_pb2.Fault, ...]
    fault_seed: int
    # Every call must carry a token made with `environment_flags.jwt_secret_key`.
    authenticate_http_executors: bool
    # Path of the executors' unix socket, if there is one.
    domain_socket: str | None
    log_level: str
    launcher: LauncherFlags
    environment_flags: EnvironmentFlags


def parse(argv: Sequence[str]) -> Settings:
    """Reads the command line; prints help or an error and raises SystemExit where due."""
    parser = _parser()
    options = parser.parse_args(parser.with_dashes(argv))
    work_dir = os.path.abspath(options.work_dir)
    run_dir = os.path.abspath(options.run_dir or work_dir)
    if len(os.fsencode(os.path.join(run_dir, ".agent.4194304.sock"))) > MAX_SOCKET_PATH:
        parser.error(
            f"--run-dir: {run_dir} is too long for a unix socket (at most {MAX_SOCKET_PATH} bytes with the name): "
            "use a shorter directory"
        )
    if options.executor_reregistration_timeout > MAX_REREGISTRATION:
        parser.error("--executor-reregistration-timeout: at most 15secs")
    domain_socket = _domain_socket(parser, options, run_dir)
    if options.authenticate_http_executors and options.jwt_secret_key is None:
        parser.error("--authenticate-http-executors: needs --jwt-secret-key")
    try:
        add_all(RuleBook(), options.fault)
    except FaultRefused as error:
        parser.error(f"--fault: {error}")
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
        cleanup=options.recover == "cleanup",
        abort_on_check_failure=options.on_check_failure == "abort",
        not_found_for=options.not_found_for,
        unavailable_for=options.unavailable_for,
        seed=options.seed,
        faults=tuple(options.fault),
        fault_seed=options.fault_seed,
        authenticate_http_executors=options.authenticate_http_executors,
        domain_socket=domain_socket,
        log_level=options.log_level,
        launcher=launcher_flags.read(parser, options),
        environment_flags=EnvironmentFlags(
            recovery_timeout=options.recovery_timeout,
            executor_reregistration_timeout=options.executor_reregistration_timeout,
            executor_shutdown_grace_period=options.executor_shutdown_grace_period,
            extra=options.executor_environment_variables,
            domain_socket=domain_socket,
            jwt_secret_key=options.jwt_secret_key,
        ),
    )


def _parser() -> FlagParser:
    parser = FlagParser(
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
        ("--not-found-for", "0secs", "so long after the start executors get 404, as before Mesos has routes"),
        ("--unavailable-for", "0secs", "so long after that they get 503, as while Mesos recovers its containers"),
    ):
        add(name, type=_duration, default=durations.parse(default), metavar="TIME", help=f"{text} (default: {default})")
    add(
        "--executor-environment-variables",
        type=_variables,
        default={},
        metavar="JSON",
        help="object of variables for executors; MESOS_* and the framework's own win (default: {})",
    )
    launcher_flags.add_to(parser)
    add(
        "--on-exit",
        choices=["leave", "destroy"],
        default="leave",
        help="what SIGTERM does to the executors; SIGINT always destroys (default: %(default)s)",
    )
    add(
        "--recover",
        choices=["reconnect", "cleanup"],
        default="reconnect",
        help="cleanup: shuts the executors of an earlier process down, and ends after them (default: %(default)s)",
    )
    add(
        "--on-check-failure",
        choices=["refuse", "abort"],
        default="refuse",
        help="what kills Mesos' agent (in SUBSCRIBE's list: a malformed uuid, or an update of a task not launched yet) "
        "gets 400, or ends the agent by SIGABRT as there (default: %(default)s)",
    )
    add("--seed", type=int, metavar="N", help="makes container ids and the agent's uuids reproducible (default: none)")
    add(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="SPEC",
        help="a fault in force from the start, such as 'update refuse=503 times=3'; may be given several times",
    )
    add("--fault-seed", type=int, default=0, metavar="N", help="decides where faults leave it to chance (default: 0)")
    add(
        "--jwt-secret-key",
        type=_secret,
        metavar="FILE",
        help="its content, byte by byte, signs the token in MESOS_EXECUTOR_AUTHENTICATION_TOKEN (default: no tokens)",
    )
    add(
        "--authenticate-http-executors",
        action="store_true",
        help="calls without the executor's token get 401 or 403; needs --jwt-secret-key",
    )
    add(
        "--http-executor-domain-sockets",
        action="store_true",
        help="executors may call over a unix socket too, and are told so by MESOS_DOMAIN_SOCKET",
    )
    add(
        "--domain-socket-location",
        metavar="PATH",
        help="of that socket (mode 0666, replaced at the start, left at the end unless executors are destroyed; "
        "default: executors.sock in --run-dir)",
    )
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="on stderr (default: info)")
    add("--version", action="version", version=VERSION)
    return parser


def _fault(text: str) -> faults_pb2.Fault:
    try:
        return fault_spec.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _domain_socket(parser: argparse.ArgumentParser, options: argparse.Namespace, run_dir: str) -> str | None:
    if not options.http_executor_domain_sockets:
        # As in Mesos the location alone means nothing.
        return None
    path = os.path.abspath(options.domain_socket_location or os.path.join(run_dir, "executors.sock"))
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        parser.error(f"--domain-socket-location: {path} is longer than {MAX_SOCKET_PATH} bytes, too long for a socket")
    if path == os.path.join(run_dir, "agent.sock"):
        parser.error(f"--domain-socket-location: {path} is the control API's socket")
    return path


def _secret(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            key = file.read()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from error
    if not key:
        raise argparse.ArgumentTypeError(f"{path}: the file is empty")
    return key


def _duration(text: str) -> int:
    try:
        return durations.parse_flag(text)
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
