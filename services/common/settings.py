"""Command line of the services."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.common.attach import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# sockaddr_un.sun_path with its terminating zero.
MAX_SOCKET_PATH = 107


@dataclass(frozen=True)
class Settings:
    """What every service is started with."""

    run_dir: str
    state_dir: str
    options: argparse.Namespace


def parse(
    argv: Sequence[str],
    *,
    name: str,
    description: str,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> Settings:
    """Reads the command line; prints help or an error and raises SystemExit where due."""
    parser = argparse.ArgumentParser(
        prog=f"trivet-{name}", description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--run-dir",
        required=True,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help=f"where the sockets are made: {name}.sock for executors, {name}-admin.sock for operators",
    )
    parser.add_argument(
        "--state-dir",
        required=True,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where the journal is kept; one service a directory",
    )
    parser.add_argument(
        "--wait-for-lock",
        type=float,
        default=0.0,
        metavar="SECS",
        help="wait for the previous version to stop and to release the state directory",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="on stderr")
    parser.add_argument("--version", action="version", version=VERSION)
    if add_options is not None:
        add_options(parser)
    options = parser.parse_args(argv)
    run_dir = os.path.abspath(options.run_dir)
    longest = os.path.join(run_dir, f".{name}-admin.4194304.sock")
    if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
        parser.error(
            f"--run-dir: {run_dir} is too long for a unix socket (at most {MAX_SOCKET_PATH} bytes with the name): "
            "use a shorter directory"
        )
    return Settings(run_dir=run_dir, state_dir=os.path.abspath(options.state_dir), options=options)
