"""One task's proposals: refs, answers, Hellos, replay, bounded memory."""

from __future__ import annotations

from mesos.v1 import mesos_pb2
from services.common.keys import TaskKey
from services.reporter import records as rec
from services.reporter.chain import Stage
from services.reporter.task import KEEP_HEALTH_UPDATES, Entry, ReportedTask
from services.reporter.writer import StatusWriter
from tests.unit.reporter.driver_model import EXECUTOR
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

KEY = TaskKey(EXECUTOR, "task", 1)
OPENED = rec.Opened(KEY, "epoch")
ACTIVE = link_pb2.TASK_PHASE_ACTIVE


def live(journal: list[rec.Record], *, gated: bool = False) -> ReportedTask:
    """A task that has proposed STARTING and RUNNING."""
    task = ReportedTask(OPENED)
    journal.append(OPENED)
    task.chain.take_state(link_pb2.TaskState(version=1, phase=ACTIVE, started=True, gated=gated, health_checked=True))
    task.chain.take_verdict(link_pb2.Verdict(version=1, passed=True))
    propose(task, journal)
    return task


def propose(task: ReportedTask, journal: list[rec.Record], now: float = 100.0) -> list[Entry]:
    before = len(task.entries)
    while (record := task.propose(now, now + 1e9, StatusWriter())) is not None:
        note(task, journal, [record])
    return task.entries[before:]


def note(task: ReportedTask, journal: list[rec.Record], records: list[rec.Record]) -> None:
    for record in records:
        task.apply(record)
        journal.append(record)


def ref(n: int, epoch: str = "epoch") -> link_pb2.ProposalRef:
    return link_pb2.ProposalRef(epoch=epoch, n=n)


def answer(n: int, rejection: int = 0, epoch: str = "epoch") -> reporter_pb2.Answer:
    made = reporter_pb2.Answer(ref=ref(n, epoch), uuid=b"u" * 16)
    made.rejection = rejection  # type: ignore[assignment]  # any number may arrive
    return made


def deliveries(task: ReportedTask) -> list[int]:
    return [entry.delivery for entry in task.entries]


def test_proposals_are_counted_from_one_and_carry_state_id_and_time() -> None:
    task = live([])
    sent = [task.proposal(entry) for entry in task.unanswered()]
    assert [(p.ref.epoch, p.ref.n) for p in sent] == [("epoch", 1), ("epoch", 2)]
    assert [p.status.state for p in sent] == [mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING]
    assert all(p.status.task_id.value == "task" and p.status.timestamp == 1e9 + 100 for p in sent)


def test_replay_gives_the_same_refs_and_bytes() -> None:
    journal: list[rec.Record] = []
    task = live(journal, gated=True)
    note(task, journal, task.answer(answer(1)))
    copy = ReportedTask.replay(rec.decode(rec.encode(record)) for record in journal)
    originals = [task.proposal(entry).SerializeToString() for entry in task.unanswered()]
    assert [copy.proposal(entry).SerializeToString() for entry in copy.unanswered()] == originals
    assert len(originals) == 1
    assert deliveries(copy) == deliveries(task)
    assert (copy.chain.stage, copy.chain.told_healthy, copy.chain.running_at) == (Stage.RUNNING, True, 100.0)
    assert copy.chain.running_open


def test_an_answer_settles_its_proposal_once() -> None:
    journal: list[rec.Record] = []
    task = live(journal)
    note(task, journal, task.answer(answer(1)))
    assert task.answer(answer(1)) == []
    assert deliveries(task) == [reporter_pb2.DELIVERY_ACCEPTED, reporter_pb2.DELIVERY_PROPOSED]
    assert task.entries[0].uuid == b"u" * 16


def test_an_acknowledgement_may_come_before_its_answer() -> None:
    task = live([])
    note(task, [], task.acknowledged(reporter_pb2.Acknowledged(ref=ref(1), uuid=b"u" * 16)))
    assert task.answer(answer(1)) == []
    assert task.acknowledged(reporter_pb2.Acknowledged(ref=ref(1))) == []
    assert deliveries(task)[0] == reporter_pb2.DELIVERY_ACKNOWLEDGED


