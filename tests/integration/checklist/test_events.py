"""Items 4, 38, 39: what comes over the stream, however it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.checklist.bench import states

if TYPE_CHECKING:
    from tests.integration.checklist.bench import Bench

LIVE = ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_04_records_split_over_chunks(bench: Bench, size: int) -> None:
    bench.fault(event="EVENT_TYPE_ANY", rechunk={"chunkBytes": size})
    sleeper = bench.sleeper(mesos={"padding": "x" * 5000})
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert states(bench.tap.updates) == LIVE
    assert len(bench.tap.subscribes) == 1


def test_04_several_records_in_one_chunk(bench: Bench) -> None:
    joined = bench.fault(event="EVENT_TYPE_ANY", rechunk={"eventsPerChunk": 2})
    # SUBSCRIBED and LAUNCH; both acknowledgements.
    sleeper = bench.sleeper()
    executor = sleeper.task.executor()
    assert sleeper.task.kill()
    # KILL leaves with the next event.
    assert bench.send_message(executor.framework_id, executor.executor_id)
    sleeper.task.wait_for("TASK_KILLED")
    assert states(bench.tap.updates) == LIVE
    assert bench.strikes(joined) >= 6
    bench.mend()
    assert len(bench.tap.subscribes) == 1


def test_04_a_lost_record_border_makes_the_executor_subscribe_again(bench: Bench) -> None:
    sleeper = bench.sleeper()
    executor = sleeper.task.executor()
    bench.fault(event="EVENT_TYPE_MESSAGE", corrupt={"recordLength": "nonsense"}, times=1)
    bench.send_message(executor.framework_id, executor.executor_id)
    bench.tap.wait_subscribes(2)
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert states(bench.tap.updates) == LIVE


@pytest.mark.parametrize("number", [99, 2_000_000])
def test_38_an_unknown_event_type_is_ignored(bench: Bench, number: int) -> None:
    sleeper = bench.sleeper()
    executor = sleeper.task.executor()
    unknown = bench.fault(event="EVENT_TYPE_MESSAGE", corrupt={"eventType": number})
    assert bench.send_message(executor.framework_id, executor.executor_id)
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert bench.strikes(unknown) == 1
    assert states(bench.tap.updates) == LIVE
    # It is no reason for a new stream, and no driver has died of it.
    assert len(bench.tap.subscribes) == 1
    assert "has killed" not in bench.log_of(sleeper.task)


def test_39_a_task_of_16_mib(bench: Bench) -> None:
    sleeper = bench.sleeper(mesos={"padding": "x" * (16 << 20)})
    bench.fault(event="EVENT_TYPE_ACKNOWLEDGED", lose={})
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert states(bench.tap.updates) == LIVE


def test_39_a_task_of_16_mib_is_listed_whole(bench: Bench) -> None:
    bench.fault(event="EVENT_TYPE_ACKNOWLEDGED", lose={})
    sleeper = bench.sleeper(mesos={"padding": "x" * (16 << 20)})
    bench.tap.cut_stream()
    listed = bench.tap.wait_subscribes(2)[1].message.subscribe
    assert [len(task.data) >> 20 for task in listed.unacknowledged_tasks] == [16]
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
