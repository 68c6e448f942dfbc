"""The short commands: kill, executors, fault, agent-restart. Each asks the agent once and prints the answer."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from services.cli.orders import FAILED, Failure
from services.local_agent.client.connection import AgentError
from trivet.agent.v1 import agent_pb2, faults_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from services.local_agent.client.connection import AgentClient


def kill(options: argparse.Namespace, client: AgentClient) -> int:
    """KILL to each task; 1 when one of them was not sent."""
    status = 0
    for task_id in options.tasks:
        request = agent_pb2.KillTaskRequest(task_id=task_id)
        if options.grace is not None:
            request.kill_policy.grace_period.nanoseconds = round(options.grace * 1e9)
        try:
            sent = client.ask("KillTask", request).sent
        except AgentError as error:
            if error.code != "NOT_FOUND":
                raise
            print(f"trivet: {task_id}: no task of this id was ever launched here", file=sys.stderr)
            status = FAILED
            continue
        if sent:
            print(f"{task_id}: KILL sent to its executor")
        else:
            print(
                f"trivet: {task_id}: no KILL sent: the task is over, or had not reached its executor (then it is "
                "TASK_KILLED now), or its executor has no stream (then Mesos loses the KILL: send it again)",
                file=sys.stderr,
            )
            status = FAILED
    return status


def executors(options: argparse.Namespace, client: AgentClient) -> int:
    """A table of executors."""
    rows = client.executors()
    if options.json:
        for row in rows:
            print(json.dumps(_executor(row)))
        return 0
    if not rows:
        print("no executors")
        return 0
    head = ("EXECUTOR", "STATE", "PID", "TASKS", "FRAMEWORK", "SANDBOX")
    _table(head, [_columns(row) for row in rows])
    return 0


def fault(options: argparse.Namespace, client: AgentClient) -> int:
    """Adds, lists or removes faults."""
    from services.local_agent.faults import spec

    if options.action == "add":
        try:
            wanted = spec.parse(" ".join(options.spec))
        except ValueError as error:
            raise Failure(str(error)) from None
        print(client.ask("AddFault", faults_pb2.AddFaultRequest(fault=wanted)).id)
        return 0
    if options.action == "remove":
        for name in client.ask("RemoveFaults", faults_pb2.RemoveFaultsRequest(id=options.id)).ids:
            print(name)
        return 0
    entries = client.ask("ListFaults", faults_pb2.ListFaultsRequest()).faults
    if options.json:
        for entry in entries:
            print(json.dumps(_fault(entry)))
    elif not entries:
        print("no faults")
    else:
        head = ("ID", "MATCHES", "STRIKES", "HELD", "STATE", "FAULT")
        _table(head, [[str(value) for value in _fault(entry).values()] for entry in entries])
    return 0


def restart(options: argparse.Namespace, client: AgentClient) -> int:
    """Ends the agent and lets it come back; waits for that unless told otherwise."""
    how = faults_pb2.RESTART_HOW_KILL if options.kill else faults_pb2.RESTART_HOW_TERM
    request = faults_pb2.RestartAgentRequest(
        how=how,
        gap_seconds=options.gap,
        not_found_seconds=options.not_found,
        unavailable_seconds=options.unavailable,
    )
    if options.wait:
        client.restart(request)
        print("the agent is back, and has recovered")
    else:
        client.ask("RestartAgent", request)
        print(f"the agent ends now and comes back after {options.gap:g} s")
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, AgentClient], int]] = {
    "kill": kill,
    "executors": executors,
    "fault": fault,
    "agent-restart": restart,
}


def _state(row: agent_pb2.Executor) -> str:
    return agent_pb2.ExecutorState.Name(row.state).removeprefix("EXECUTOR_STATE_")


def _executor(row: agent_pb2.Executor) -> dict[str, object]:
    return {
        "framework_id": row.framework_id,
        "executor_id": row.executor_id,
        "container_id": row.container_id,
        "state": _state(row),
        "pid": row.pid or None,
        "task_ids": list(row.task_ids),
        "sandbox": row.sandbox,
        "exit_code": row.exit_code if row.HasField("exit_code") else None,
        "exit_signal": row.exit_signal if row.HasField("exit_signal") else None,
        "launch_failure": row.launch_failure or None,
        "refusals": [{"call": entry.call, "status": entry.status, "body": entry.body} for entry in row.refusals],
        "ignored_updates": [
            {"task_id": entry.task_id, "state": entry.state, "reason": entry.reason} for entry in row.ignored_updates
        ],
    }


def _columns(row: agent_pb2.Executor) -> list[str]:
    state = _state(row)
    if row.HasField("exit_code"):
        state += f" (exit {row.exit_code})"
    elif row.HasField("exit_signal"):
        state += f" (signal {row.exit_signal})"
    pid = str(row.pid) if row.pid and row.state != agent_pb2.EXECUTOR_STATE_TERMINATED else "-"
    return [row.executor_id, state, pid, ",".join(row.task_ids) or "-", row.framework_id, os.path.normpath(row.sandbox)]


def _fault(entry: faults_pb2.FaultInForce) -> dict[str, object]:
    from services.local_agent.faults import spec

    bare = faults_pb2.Fault()
    bare.CopyFrom(entry.fault)
    bare.ClearField("id")
    return {
        "id": entry.fault.id,
        "matches": entry.matches,
        "strikes": entry.strikes,
        "held": entry.held,
        "state": "used up" if entry.used_up else "in force",
        "fault": spec.format(bare),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
