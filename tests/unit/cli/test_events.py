"""Each status and each transition once, however often and late it is seen."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos.v1 import mesos_pb2
from services.cli.events import Event, Statuses, Transitions, end_event, exit_status, status_event
from trivet.runner.v1 import runner_pb2

WAITING = runner_pb2.PROCESS_STATE_WAITING
FORKED = runner_pb2.PROCESS_STATE_FORKED
RUNNING = runner_pb2.PROCESS_STATE_RUNNING
ENDS = ["SUCCESS", "FAILED", "KILLED", "LOST"]


def history(
    process: str, number: int, start: float, end: str, steps: tuple[int, ...] = (0, 1, 2)
) -> list[runner_pb2.ProcessRun]:
    """A run as it looks after each of its transitions; `steps` are those that it makes before its end."""
    run = runner_pb2.ProcessRun(process=process, run=number)
    seen = []
    for step in steps:
        at = start + step
        if step == 0:
            run.state, run.waiting_at = WAITING, at
        elif step == 1:
            run.state, run.forked_at = FORKED, at
        else:
            run.state, run.running_at, run.pid = RUNNING, at, 100 + number
        seen.append(runner_pb2.ProcessRun.FromString(run.SerializeToString()))
    run.MergeFrom(runner_pb2.ProcessRun(state=f"PROCESS_STATE_{end}"))
    run.ended_at = start + 3
    if end == "SUCCESS":
        run.exit.code = 0
    elif end == "FAILED":
        run.exit.code = 7
    elif end == "KILLED":
        run.exit.signal = 9
    return [*seen, run]


def states(events: list[Event]) -> list[tuple[str, int, str]]:
    return [(event["process"], event["run"], event["state"]) for event in events]


def test_a_transition_has_the_fields_of_its_moment() -> None:
    failed = history("a", 3, 10.0, "FAILED")[-1]
    base = {"type": "process", "process": "a", "run": 3, "exit_code": None, "signal": None}
    assert Transitions().observe([failed]) == [
        base | {"state": "WAITING", "pid": None},
        base | {"state": "FORKED", "pid": None},
        base | {"state": "RUNNING", "pid": 103},
        base | {"state": "FAILED", "pid": 103, "exit_code": 7},
    ]
    assert Transitions().observe([history("a", 0, 1.0, "KILLED")[-1]])[-1]["signal"] == 9
    assert Transitions().observe([history("a", 0, 1.0, "SUCCESS")[-1]])[-1]["exit_code"] == 0
    lost = Transitions().observe([history("a", 0, 1.0, "LOST")[-1]])[-1]
    assert (lost["exit_code"], lost["signal"]) == (None, None)


def test_a_state_that_a_run_never_had_is_not_made_up() -> None:
    never_started = history("a", 0, 1.0, "FAILED", steps=(0, 1))[-1]
    assert [state for *_, state in states(Transitions().observe([never_started]))] == ["WAITING", "FORKED", "FAILED"]


def test_an_older_view_of_a_run_changes_nothing() -> None:
    seen = Transitions()
    runs = history("a", 0, 1.0, "SUCCESS")
    seen.observe([runs[2]])
    assert seen.observe([runs[0]]) == []
    assert seen.observe([runs[2]]) == []


def test_runs_that_were_missed_come_in_the_order_of_their_times() -> None:
    runs = [
        history("b", 0, 2.5, "SUCCESS")[-1],
        history("a", 1, 10.0, "SUCCESS")[-1],
        history("a", 0, 1.0, "FAILED")[-1],
    ]
    assert states(Transitions().observe(runs)) == [
        ("a", 0, "WAITING"),
        ("a", 0, "FORKED"),
        ("b", 0, "WAITING"),
        ("a", 0, "RUNNING"),
        ("b", 0, "FORKED"),
        ("a", 0, "FAILED"),
        ("b", 0, "RUNNING"),
        ("b", 0, "SUCCESS"),
        ("a", 1, "WAITING"),
        ("a", 1, "FORKED"),
        ("a", 1, "RUNNING"),
        ("a", 1, "SUCCESS"),
    ]


@given(st.data())
def test_any_way_of_looking_shows_each_transition_once_and_in_order(data: st.DataObject) -> None:
    # Run by run, with a clock that may jump back between runs; each seen whole, again, late, or only at its end.
    story = [
        step
        for number, end in enumerate(data.draw(st.lists(st.sampled_from(ENDS), min_size=1, max_size=4)))
        for step in history("a", number, data.draw(st.integers(1, 50)), end)
    ]
    whole = states(Transitions().observe(story))
    seen = Transitions()
    shown: list[Event] = []
    newest: dict[int, runner_pb2.ProcessRun] = {}
    for step in story:
        newest[step.run] = step
        look = data.draw(st.sampled_from(["change", "nothing", "all", "twice"]))
        if look == "change":
            # The watch is in order, so whatever was missed before was caught up with when it was opened again.
            shown += seen.observe(newest.values())
            shown += seen.observe([step])
        elif look == "all":
            shown += seen.observe(newest.values())
        elif look == "twice":
            shown += seen.observe(newest.values())
            shown += seen.observe(newest.values())
    shown += seen.observe(newest.values())
    assert states(shown) == whole
    assert len(set(whole)) == len(whole) == len(story)


def status(**fields: object) -> mesos_pb2.TaskStatus:
    made = mesos_pb2.TaskStatus(state=mesos_pb2.TASK_RUNNING, **fields)  # type: ignore[arg-type]
    made.task_id.value = "t"
    return made


def test_a_status_has_mesos_names_and_null_for_what_is_not_set() -> None:
    key = uuid.uuid4()
    full = status(
        message="m",
        healthy=True,
        timestamp=1.5,
        uuid=key.bytes,
        source=mesos_pb2.TaskStatus.SOURCE_EXECUTOR,
        reason=mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED,
    )
    assert json.loads(json.dumps(status_event(full))) == {
        "type": "status",
        "task_id": "t",
        "state": "TASK_RUNNING",
        "reason": "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
        "message": "m",
        "healthy": True,
        "source": "SOURCE_EXECUTOR",
        "timestamp": 1.5,
        "uuid": str(key),
    }
    empty = status_event(status())
    assert [name for name, value in empty.items() if value is None] == [
        "reason",
        "message",
        "healthy",
        "source",
        "timestamp",
        "uuid",
    ]


def test_a_status_that_comes_again_is_not_shown_again() -> None:
    statuses = Statuses()
    first, second = status(uuid=b"1" * 16), status(uuid=b"2" * 16)
    unnamed = status(message="no uuid")
    shown = [statuses.observe(each) for each in (first, unnamed, first, second, unnamed, second)]
    assert [event is not None for event in shown] == [True, True, False, True, False, False]


@pytest.mark.parametrize(
    ("state", "code"),
    [("TASK_FINISHED", 0), ("TASK_KILLED", 130), ("TASK_FAILED", 1), ("TASK_ERROR", 1), ("TASK_LOST", 1)],
)
def test_the_exit_status_follows_the_last_state(state: str, code: int) -> None:
    number = mesos_pb2.TaskState.Value(state)
    assert exit_status(number) == code
    assert end_event(number, "/s") == {"type": "end", "state": state, "sandbox": "/s"}
