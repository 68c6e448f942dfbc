"""`trivet watch`: the updates of one task as its scheduler gets them, up to the terminal one."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from services.cli.events import TERMINAL_STATES, end_event, exit_status, status_event
from services.cli.orders import INTERRUPTED
from services.cli.views.texts import status_line

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2
    from services.local_agent.client.connection import AgentClient


def watch(client: AgentClient, task_id: str, *, as_json: bool, sandbox: str = "", since: float = 0.0) -> int:
    """Prints every update; returns the exit status for the terminal one.

    Args:
        client: the agent.
        task_id: the task.
        as_json: one object a line.
        sandbox: told at the end, when it is known.
        since: CLOCK_MONOTONIC, seconds; what came earlier is not shown.

    Raises:
        AgentError: the agent does not know the task.
    """
    try:
        for update in client.watch(task_id, since=since, interrupted=_away):
            status = update.status
            if as_json:
                print(json.dumps(status_event(status)), flush=True)
            else:
                print(f"{_clock(status)} {status_line(status_event(status))}", flush=True)
            # A terminal update from before the newest launch ended a former task of this id.
            if status.state in TERMINAL_STATES and update.received_at >= update.launch_written_at:
                _end(status, as_json=as_json, sandbox=sandbox)
                return exit_status(status.state)
    except KeyboardInterrupt:
        print(f"\ntrivet: not watching any more; the task goes on (trivet kill {task_id})", file=sys.stderr)
        return INTERRUPTED
    raise AssertionError("a watch has no end of its own")


def _end(status: mesos_pb2.TaskStatus, *, as_json: bool, sandbox: str) -> None:
    if as_json and sandbox:
        print(json.dumps(end_event(status.state, sandbox)), flush=True)
    elif sandbox and exit_status(status.state) == 1:
        print(f"the executor's output: {sandbox}/stdout and {sandbox}/stderr", flush=True)


def _clock(status: mesos_pb2.TaskStatus) -> str:
    """The update's own time."""
    at = status.timestamp if status.HasField("timestamp") else time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"


def _away() -> None:
    print("trivet: the agent is away, waiting for it", file=sys.stderr, flush=True)
