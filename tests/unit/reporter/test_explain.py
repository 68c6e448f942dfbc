"""`ExplainTask`: order, causes, what is waited for, restarts and losses, bounded memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from services.reporter.explain import KEEP_NOTES, MAX_NOTES, Trace
from services.reporter.explain_view import AmbiguousTask, UnknownTask
from services.reporter.explain_words import MAX_TEXT, of_state, of_verdict
from tests.unit.reporter.desk import Desk
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Request = reporter_pb2.AttachRequest
KEY = TaskKey(EXECUTOR, "task", 1)
ACTIVE, CLEANING = link_pb2.TASK_PHASE_ACTIVE, link_pb2.TASK_PHASE_CLEANING
EXIT = link_pb2.RunEnd(process="web", run=0, exit=link_pb2.Exit(code=3), at=50.0)
KILL = link_pb2.Ending(cause=link_pb2.END_CAUSE_KILL, message="Killed by request", at=60.0, within_secs=30.0)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(str(tmp_path))
    yield made
    made.reporter.close()


def runner(
    version: int, phase: link_pb2.TaskPhase, *endings: link_pb2.Ending, gated: bool = False, message: str = ""
) -> link_pb2.TaskState:
    state = link_pb2.TaskState(
        key=KEY.to_pb(), version=version, phase=phase, started=True, gated=gated, message=message, endings=endings
    )
    if endings:
        state.end_cause = endings[0].cause
        state.run_ends.append(EXIT)
    return state


def failed(version: int = 9) -> link_pb2.TaskState:
    plan = link_pb2.Ending(cause=link_pb2.END_CAUSE_PLAN, message="process 'web' failed", at=50.0)
    return runner(version, link_pb2.TASK_PHASE_FAILED, plan, message="process 'web' failed")


def settle(desk: Desk, driver: DriverTask, *, acknowledge: bool = True) -> None:
    for proposal in desk.proposals():
        answer = driver.offer(proposal)
        desk.say(Request(answer=answer))
        if acknowledge:
            desk.say(Request(acknowledged={"key": answer.key, "ref": answer.ref, "uuid": answer.uuid}))


def ask(desk: Desk, **asked: str) -> reporter_pb2.ExplainTaskResponse:
    return desk.reporter.explain(reporter_pb2.ExplainTaskRequest(task_id="task", **asked))


def texts(answer: reporter_pb2.ExplainTaskResponse) -> list[str]:
    return [event.text for event in answer.trace]


def waits(answer: reporter_pb2.ExplainTaskResponse) -> list[str]:
    return [waiting.text for waiting in answer.waiting]


def begin(desk: Desk, *, gated: bool = False) -> DriverTask:
    driver = DriverTask(KEY, state=runner(1, ACTIVE, gated=gated))
    desk.attach([driver.hello()])
    settle(desk, driver)
    return driver


def test_from_the_exit_to_the_acknowledgement(desk: Desk) -> None:
    driver = begin(desk)
    desk.say(Request(task_state=failed()))
    settle(desk, driver)
    answer = ask(desk)
    assert texts(answer)[-6:] == [
        "process 'web' run 0 exited with status 3",
        "the plan has come to its end: process 'web' failed",
        "task failed: process 'web' failed",
        "TASK_FAILED #3 proposed: process 'web' failed",
        "TASK_FAILED #3 accepted by the driver",
        "TASK_FAILED #3 acknowledged by the agent",
    ]
    sources = [reporter_pb2.Source.Name(event.source) for event in answer.trace][-4:]
    assert sources == ["SOURCE_RUNNER", "SOURCE_REPORTER", "SOURCE_DRIVER", "SOURCE_AGENT"]
    learned = [event.at for event in answer.trace]
    assert learned == sorted(learned)
    assert answer.trace[-6].source_at == 50.0
    assert (answer.over, waits(answer)) == (True, [])
    assert answer.trace[-1].uuid == driver.answers[max(driver.answers, key=lambda ref: ref[1])].uuid


def test_a_restart_changes_nothing_and_repeats_nothing(desk: Desk) -> None:
    driver = begin(desk)
    driver.state = runner(2, CLEANING, KILL)
    desk.say(Request(task_state=driver.state))
    before = texts(ask(desk))
    desk.restart()
    assert texts(ask(desk)) == before
    for _ in range(2):
        desk.attach([driver.hello()])
    again = texts(ask(desk))
    assert [text for text in again if "driver" not in text or "#" in text] == [
        text for text in before if "driver" not in text or "#" in text
    ]
    desk.restart()
    assert texts(ask(desk)) == again


def test_the_first_end_is_the_cause_and_later_ones_only_hurry(desk: Desk) -> None:
    begin(desk)
    desk.say(Request(task_state=runner(2, CLEANING, KILL)))
    sooner = link_pb2.Ending(cause=link_pb2.END_CAUSE_SHUTDOWN, at=61.0)
    desk.say(Request(task_state=runner(3, CLEANING, KILL, sooner)))
    ends = [event.text for event in ask(desk).trace if event.kind == reporter_pb2.TRACE_KIND_END]
    assert ends == [
        "end begins, because of KILL of the scheduler, SIGKILL in 30 s at the latest: Killed by request",
        "end comes sooner, because of SHUTDOWN of the executor, SIGKILL at once",
    ]
    found = ask(desk).waiting
    assert [(found[0].text, found[0].since)] == [
        ("the task is ending (KILL of the scheduler), phase CLEANING: processes are left", 60.0)
    ]


def test_a_closed_gate_says_what_health_has_seen(desk: Desk) -> None:
    begin(desk, gated=True)
    assert waits(ask(desk)) == ["RUNNING waits for health: it has said nothing yet"]
    verdict = link_pb2.Verdict(key=KEY.to_pb(), version=1, consecutive_failures=2, message="status 503")
    desk.say(Request(verdict=verdict))
    desk.say(Request(verdict=verdict))
    answer = ask(desk)
    assert waits(answer) == ["RUNNING waits for health: successes in a row 0, failures 2; newest result: status 503"]
    assert texts(answer).count("not passed yet: status 503") == 1


def test_what_is_under_way_is_waited_for(desk: Desk) -> None:
    driver = DriverTask(KEY, state=runner(1, ACTIVE))
    desk.attach([driver.hello()])
    assert waits(ask(desk)) == [
        f"TASK_{state}: the driver has not answered the proposal" for state in ("STARTING #1", "RUNNING #2")
    ]
    settle(desk, driver, acknowledge=False)
    answer = ask(desk)
    assert waits(answer) == [
        f"TASK_{state}: the agent has not acknowledged it" for state in ("STARTING #1", "RUNNING #2")
    ]
    assert 0 < answer.waiting[0].since < answer.now
    desk.detach()
    answer = ask(desk)
    assert waits(answer)[0].startswith("the driver is not attached")
    assert (answer.attached, answer.waiting[0].since) == (False, answer.trace[-1].at)


def test_a_running_task_waits_for_nothing(desk: Desk) -> None:
    begin(desk)
    assert (ask(desk).over, waits(ask(desk))) == (False, [])


def test_a_lost_journal_is_said(desk: Desk) -> None:
    driver = begin(desk)
    desk.store.close()
    for name in os.listdir(f"{desk.state_dir}/tasks"):
        os.unlink(f"{desk.state_dir}/tasks/{name}")
    desk.start()
    desk.attach([driver.hello()])
    first = ask(desk).trace[0]
    assert first.kind == reporter_pb2.TRACE_KIND_GAP
    assert "the driver had accepted TASK_STARTING, TASK_RUNNING already" in first.text


def test_a_status_of_the_driver_itself_is_said(desk: Desk) -> None:
    driver = begin(desk)
    latch = link_pb2.Latch(state=mesos_pb2.TASK_KILLED, uuid=b"u" * 16, origin=link_pb2.LATCH_ORIGIN_DRIVER)
    desk.say(Request(latched=link_pb2.Latched(key=KEY.to_pb(), latch=latch)))
    latch.acknowledged = True
    desk.say(Request(latched=link_pb2.Latched(key=KEY.to_pb(), latch=latch)))
    driver.latch = latch
    desk.attach([driver.hello()])
    answer = ask(desk)
    assert [text for text in texts(answer) if "itself" in text] == [
        "the driver itself has sent TASK_KILLED: it could not wait for a proposal"
    ]
    assert answer.over


def test_a_task_that_is_over_is_explained_until_it_is_forgotten(desk: Desk) -> None:
    driver = begin(desk)
    desk.say(Request(task_state=failed()))
    settle(desk, driver)
    desk.say(Request(forget=link_pb2.Forget(key=KEY.to_pb())))
    answer = ask(desk)
    assert texts(answer)[-1] == "over: the driver has forgotten the task"
    desk.restart()
    assert list(ask(desk).trace) == list(answer.trace)
    with pytest.raises(UnknownTask, match=r"no task 'task'.*ListTaskStatuses"):
        ask(desk, executor_id="other")


def test_one_id_in_several_executors_has_to_be_told_apart_unless_one_is_attached(desk: Desk) -> None:
    begin(desk)
    first, desk.session = desk.session, None
    other = TaskKey(Executor("framework", "other", "i"), "task", 1)
    desk.attach([DriverTask(other).hello()], hello(executor=other.executor, tasks=1))
    with pytest.raises(AmbiguousTask, match="several executors have a task 'task': 'executor' of framework"):
        ask(desk)
    assert ask(desk, executor_id="other").key == other.to_pb()
    second, desk.session = desk.session, first
    desk.detach()
    # The first may have ended while the reporter was away.
    assert ask(desk).key == other.to_pb()
    assert ask(desk, executor_id="executor").key == KEY.to_pb()
    desk.session = second
    desk.detach()
    with pytest.raises(AmbiguousTask):
        ask(desk)


def test_health_that_flaps_for_ever_leaves_the_causes(desk: Desk) -> None:
    driver = begin(desk)
    desk.say(Request(task_state=runner(2, CLEANING, KILL)))
    for turn in range(5 * MAX_NOTES):
        verdict = link_pb2.Verdict(key=KEY.to_pb(), version=turn + 1, passed=True, healthy=turn % 2 == 0)
        desk.say(Request(verdict=verdict))
        # Said again each time: what was dropped must not come back.
        desk.say(Request(task_state=runner(3 + turn, CLEANING, KILL)))
    driver.state = failed(9999)
    answer = ask(desk)
    assert KEEP_NOTES <= len(answer.trace) <= MAX_NOTES
    assert answer.dropped > 3 * MAX_NOTES
    assert texts(answer).count("process 'web' run 0 exited with status 3") == 1
    assert any("KILL of the scheduler" in text for text in texts(answer))
    assert any(text.startswith("TASK_RUNNING #2 acknowledged") for text in texts(answer))
    desk.restart()
    replayed = ask(desk)
    assert (list(replayed.trace), replayed.dropped) == (list(answer.trace), answer.dropped)


def test_hostile_words_stay_on_one_short_line() -> None:
    nasty = "\x1b[2J\n\u202e" + "x" * 5000
    state = runner(1, CLEANING, link_pb2.Ending(cause=link_pb2.END_CAUSE_KILL, message=nasty, at=float("nan")))
    state.run_ends[0].process = nasty
    state.run_ends[0].exit.signal = 9999
    notes = [*of_state(state, 1.0), *of_verdict(link_pb2.Verdict(healthy=False, message=nasty), float("inf"))]
    assert len(notes) == 5
    for note in notes:
        assert note.text.isprintable()
        assert len(note.text) <= MAX_TEXT
        assert note.at in (0.0, 1.0)
        assert note.source_at in (0.0, 50.0)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (link_pb2.Exit(code=0), "exited with status 0"),
        (link_pb2.Exit(signal=9), "ended by SIGKILL"),
        (link_pb2.Exit(signal=11, core_dumped=True), "ended by SIGSEGV (core dumped)"),
        (None, "ended, and its exit status is not known"),
    ],
)
def test_how_a_run_ended(end: link_pb2.Exit | None, words: str) -> None:
    state = link_pb2.TaskState(run_ends=[link_pb2.RunEnd(process="p", run=2, exit=end, at=1.0)])
    assert [note.text for note in Trace().of_state(state, 2.0)] == [f"process 'p' run 2 {words}"]
