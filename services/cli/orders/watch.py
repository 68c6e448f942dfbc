"""`trivet watch`: the updates of one task as its scheduler gets them, up to the terminal one."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.cli.children import tail
from services.cli.events import TERMINAL_STATES, exit_status, status_event
from services.cli.orders import INTERRUPTED
from services.cli.orders.guard import guard
from services.cli.views.texts import printable, signal_name, status_line
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.local_agent.client.connection import AgentClient


def watch(client: AgentClient, task_id: str, *, as_json: bool, container_id: str = "", since: float = 0.0) -> int:
    """Prints every update, and at the end how the executor is; returns the exit status for the terminal update.

    Args:
        client: the agent.
        task_id: the task.
        as_json: one object a line.
        container_id: the executor's; empty: the newest one with the executor id of the terminal update.
        since: CLOCK_MONOTONIC, seconds; what came earlier is not shown.

    Raises:
        AgentError: the agent does not know the task; UNAVAILABLE: it has ended, and does not come back.
    """
    guard(client)
    try:
        for update in client.watch(task_id, since=since, interrupted=_away):
            status = update.status
            if as_json:
                print(json.dumps(status_event(status)), flush=True)
            else:
                print(f"{_clock(status)} {status_line(status_event(status))}", flush=True)
            # A terminal update from before the newest launch ended a former task of this id.
            if status.state in TERMINAL_STATES and update.received_at >= update.launch_written_at:
                _end(client, status, container_id, as_json=as_json)
                return exit_status(status.state)
    except KeyboardInterrupt:
        print(f"\ntrivet: not watching any more; the task goes on (trivet kill {task_id})", file=sys.stderr)
        return INTERRUPTED
    raise AssertionError("a watch has no end of its own")


def _end(client: AgentClient, status: mesos_pb2.TaskStatus, container_id: str, *, as_json: bool) -> None:
    answer: agent_pb2.ListExecutorsResponse = client.ask("ListExecutors", agent_pb2.ListExecutorsRequest())
    executor = None
    for row in answer.executors:
        if row.container_id == container_id or (not container_id and row.executor_id == status.executor_id.value):
            executor = row
    if as_json:
        # Of a task that was dropped, or whose executor is forgotten, nothing more is known.
        sandbox, code, number = None, None, None
        if executor is not None:
            sandbox = executor.sandbox
            code = executor.exit_code if executor.HasField("exit_code") else None
            number = executor.exit_signal if executor.HasField("exit_signal") else None
        event = {"type": "end", "state": mesos_pb2.TaskState.Name(status.state), "sandbox": sandbox}
        print(json.dumps(event | {"exit_code": code, "exit_signal": number}), flush=True)
    elif executor is not None and exit_status(status.state) == 1:
        # A call that cannot be read, or has a wrong id, belongs to nobody; it may be this executor's.
        nobodys = [refusal for refusal in answer.refusals if refusal.at >= executor.launched_at]
        for line in _post_mortem(executor, [*executor.refusals, *nobodys]):
            print(line, flush=True)


def _post_mortem(executor: agent_pb2.Executor, refusals: Iterable[agent_pb2.Refusal]) -> Iterator[str]:
    """What the author of the executor wants to know first."""
    if executor.launch_failure:
        yield f"the executor did not start: {printable(executor.launch_failure)}"
    elif executor.HasField("exit_code"):
        yield f"the executor has ended, exit {executor.exit_code}"
    elif executor.HasField("exit_signal"):
        yield f"the executor has ended, {signal_name(executor.exit_signal)}"
    elif executor.state != agent_pb2.EXECUTOR_STATE_TERMINATED:
        yield f"the executor has not ended yet (pid {executor.pid})"
    # Who is refused tries again: each text once.
    for line in dict.fromkeys(f"{refusal.call}: {refusal.status} {refusal.body}" for refusal in refusals):
        yield f"refused: {printable(line)}"
    lines = tail(os.path.join(executor.sandbox, "stderr")).splitlines()
    if lines:
        yield f"last on its stderr: {printable(lines[-1])}"
    yield f"its output: {executor.sandbox} (stdout, stderr)"


def _clock(status: mesos_pb2.TaskStatus) -> str:
    """The update's own time."""
    at = status.timestamp if status.HasField("timestamp") else time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"


def _away() -> None:
    print("trivet: the agent is away, waiting for it", file=sys.stderr, flush=True)
