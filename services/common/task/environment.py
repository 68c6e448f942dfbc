"""What a process of a task finds around itself: the same for its regular processes and for probes that are commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.common.task.load import LoadedTask

SANDBOX = "sandbox"
"""Working directory and home, relative to the executor's sandbox."""

PROFILE = f"{SANDBOX}/.thermos_profile"
"""What bash reads first, if it is there (Thermos)."""


def user_of(loaded: LoadedTask, uid: int) -> str:
    """Who runs the processes; empty: whoever the executor is.

    A user that the task names itself is always asked for: an executor that may not change users refuses the start and
    says so. An Aurora role is a user only where that is possible.

    Args:
        loaded: The task.
        uid: The executor's effective user id.
    """
    return loaded.user if uid == 0 or loaded.task.task.user else ""


def environment_of(sandbox: str, user: str) -> dict[str, str]:
    """Variables that every process of a task has. PATH and the profile are left to the executor: only it knows them.

    Args:
        sandbox: The executor's, as the processes see it.
        user: Who runs the process; empty: the executor's own user, whose name only the executor knows.
    """
    env = {"HOME": f"{sandbox}/{SANDBOX}"}
    if user:
        env["USER"] = env["LOGNAME"] = user
    return env