def test_answers_of_another_epoch_or_for_unknown_numbers_mean_nothing() -> None:
    task = live([])
    assert task.answer(answer(1, epoch="other")) == []
    assert task.answer(answer(9)) == []
    assert task.acknowledged(reporter_pb2.Acknowledged(ref=ref(1, "other"))) == []
    assert deliveries(task) == [reporter_pb2.DELIVERY_PROPOSED] * 2


def test_a_rejection_as_already_terminal_ends_all_proposing() -> None:
    task = live([])
    note(task, [], task.answer(answer(1, reporter_pb2.REJECTION_ALREADY_TERMINAL)))
    assert task.latch is not None
    assert task.latch.uuid == b"u" * 16
    assert list(task.unanswered()) == []
    task.chain.take_state(link_pb2.TaskState(version=9, phase=link_pb2.TASK_PHASE_FAILED))
    assert propose(task, []) == []


def test_hello_settles_what_was_accepted_and_leaves_the_rest_to_be_sent_again() -> None:
    task = live([])
    note(task, [], task.hello(link_pb2.HelloTask(key=KEY.to_pb(), last_accepted=ref(1), accepted_states=[0])))
    assert [entry.n for entry in task.unanswered()] == [2]
    assert deliveries(task)[0] == reporter_pb2.DELIVERY_ACCEPTED


def test_hello_with_another_epoch_settles_nothing() -> None:
    task = live([])
    note(task, [], task.hello(link_pb2.HelloTask(key=KEY.to_pb(), last_accepted=ref(2, "older"))))
    assert [entry.n for entry in task.unanswered()] == [1, 2]


def test_hello_with_a_latch_rejects_what_was_not_accepted() -> None:
    task = live([])
    latch = link_pb2.Latch(state=mesos_pb2.TASK_KILLED, uuid=b"l" * 16, origin=link_pb2.LATCH_ORIGIN_DRIVER)
    told = link_pb2.HelloTask(key=KEY.to_pb(), last_accepted=ref(1), latch=latch)
    journal: list[rec.Record] = []
    note(task, journal, task.hello(told))
    assert deliveries(task) == [reporter_pb2.DELIVERY_ACCEPTED, reporter_pb2.DELIVERY_REJECTED]
    assert list(task.unanswered()) == []
    assert task.hello(told) == [], "told twice"
    task.chain.take_state(link_pb2.TaskState(version=9, phase=link_pb2.TASK_PHASE_FAILED))
    assert propose(task, journal) == []


def test_a_latch_that_comes_before_the_answer_does_not_lose_the_answer() -> None:
    task = live([])
    latch = link_pb2.Latch(state=mesos_pb2.TASK_FAILED, uuid=b"u" * 16, origin=link_pb2.LATCH_ORIGIN_REPORTER)
    note(task, [], task.latched(latch))
    note(task, [], task.answer(answer(2)))
    note(task, [], task.hello(link_pb2.HelloTask(key=KEY.to_pb(), last_accepted=ref(2), latch=latch)))
    assert deliveries(task) == [reporter_pb2.DELIVERY_ACCEPTED] * 2


def test_numbers_that_the_driver_accepted_and_the_journal_lost_are_not_used_again() -> None:
    task = ReportedTask(OPENED)
    state = link_pb2.TaskState(version=9, phase=link_pb2.TASK_PHASE_SUCCESS)
    told = link_pb2.HelloTask(key=KEY.to_pb(), last_accepted=ref(2), accepted_states=[0, 1], task_state=state)
    note(task, [], task.hello(told))
    assert [(entry.n, entry.status.state) for entry in propose(task, [])] == [(3, mesos_pb2.TASK_FINISHED)]


