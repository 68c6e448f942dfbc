"""The unix socket on which executors may call instead of TCP (Mesos: unix domain socket)."""

from __future__ import annotations

import errno
import os
import socket
import stat

# Any user's executor connects (Mesos: DOMAIN_SOCKET_DEFAULT_MODE).
MODE = 0o666


def bind(path: str) -> socket.socket:
    """A bound socket; one that an earlier agent left there makes room.

    The file stays when the agent ends, as in Mesos: executors that live on get ECONNREFUSED and try again.

    Raises:
        OSError: The path cannot be used: something else is there, or somebody listens.
    """
    _make_room(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bound.bind(path)
        os.chmod(path, MODE)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, path) from error
    return bound


def remove(path: str) -> None:
    """Takes the file away: for an agent whose executors are gone too."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        # Somebody tidied up first.
        return


def _make_room(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        refused = probe.connect_ex(path) == errno.ECONNREFUSED
    if not refused:
        raise OSError(errno.EADDRINUSE, "another process listens there", path)
    os.unlink(path)
