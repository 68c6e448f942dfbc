"""Whom an executor runs as (Mesos: --switch_user)."""

from __future__ import annotations

import os
import pwd

from services.local_agent.containers.contract import LaunchFailed, User


def resolve(name: str) -> User | None:
    """The user of this name or number; None: the agent's own, or the agent is not root and cannot be another's.

    Raises:
        LaunchFailed: There is no such user.
    """
    if os.geteuid() != 0 or not name:
        return None
    try:
        entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, ValueError):
        # ValueError: what no name can be, such as one with a zero byte.
        raise LaunchFailed(f"no user {name!r} on this machine") from None
    if entry.pw_uid == 0:
        return None
    return User(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))
