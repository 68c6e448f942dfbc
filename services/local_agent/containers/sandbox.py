"""The executor's sandbox: Mesos' layout, the files of its output, its owner."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.local_agent.containers.contract import User


def make(sandbox: str, user: User | None) -> None:
    """The directory, and `latest` beside it. Raises OSError."""
    os.makedirs(sandbox, mode=0o755)
    if user is not None:
        os.chown(sandbox, user.uid, user.gid)
    runs, container_id = os.path.split(sandbox)
    temporary = os.path.join(runs, f".latest.{container_id}")
    os.symlink(container_id, temporary)
    os.rename(temporary, os.path.join(runs, "latest"))


def open_output(sandbox: str, user: User | None) -> tuple[int, int]:
    """Descriptors of `stdout` and `stderr`. Raises OSError."""
    out = _open(os.path.join(sandbox, "stdout"), user)
    try:
        return out, _open(os.path.join(sandbox, "stderr"), user)
    except OSError:
        os.close(out)
        raise


def _open(path: str, user: User | None) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    # The sandbox may belong to somebody else already, who must not make root write to a file of his choice.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_EXCL, 0o644)
    if user is not None:
        os.fchown(descriptor, user.uid, user.gid)
    return descriptor
