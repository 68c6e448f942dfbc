"""Opening a log in a sandbox that belongs to the task: whatever is there may have been put there to mislead us.

The driver may be root. So no symbolic link is followed, nothing but a regular file is opened, and none that has a
second name: a hard link may lead to a file that the task itself may not read.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not O_PATH: a watch needs the right to read.
_LAST_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO would block in open() until somebody writes.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class LogMissing(Exception):
    """There is no such file; the text names it."""


class LogRefused(Exception):
    """What is there is not read; the text says what it is."""


def open_directory(sandbox: str, path: str) -> tuple[int, str]:
    """Opens the directory of a log.

    Args:
        sandbox: Absolute; the way there is the agent's, so links in it are followed.
        path: Of the log, relative to `sandbox`.

    Returns:
        Its descriptor, and the log's name in it.

    Raises:
        LogMissing: A part of the way does not exist.
        LogRefused: A part of the way is no directory or a link, or leads out of the sandbox.
        OSError: Anything else.
    """
    parts = path.split("/")
    if not all(parts) or any(part in (".", "..") or "\0" in part for part in parts):
        raise LogRefused(f"{path}: not a path below the sandbox")
    here = os.open(sandbox, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, part in enumerate(parts[:-1], start=1):
        flags = _LAST_DIRECTORY if number == len(parts) - 1 else _DIRECTORY
        try:
            below = os.open(part, flags, dir_fd=here)
        except OSError as error:
            raise _explained(error, "/".join(parts[:number])) from error
        finally:
            os.close(here)
        here = below
    return here, parts[-1]


def open_file(directory: int, name: str, shown: str) -> int:
    """Opens a log in its directory; `shown` is what errors call it.

    Raises:
        LogMissing: There is none.
        LogRefused: It is no regular file, or one with a second name.
        OSError: Anything else.
    """
    try:
        fd = os.open(name, _FILE, dir_fd=directory)
    except OSError as error:
        raise _explained(error, shown) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise LogRefused(f"{shown}: not a regular file")
    if status.st_nlink > 1:
        os.close(fd)
        raise LogRefused(f"{shown}: has {status.st_nlink} names, so it may be another's file")
    return fd


def inode(directory: int, name: str) -> int:
    """Inode number of what has that name; 0: nothing has."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def _explained(error: OSError, shown: str) -> Exception:
    if error.errno == errno.ENOENT:
        return LogMissing(f"{shown}: no such file")
    if error.errno == errno.ELOOP:
        return LogRefused(f"{shown}: a symbolic link")
    if error.errno == errno.ENOTDIR:
        return LogRefused(f"{shown}: not a directory, or a symbolic link")
    if error.errno == errno.ENXIO:
        return LogRefused(f"{shown}: not a regular file")
    return OSError(error.errno, error.strerror, shown)
