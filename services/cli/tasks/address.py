"""Where running services are. Standard library only: looked for before anything else is loaded."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "TRIVET_RUN_DIR"
DEFAULT = "/run/trivet"
# sockaddr_un.sun_path without its terminating zero.
MAX_SOCKET_PATH = 107
_SERVICES = ("runner", "health", "reporter")
_OTHERS = (*_SERVICES, *(f"{service}-admin" for service in _SERVICES))
_PROBE_SECS = 5.0


class NoService(Exception):
    """There is no service to ask; the text says where it was looked for and what to do next."""


def find(given: str | None, environment: Mapping[str, str], service: str = "runner") -> str:
    """The directory of the services' sockets. The service need not listen there at this moment.

    Args:
        given: the directory, or one that has it in `run/` (`trivet up --dir DIR`).
        environment: where TRIVET_RUN_DIR is looked up when nothing is given.
        service: who shall be asked.

    Raises:
        NoService: no service was ever there, or it is another user's.
    """
    path = os.path.abspath(given or environment.get(VARIABLE) or DEFAULT)
    candidates = (path, os.path.join(path, "run"))
    name = f"{service}-admin"
    for names in ((name,), _OTHERS):
        for candidate in candidates:
            if any(os.path.lexists(_socket(candidate, name)) for name in names):
                _refuse_foreign(_socket(candidate, name))
                return candidate
    raise NoService(_nothing_there(path, name, named=bool(given or environment.get(VARIABLE))))


def state(directory: str, service: str, words: str) -> str:
    """What can be said of a service that does not answer, in a few words; empty: somebody listens.

    Args:
        directory: of its socket.
        service: its name.
        words: what people call it.
    """
    path = _socket(directory, f"{service}-admin")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECS)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return f"{path}: there is no such socket"
        except ConnectionRefusedError:
            return f"{path}: nobody listens: {words} has ended"
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return ""


def _socket(directory: str, name: str) -> str:
    return os.path.join(directory, f"{name}.sock")


def _refuse_foreign(path: str) -> None:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise NoService(f"{path}: too long for a unix socket, which has {MAX_SOCKET_PATH} bytes for its path")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        owner = os.stat(path).st_uid
        raise NoService(f"{path}: permission denied: only the services' user (uid {owner}) and root may ask them")


def _nothing_there(path: str, name: str, *, named: bool) -> str:
    what = f"no services here (there is no {name}.sock)" if os.path.isdir(path) else "there is no such directory"
    todo = "" if named else f"\nName the directory of their sockets with --run-dir DIR, or with: export {VARIABLE}=DIR"
    return f"{path}: {what}{todo}\nTo start the services: trivet up --dir DIR (then --run-dir DIR)"
