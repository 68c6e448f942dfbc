"""Items 1 to 3, 24 to 27: the form of what the executor sends."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from tests.integration.checklist.bench import SUBSCRIBE, states, statuses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.checklist.bench import Bench
    from tests.integration.checklist.wiretap import Call

PROTOBUF = "application/x-protobuf"
# The reasons of Mesos that belong to executors, and no reason.
ALLOWED = {
    mesos_pb2.TaskStatus.REASON_TASK_INVALID,
    mesos_pb2.TaskStatus.REASON_TASK_UNAUTHORIZED,
    mesos_pb2.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED,
    mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED,
    mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED,
}


def every_kind_of_life(bench: Bench) -> list[Call]:
    """Tasks that end in each way that there is; returns all their UPDATE calls."""
    ended = {
        "finished": bench.launch({"processes": [{"name": "p", "cmdline": "true"}]}),
        "failed": bench.launch({"processes": [{"name": "p", "cmdline": "exit 3"}]}),
        "invalid": bench.launch({"processes": []}),
        "overtime": bench.launch({"processes": [{"name": "p", "cmdline": "sleep 600"}]}, edit=_overtime),
        "unhealthy": bench.launch(sick(bench)),
        "killed": bench.sleeper(capabilities=("PARTITION_AWARE", "TASK_KILLING_STATE")).task,
    }
    assert ended["killed"].kill()
    assert {name: task.wait_end() for name, task in ended.items()} == {
        "finished": "TASK_FINISHED",
        "failed": "TASK_FAILED",
        "invalid": "TASK_ERROR",
        "overtime": "TASK_FAILED",
        "unhealthy": "TASK_FAILED",
        "killed": "TASK_KILLED",
    }
    return bench.tap.updates


def _overtime(info: mesos_pb2.TaskInfo) -> None:
    info.max_completion_time.nanoseconds = 1


def sick(bench: Bench) -> dict[str, object]:
    """Healthy until it has run for a moment: passes its first check and fails the next ones."""
    seen = f"{bench.stack.dir}/seen"
    return {
        "task": {"processes": [{"name": "p", "cmdline": "exec sleep 600"}]},
        "health_check_config": {
            "health_checker": {"shell": {"shell_command": f"test ! -e {seen} && touch {seen}"}},
            "interval_secs": 0.1,
            "initial_interval_secs": 1,
            "timeout_secs": 5,
            "max_consecutive_failures": 1,
        },
    }


def test_01_subscribe_has_an_empty_subscribe(bench: Bench) -> None:
    sleeper = bench.sleeper()
    first = bench.tap.wait_subscribes(1)[0]
    assert first.message.HasField("subscribe")
    # Field 4, length 0: present although there is nothing in it.
    assert first.body.endswith(b"\x18\x01\x22\x00")
    # From here on there is nothing to list either.
    sleeper.task.wait_acknowledged("TASK_RUNNING")
    bench.tap.cut_stream()
    second = bench.tap.wait_subscribes(2)[1]
    assert second.body == first.body


def test_02_every_call_has_the_exact_content_type(bench: Bench) -> None:
    bench.sleeper()
    bench.tap.cut_stream()
    bench.tap.wait_subscribes(2)
    calls = bench.tap.calls
    assert {call.message.type for call in calls} == {1, 2}
    assert [call.headers("Content-Type") for call in calls] == [[PROTOBUF]] * len(calls)


def test_03_protobuf_is_negotiated(bench: Bench) -> None:
    bench.sleeper()
    subscribe = bench.tap.wait_subscribes(1)[0]
    # JSON would win if it were acceptable.
    assert subscribe.headers("Accept") == [PROTOBUF]
    answer = bench.tap.answer_head(subscribe)
    assert answer.startswith("HTTP/1.1 200 OK")
    assert f"Content-Type: {PROTOBUF}" in answer.split("\r\n")


def test_03_calls_do_not_share_the_connection_of_the_stream(bench: Bench) -> None:
    bench.sleeper()
    streams = {call.connection for call in bench.tap.subscribes}
    others = {call.connection for call in bench.tap.calls if call.message.type != SUBSCRIBE}
    assert others
    assert streams.isdisjoint(others)


def test_24_each_uuid_is_16_bytes_of_version_4_and_unique(bench: Bench) -> None:
    sent = statuses(every_kind_of_life(bench))
    found = [uuid.UUID(bytes=status.uuid) for status in sent]
    assert {(entry.version, entry.variant) for entry in found} == {(4, uuid.RFC_4122)}
    assert len(set(found)) == len(found)


def test_25_source_executor_and_timestamp_are_set_and_agent_id_is_right_or_unset(bench: Bench) -> None:
    for call in every_kind_of_life(bench):
        status = call.message.update.status
        assert status.HasField("source")
        assert status.source == mesos_pb2.TaskStatus.SOURCE_EXECUTOR
        assert status.executor_id == call.message.executor_id
        assert status.timestamp > 1.6e9
        assert not status.HasField("agent_id")


def test_26_no_reason_but_those_of_executors(bench: Bench) -> None:
    calls = every_kind_of_life(bench)
    reasons = {status.reason for status in statuses(calls) if status.HasField("reason")}
    assert reasons <= ALLOWED
    assert mesos_pb2.TaskStatus.REASON_TASK_INVALID in reasons
    assert mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED in reasons


def test_27_healthy_is_unset_without_a_health_check(bench: Bench) -> None:
    calls = every_kind_of_life(bench)
    told = {status.task_id.value for status in statuses(calls) if status.HasField("healthy")}
    # Only the one task that has a check.
    assert len(told) == 1
    assert {status.healthy for status in _of(calls, told) if status.HasField("healthy")} == {True, False}
    assert states(calls).count("TASK_RUNNING") >= 3


def _of(calls: list[Call], task_ids: set[str]) -> Iterator[mesos_pb2.TaskStatus]:
    return (status for status in statuses(calls) if status.task_id.value in task_ids)