def test_a_health_update_that_the_driver_accepted_and_the_journal_lost_is_not_repeated() -> None:
    journal: list[rec.Record] = []
    task = live(journal, gated=True)
    note(task, journal, [*task.answer(answer(1)), *task.answer(answer(2))])
    state = link_pb2.TaskState(version=1, phase=ACTIVE, started=True, gated=True, health_checked=True)
    verdict = link_pb2.Verdict(version=2, passed=True, healthy=False)
    told = link_pb2.HelloTask(task_state=state, verdict=verdict, last_accepted=ref(3), accepted_states=[0, 1, 1])
    note(task, journal, task.hello(told))
    assert propose(task, journal, 500.0) == []


def test_a_task_that_lost_its_journal_repeats_nothing() -> None:
    opened = rec.Opened(KEY, "second", (mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING), gated=True)
    task = ReportedTask.replay([opened])
    state = link_pb2.TaskState(version=1, phase=ACTIVE, started=True, gated=True, health_checked=True)
    note(
        task,
        [],
        task.hello(
            link_pb2.HelloTask(
                task_state=state,
                verdict=link_pb2.Verdict(passed=True, healthy=True),
                last_accepted=ref(2, "first"),
                accepted_states=[0, 1],
            )
        ),
    )
    assert propose(task, []) == []
    task.chain.take_state(link_pb2.TaskState(version=2, phase=link_pb2.TASK_PHASE_SUCCESS))
    assert [entry.n for entry in propose(task, [])] == [1]


def test_statuses_accepted_from_another_reporter_meanwhile_are_not_repeated() -> None:
    task = ReportedTask(OPENED)
    state = link_pb2.TaskState(version=1, phase=ACTIVE, started=True)
    note(task, [], task.hello(link_pb2.HelloTask(task_state=state, last_accepted=ref(1, "x"), accepted_states=[0])))
    assert [entry.status.state for entry in propose(task, [])] == [mesos_pb2.TASK_RUNNING]


def test_an_end_request_in_hello_holds_running_back() -> None:
    task = ReportedTask(OPENED)
    state = link_pb2.TaskState(version=1, phase=ACTIVE, started=True)
    task.hello(link_pb2.HelloTask(task_state=state, ends=[link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL)]))
    assert [entry.status.state for entry in propose(task, [])] == [mesos_pb2.TASK_STARTING]


def test_a_task_that_flaps_for_ever_keeps_few_updates_and_counts_on() -> None:
    journal: list[rec.Record] = []
    task = live(journal, gated=True)
    for turn in range(3 * KEEP_HEALTH_UPDATES):
        for entry in list(task.unanswered()):
            note(task, journal, task.answer(answer(entry.n)))
            note(task, journal, task.acknowledged(reporter_pb2.Acknowledged(ref=ref(entry.n), uuid=b"u" * 16)))
        task.chain.take_verdict(link_pb2.Verdict(version=turn + 2, passed=True, healthy=turn % 2 == 1))
        assert len(propose(task, journal, 200.0 + 2 * turn)) == 1
        shorter = task.trim()
        if shorter is not None:
            journal = shorter
    assert len(task.entries) <= 2 + 2 * KEEP_HEALTH_UPDATES
    assert len(journal) < 6 * KEEP_HEALTH_UPDATES
    assert [entry.n for entry in task.entries[:2]] == [1, 2]
    assert task.entries[-1].n == 2 + 3 * KEEP_HEALTH_UPDATES
    copy = ReportedTask.replay(journal)
    assert [(e.n, e.data, e.delivery) for e in copy.entries] == [(e.n, e.data, e.delivery) for e in task.entries]
    copy.chain.take_state(link_pb2.TaskState(phase=link_pb2.TASK_PHASE_SUCCESS))
    assert [entry.n for entry in propose(copy, journal)] == [3 + 3 * KEEP_HEALTH_UPDATES]


def test_a_closed_task_shows_what_it_went_by_also_after_replay() -> None:
    journal: list[rec.Record] = []
    task = live(journal)
    note(task, journal, [task.close(5.0)])
    copy = ReportedTask.replay(rec.decode(rec.encode(record)) for record in journal)
    view = copy.to_pb(attached=False)
    assert view == task.to_pb(attached=False)
    assert view.task_state.started
    assert view.verdict.passed
    assert list(copy.unanswered()) == []
