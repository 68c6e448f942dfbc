"""A task in words, for the author of its executor: what has come, and what the executor has written."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.testing.process import tail
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the agent tells of a task that was dropped before there was an executor.
NO_SANDBOX = Path()


def update_lines(updates: Sequence[mesos_pb2.TaskStatus]) -> list[str]:
    """A line for each update, or one that says that there is none."""
    return [f"  {_update(status)}" for status in updates] or ["  none"]


def executor_words(executor: agent_pb2.Executor) -> str:
    """`RUNNING, pid 12`, `TERMINATED, exit code 7`."""
    state = agent_pb2.ExecutorState.Name(executor.state).removeprefix("EXECUTOR_STATE_")
    if executor.launch_failure:
        return f"{state}: {executor.launch_failure}"
    if executor.HasField("exit_code"):
        return f"{state}, exit code {executor.exit_code}"
    if executor.HasField("exit_signal"):
        return f"{state}, signal {executor.exit_signal}"
    if executor.state == agent_pb2.EXECUTOR_STATE_REGISTERING:
        return f"{state}, pid {executor.pid}: it has not called SUBSCRIBE" + (
            " without being refused" if executor.refusals else ""
        )
    return f"{state}, pid {executor.pid}"


def mistake_lines(executor: agent_pb2.Executor | None, nobodys: Sequence[agent_pb2.Refusal]) -> list[str]:
    """What the agent has refused of an executor, and which of its updates did not count. Nothing: no lines.

    Args:
        executor: whose; None: the agent does not know it any more.
        nobodys: refusals that belong to no executor. They may be its own: with a wrong id, say.
    """
    lines = []
    if executor is not None:
        lines += [f"  {refusal_line(refusal)}" for refusal in executor.refusals]
        for update in executor.ignored_updates:
            lines.append(f"  UPDATE {update.state} of {update.task_id}: 202, but {update.reason}")
    for refusal in nobodys:
        whose = "whose is not known"
        if refusal.executor_id:
            ids = f"framework {refusal.framework_id!r}, executor {refusal.executor_id!r}"
            whose = f"of {ids}, which the agent does not know"
        lines.append(f"  {refusal_line(refusal)} ({whose})")
    # Who is refused tries again.
    folded = [(line, len(list(same))) for line, same in groupby(lines)]
    rows = [line if count == 1 else f"{line}, {count} times" for line, count in folded]
    return ["what was wrong with calls to the agent:", *rows] if rows else []


def refusal_line(refusal: agent_pb2.Refusal) -> str:
    """`UPDATE: 400 Not a valid UUID`."""
    return f"{refusal.call}: {refusal.status} {refusal.body}"


def output_lines(sandbox: Path) -> list[str]:
    """The ends of the executor's stdout and stderr; none when it was never to start, and has no sandbox."""
    lines: list[str] = []
    if sandbox == NO_SANDBOX:
        return lines
    for name in ("stdout", "stderr"):
        lines += [f"its {name}:", tail(str(sandbox / name)) or "(empty)"]
    return lines


def _update(status: mesos_pb2.TaskStatus) -> str:
    words = [mesos_pb2.TaskState.Name(status.state), mesos_pb2.TaskStatus.Source.Name(status.source)]
    if status.HasField("healthy"):
        words.append("healthy" if status.healthy else "unhealthy")
    if status.HasField("reason"):
        words.append(mesos_pb2.TaskStatus.Reason.Name(status.reason))
    return " ".join(words) + (f": {status.message}" if status.message else "")
