"""What the scheduler received, in the recording and from our agent."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conformance.identities import Identities
    from tests.conformance.recording import Recording
    from tests.integration.local_agent.rig import AgentUnderTest


_AGENT_GONE = {mesos_pb2.TaskStatus.REASON_AGENT_DISCONNECTED, mesos_pb2.TaskStatus.REASON_AGENT_REMOVED}


@dataclass(frozen=True)
class Own:
    """What takes the place of recorded values. `began`: wall clock at the beginning of the replay, seconds."""

    identities: Identities
    began: float


def check(agent: AgentUnderTest, recording: Recording, task_ids: Iterable[str], skipped: set[str], own: Own) -> None:
    """Compares the statuses of every task."""
    theirs = _recorded(recording)
    pids = {executor.container_id: executor.pid for executor in agent.executors()}
    for task_id in {*theirs, *task_ids} - skipped:
        expected = [_with_our_container(_comparable(status), own.identities, pids) for status in theirs[task_id]]
        with agent.watch(task_id) as watch:
            received = [watch.next().status for _ in expected]
            _check_times(received, own.began)
            ours = [_comparable(status) for status in received]
            agent.executors()
            assert watch.empty(), watch.next()
        for position, (our_status, their_status) in enumerate(zip(ours, expected, strict=True)):
            assert our_status == their_status, (task_id, position)


def _recorded(recording: Recording) -> dict[str, list[mesos_pb2.TaskStatus]]:
    theirs: dict[str, list[mesos_pb2.TaskStatus]] = defaultdict(list)
    seen: set[bytes] = set()
    for status in recording.statuses:
        # Answers of the master to the scheduler's own mistakes.
        from_master = status.source == mesos_pb2.TaskStatus.SOURCE_MASTER and status.reason not in _AGENT_GONE
        # What the agent sends again until the scheduler acknowledges.
        again = bool(status.uuid) and status.uuid in seen
        if not from_master and not again:
            seen.add(status.uuid)
            theirs[status.task_id.value].append(status)
    return theirs


def _comparable(status: mesos_pb2.TaskStatus) -> mesos_pb2.TaskStatus:
    result = mesos_pb2.TaskStatus()
    result.CopyFrom(status)
    if result.source != mesos_pb2.TaskStatus.SOURCE_EXECUTOR:
        assert result.source == mesos_pb2.TaskStatus.SOURCE_MASTER or len(result.uuid) == 16
        result.ClearField("uuid")
        result.timestamp = 0
    if isinstance(result.message, bytes):
        # What the recording's scheduler could not read it noted as U+FFFD; the bytes themselves pass unchanged.
        result.message = result.message.decode(errors="replace")
    if result.message == "no timestamp":
        result.timestamp = 0
    return result


def _with_our_container(
    theirs: mesos_pb2.TaskStatus, identities: Identities, pids: dict[str, int]
) -> mesos_pb2.TaskStatus:
    container = theirs.container_status
    if theirs.HasField("container_status") and container.executor_pid:
        container_id = identities.translate(container.container_id.value.encode()).decode()
        assert container_id != container.container_id.value, "a container of the recording"
        container.container_id.value = container_id
        container.executor_pid = pids[container_id]
    return theirs


def _check_times(received: list[mesos_pb2.TaskStatus], began: float) -> None:
    """Those that our agent has made. The executors' own are compared as they are."""
    for status in received:
        if status.source != mesos_pb2.TaskStatus.SOURCE_EXECUTOR or status.message == "no timestamp":
            assert began <= status.timestamp <= time.time(), status
