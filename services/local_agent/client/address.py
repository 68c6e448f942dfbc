"""Where a running agent's control socket is. Standard library only: looked for before anything else is loaded."""

from __future__ import annotations

import os
import socket
import stat
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "TRIVET_AGENT"
SOCKET = "agent.sock"
# sockaddr_un.sun_path without its terminating zero.
MAX_SOCKET_PATH = 107
_CONNECT_SECS = 5.0


class NoAgent(Exception):
    """There is no agent to talk to; the text says where it was looked for and what to do next."""


def find(given: str | None, environment: Mapping[str, str]) -> str:
    """The control socket of the agent that `given` or TRIVET_AGENT names; somebody listens there.

    Args:
        given: the socket, or a directory: the agent's run or work directory, or one that has it in `run/`.
        environment: where TRIVET_AGENT is looked up when nothing is given.

    Raises:
        NoAgent: none is named, or nobody listens where it should be.
    """
    name = given or environment.get(VARIABLE, "")
    if not name:
        raise NoAgent(
            f"which agent? Name its directory with --agent DIR, or once and for all with: export {VARIABLE}=DIR\n"
            "To start one: trivet agent --work-dir DIR"
        )
    path = os.path.abspath(name)
    candidates = [path, os.path.join(path, SOCKET), os.path.join(path, "run", SOCKET)]
    found = next((candidate for candidate in candidates if _is_socket(candidate)), None)
    if found is None:
        raise NoAgent(_nothing_there(path))
    _require_listener(found)
    return found


def process(path: str) -> tuple[int, int]:
    """The process that listens at a control socket.

    Returns:
        Process id and pidfd, which the caller closes; 0 and -1: it is in another pid namespace.

    Raises:
        OSError: nobody listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECS)
        probe.connect(path)
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return (pid, os.pidfd_open(pid)) if pid else (0, -1)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _nothing_there(path: str) -> str:
    if not os.path.exists(path):
        return f"{path}: there is no such directory or socket\nTo start an agent: trivet agent --work-dir {path}"
    if not os.path.isdir(path):
        return f"{path}: neither a directory nor a socket\nGive the directory of an agent, or its {SOCKET}"
    if os.path.isdir(os.path.join(path, "meta")):
        return (
            f"{path}: an agent's work directory, but there is no {SOCKET} in it\n"
            f"If the agent was started with --run-dir, give that directory. To start it: trivet agent --work-dir {path}"
        )
    return f"{path}: no agent here (there is no {SOCKET})\nTo start one: trivet agent --work-dir DIR"


def _require_listener(path: str) -> None:
    """A socket file that a killed agent has left behind answers nobody."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise NoAgent(f"{path}: too long for a unix socket, which has {MAX_SOCKET_PATH} bytes for its path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            raise NoAgent(
                f"{path}: nobody listens: the agent has ended without tidying up\n"
                "Start it again with its old flags: trivet agent --work-dir DIR"
            ) from None
        except PermissionError:
            raise NoAgent(f"{path}: permission denied: the agent belongs to another user") from None
        except OSError as error:
            raise NoAgent(f"{path}: {error.strerror or error}") from error
