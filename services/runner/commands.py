"""What the hands are asked to do: messages to the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common.task.environment import PROFILE, SANDBOX, environment_of, user_of
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from services.common.keys import TaskKey
    from services.common.task import LoadedTask
    from services.common.task.lifecycle import Lifecycle
    from services.runner.header import Facts
    from trivet.task.v1 import task_pb2

# In the sandbox: a directory of logs for each process.
LOGS = ".logs"


def start(key: TaskKey, facts: Facts, user: str, process: task_pb2.Process, run: int) -> runner_pb2.AttachResponse:
    """Start one run. `PATH` is left to the driver: only it knows the executor's."""
    logs = log_directory(process.name, run)
    return runner_pb2.AttachResponse(
        start=runner_pb2.Start(
            key=key.to_pb(),
            process=process.name,
            run=run,
            argv=["/bin/bash", "-c", process.cmdline],
            env=environment_of(facts.sandbox, user),
            cwd=SANDBOX,
            user=user,
            stdout=f"{logs}/stdout",
            stderr=f"{logs}/stderr",
            profile=PROFILE,
            logging=logging_of(process),
        )
    )


def log_directory(process: str, run: int) -> str:
    """Where the output of a run goes, relative to the executor's sandbox."""
    return f"{SANDBOX}/{LOGS}/{process}/{run}"


def logging_of(process: task_pb2.Process) -> runner_pb2.Logging | None:
    """What becomes of a process's output; None: the task does not say, the executor's options do (Thermos: Logger)."""
    if not process.HasField("logger"):
        return None
    logger = process.logger
    logging = runner_pb2.Logging(
        file=logger.destination in ("file", "both"), console=logger.destination in ("console", "both")
    )
    if logger.mode == "rotate":
        logging.log_size, logging.backups = logger.rotate.log_size, logger.rotate.backups
    return logging


def lifecycle(key: TaskKey, endpoints: Lifecycle, step: int, until: float) -> runner_pb2.AttachResponse:
    """Ask the task to end: its endpoint number `step`; an answer after `until` (CLOCK_BOOTTIME) is of no use."""
    path, _ = endpoints.steps[step]
    return runner_pb2.AttachResponse(
        lifecycle=runner_pb2.Lifecycle(key=key.to_pb(), step=step, port=endpoints.port, path=path, until=until)
    )


def stop_run(key: TaskKey, process: str, run: int) -> runner_pb2.AttachResponse:
    """End one run that was given up."""
    return runner_pb2.AttachResponse(stop_run=runner_pb2.StopRun(key=key.to_pb(), process=process, run=run))


def terminate(key: TaskKey, kill_at: float) -> runner_pb2.AttachResponse:
    """End everything of a task."""
    return runner_pb2.AttachResponse(terminate=runner_pb2.Terminate(key=key.to_pb(), kill_at=kill_at))


def warnings(loaded: LoadedTask, facts: Facts) -> list[str]:
    """What of a valid task is not acted on."""
    texts = []
    if loaded.user and not user_of(loaded, facts.uid):
        texts.append(f"role '{loaded.user}': the executor is not root, processes run as its own user")
    return texts
