"""What the hands are asked to do: messages to the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from services.common.keys import TaskKey
    from services.common.task import LoadedTask
    from services.runner.header import Facts

SANDBOX = "sandbox"


def start(key: TaskKey, facts: Facts, user: str, process: str, run: int, cmdline: str) -> runner_pb2.AttachResponse:
    """Start one run. `PATH` is left to the driver: only it knows the executor's."""
    env = {"HOME": f"{facts.sandbox}/{SANDBOX}"}
    if user:
        env["USER"] = env["LOGNAME"] = user
    logs = f"{SANDBOX}/.logs/{process}/{run}"
    return runner_pb2.AttachResponse(
        start=runner_pb2.Start(
            key=key.to_pb(),
            process=process,
            run=run,
            argv=["/bin/bash", "-c", cmdline],
            env=env,
            cwd=SANDBOX,
            user=user,
            stdout=f"{logs}/stdout",
            stderr=f"{logs}/stderr",
            profile=f"{SANDBOX}/.thermos_profile",
        )
    )


def terminate(key: TaskKey, kill_at: float) -> runner_pb2.AttachResponse:
    """End everything of a task."""
    return runner_pb2.AttachResponse(terminate=runner_pb2.Terminate(key=key.to_pb(), kill_at=kill_at))


def user_of(loaded: LoadedTask, facts: Facts) -> str:
    """Who runs the processes; empty: whoever the executor is.

    A user that the task names itself is always asked for: an executor that may not change users refuses the start and
    says so. An Aurora role is a user only where that is possible.
    """
    if facts.uid == 0 or loaded.task.task.user:
        return loaded.user
    return ""


def warnings(loaded: LoadedTask, facts: Facts) -> list[str]:
    """What of a valid task is not acted on."""
    texts = []
    if loaded.user and not user_of(loaded, facts):
        texts.append(f"role '{loaded.user}': the executor is not root, processes run as its own user")
    for index, process in enumerate(loaded.task.task.processes):
        logger = process.logger
        if logger.destination != "file" or logger.mode != "standard":
            texts.append(
                f"task.processes[{index}].logger: {logger.destination}, {logger.mode}: "
                "not acted on yet: file, standard is used"
            )
    return texts
