"""Entry of the `trivet` command. Imports what a command needs only when it is given: `trivet --help` is quick."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from services.cli import signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence


_CANNOT_START = 2
# Packages of the extras; what a bare `pip install trivet` has is enough for the executor alone.
OPTIONAL = frozenset({"grpc_health", "grpc_reflection", "prometheus_client", "psutil", "rich", "tenacity", "thrift"})
_AGENT_NEEDS = ("grpc_health", "grpc_reflection", "psutil", "tenacity")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status (2: it could not begin)."""
    with signals.leaving_at_once():
        from services.cli.arguments import parse

        options = parse(sys.argv[1:] if argv is None else argv)
        try:
            command = _load(options)
        except ModuleNotFoundError as error:
            return _missing(options.verb, error)
    try:
        return command(options)
    except ModuleNotFoundError as error:
        return _missing(options.verb, error)
    except KeyboardInterrupt:
        # Before there was anything to end in order.
        sys.stderr.write(signals.LINE)
        return signals.INTERRUPTED
    finally:
        if argv is None:
            signals.ignore()


def _load(options: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    """What carries out the command. Raises ModuleNotFoundError."""
    if options.verb == "agent":
        return _agent
    # Children are started by vfork; gRPC's fork handlers cost time and guard nothing here.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # A task's life is shown; gRPC's own words about a restarting service are not for the reader.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from services.cli.orders import arguments as orders
    from services.cli.tasks import arguments as tasks

    if options.verb == "up":
        from services.cli.up import up

        return up
    if options.verb == "validate":
        from services.cli.validate import validate

        return validate
    if options.verb in orders.VERBS or (options.verb == "kill" and options.agent is not None):
        from services.cli.orders import run as order

        return order
    if options.verb in tasks.VERBS:
        from services.cli.tasks import run as look

        return look
    from services.cli.run import run

    return run


def _agent(options: argparse.Namespace) -> int:
    for name in _AGENT_NEEDS:
        if importlib.util.find_spec(name) is None:
            return _say_missing(options.verb, name)
    # The agent itself: `ps` and its own restarts find it under one name, and -P: a directory `services` where the user
    # stands is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "services.local_agent", *options.flags])  # noqa: S606
    return _CANNOT_START


def _missing(verb: str, error: ModuleNotFoundError) -> int:
    name = (error.name or "").partition(".")[0]
    if name not in OPTIONAL:
        raise error
    return _say_missing(verb, name)


def _say_missing(verb: str, name: str) -> int:
    sys.stderr.write(f"trivet: `trivet {verb}` needs more than is installed ({name}): pip install 'trivet[cli]'\n")
    return _CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
