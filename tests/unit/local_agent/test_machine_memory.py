"""What is over is forgotten by count, and a compacted log gives the same state."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from services.common.journal import JournalUnavailable
from services.local_agent import store
from services.local_agent.core import forget, records, snapshot
from services.local_agent.core.evolve import apply
from services.local_agent.core.model import (
    MAX_ENDED_BYTES,
    MAX_ENDED_EXECUTORS,
    MAX_ENDED_TASKS,
    MAX_IDLE_FRAMEWORKS,
    MAX_RECEIVED,
    MAX_RECEIVED_BYTES,
    MAX_TORN_DOWN,
    AgentState,
    Framework,
)
from services.local_agent.core.tasks import OrderRefused
from tests.unit.local_agent.desk import EXECUTOR, NOW, Desk, running, task_info

if TYPE_CHECKING:
    from pathlib import Path

FEW = 30
RUNNING = mesos_pb2.TASK_RUNNING
FINISHED = mesos_pb2.TASK_FINISHED


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller number than Mesos', which is a matter of patience only."""
    assert MAX_ENDED_TASKS == 1000
    monkeypatch.setattr(forget, "MAX_ENDED_TASKS", FEW)


def test_tasks_that_ended_last_are_remembered(desk: Desk, few: None) -> None:
    running(desk, "keeper")
    for number in range(FEW + 7):
        desk.launch(f"t{number}")
        desk.update(desk.status(f"t{number}", FINISHED))
        desk.acknowledge_all()
    assert len(desk.state.inboxes) == FEW + 1
    assert "t6" not in desk.state.inboxes
    assert "t7" in desk.state.inboxes
    assert "keeper" in desk.state.inboxes, "it lives"


def test_updates_of_tasks_that_never_were_do_not_pile_up(desk: Desk, few: None) -> None:
    running(desk)
    for number in range(FEW + 50):
        desk.update(desk.status(f"ghost{number}", RUNNING))
        desk.acknowledge_all()
    assert len(desk.state.inboxes) == FEW + 1
    assert not desk.state.unowned


def test_task_id_that_lives_again_is_not_forgotten_for_its_first_life(desk: Desk, few: None) -> None:
    running(desk, "keeper", "again")
    desk.update(desk.status("again", FINISHED))
    desk.acknowledge_all()
    desk.launch("again")
    for number in range(FEW + 1):
        desk.update(desk.status(f"ghost{number}", RUNNING))
        desk.acknowledge_all()
    assert desk.received("again") == ["TASK_FINISHED"]


def test_newest_statuses_of_one_task_are_remembered(desk: Desk) -> None:
    running(desk)
    for _ in range(MAX_RECEIVED + 3):
        desk.update(desk.status("t1", RUNNING))
        desk.acknowledge_all()
    inbox = desk.state.inboxes["t1"]
    assert (len(inbox.received), inbox.forgotten) == (MAX_RECEIVED, 3)
    assert _compacted(desk).inboxes["t1"] == inbox


def _big(desk: Desk, task_id: str, state: mesos_pb2.TaskState, size: int) -> int:
    """Length of the status at the scheduler."""
    status = desk.status(task_id, state)
    status.data = bytes(size)
    desk.update(status)
    desk.acknowledge_all()
    return desk.state.inboxes[task_id].received[-1].size


def test_statuses_of_one_task_are_remembered_by_their_bytes(desk: Desk) -> None:
    running(desk)
    length = _big(desk, "t1", RUNNING, 100_000)
    assert 100_000 < length < 101_000
    for _ in range(60):
        _big(desk, "t1", RUNNING, 100_000)
    inbox = desk.state.inboxes["t1"]
    kept = MAX_RECEIVED_BYTES // length
    assert (len(inbox.received), inbox.forgotten, inbox.size) == (kept, 61 - kept, kept * length)
    assert _compacted(desk).inboxes["t1"] == inbox
    _big(desk, "t1", FINISHED, MAX_RECEIVED_BYTES + 1)
    inbox = desk.state.inboxes["t1"]
    assert desk.received("t1") == ["TASK_FINISHED"], "the newest one, however long it is"
    assert inbox.forgotten == 61
    assert _compacted(desk).inboxes["t1"] == inbox


@pytest.mark.parametrize("task_id", ["ended", "never launched "])
def test_tasks_that_are_over_are_remembered_by_their_bytes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, task_id: str
) -> None:
    assert MAX_ENDED_BYTES >= 2 * MAX_RECEIVED_BYTES
    monkeypatch.setattr(forget, "MAX_ENDED_BYTES", 1 << 20)
    running(desk, "keeper")
    _big(desk, "keeper", RUNNING, 100_000)
    length = 0
    for number in range(30):
        name = f"{task_id}{number}"
        if task_id == "ended":
            desk.launch(name)
        length = _big(desk, name, FINISHED, 100_000)
    kept = (1 << 20) // length
    assert list(desk.state.ended_tasks) == [f"{task_id}{number}" for number in range(30 - kept, 30)]
    assert set(desk.state.inboxes) == {"keeper", *desk.state.ended_tasks}, "who lives is not forgotten"
    assert _compacted(desk).inboxes == desk.state.inboxes
    first = f"{task_id}{30 - kept}"
    _big(desk, first, RUNNING, 100_000)
    assert first in desk.state.inboxes, "of whom there was a word just now"
    assert list(_compacted(desk).ended_tasks) == list(desk.state.ended_tasks)


def test_short_statuses_of_many_tasks_are_all_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget, "MAX_ENDED_BYTES", 50_000)
    running(desk)
    for number in range(100):
        desk.update(desk.status(f"ghost{number}", FINISHED))
        desk.acknowledge_all()
    assert len(desk.state.ended_tasks) == 100


def _run_of(desk: Desk, framework_id: str, number: int) -> None:
    info = mesos_pb2.FrameworkInfo(user="u", name=framework_id, checkpoint=True)
    info.id.value = framework_id
    task = task_info(f"{framework_id}-{number}")
    container = f"{framework_id}-c{number}"
    desk.take(desk.machine.launch(Framework(framework_id, info), [task], container, "/s", NOW))
    desk.take(desk.machine.container_exited(container, 0, None, NOW))
    desk.acknowledge_all()


def test_last_runs_of_executors_are_remembered_framework_by_framework(desk: Desk) -> None:
    _run_of(desk, "quiet", 0)
    for number in range(MAX_ENDED_EXECUTORS + 5):
        _run_of(desk, "busy", number)
    containers = [executor.container_id for executor in desk.state.ended]
    assert containers[:2] == ["quiet-c0", "busy-c5"]
    assert len(containers) == MAX_ENDED_EXECUTORS + 1


def test_idle_frameworks_are_forgotten_with_their_executors_and_ids_do_not_come_again(desk: Desk) -> None:
    for number in range(MAX_IDLE_FRAMEWORKS + 4):
        _run_of(desk, f"f{number}", 0)
    _run_of(desk, "f10", 1)
    assert len(desk.state.frameworks) == MAX_IDLE_FRAMEWORKS
    assert "f3" not in desk.state.frameworks
    assert list(desk.state.frameworks)[-1] == "f10", "youngest last"
    assert {executor.framework_id for executor in desk.state.ended} == set(desk.state.frameworks)
    assert desk.state.frameworks_made == MAX_IDLE_FRAMEWORKS + 4


def _torn_down(desk: Desk, framework_id: str) -> None:
    _run_of(desk, framework_id, 0)
    desk.take(desk.machine.tear_down(desk.state.frameworks[framework_id], NOW))


def test_frameworks_that_were_torn_down_are_forgotten_but_not_their_ids(desk: Desk) -> None:
    for number in range(MAX_IDLE_FRAMEWORKS + 4):
        _torn_down(desk, f"f{number}")
    assert not desk.state.frameworks
    shown = [executor.framework_id for executor in desk.state.ended]
    assert shown == [f"f{number}" for number in range(4, MAX_IDLE_FRAMEWORKS + 4)]
    with pytest.raises(OrderRefused, match=r"^framework\.id: this framework was torn down"):
        _run_of(desk, "f0", 1)
    assert _compacted(desk) == desk.state == desk.replayed()


def test_ids_of_frameworks_that_were_torn_down_do_not_pile_up_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_TORN_DOWN == 10_000, "as agent.proto says"
    monkeypatch.setattr(forget, "MAX_TORN_DOWN", 5)
    for number in range(7):
        _torn_down(desk, f"f{number}")
    assert list(desk.state.torn_down) == [f"f{number}" for number in range(2, 7)]


def _compacted(desk: Desk) -> AgentState:
    state = AgentState()
    for record in snapshot.records_of(desk.state):
        apply(state, records.decode(records.encode(record)))
    return state


def test_everything_that_a_state_holds_survives_compaction(desk: Desk) -> None:
    """Values in every field that `snapshot` could forget."""
    running(desk, "t1", "t2")
    desk.launch_group("g1", "g2")
    desk.take(desk.machine.behave(NOW, scheduler_acknowledges=False))
    desk.update(desk.status("t1", RUNNING))
    desk.update(desk.status("t1", FINISHED))
    desk.update(desk.status("ghost", RUNNING))
    desk.take(desk.machine.container_forked("container-0", 12, 34, NOW))
    desk.take(desk.machine.kill("t2", None, NOW))
    desk.take(desk.machine.drain(5, NOW))
    _run_of(desk, "other", 0)
    desk.take(desk.machine.tear_down(desk.state.frameworks["other"], NOW))
    state = _compacted(desk)
    executor = desk.executor()
    executor.stream = None
    assert state == desk.state
    assert state.draining
    assert state.drain_grace == 5
    assert state.executor("fw", EXECUTOR) == executor


def test_log_stays_short_however_long_the_agent_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "COMPACT_BYTES", 1 << 16)
    monkeypatch.setattr(forget, "MAX_ENDED_TASKS", 20)
    log = store.Store(str(tmp_path))
    desk = Desk()
    desk.log.clear()
    desk.machine.state = log.load()
    desk.start()
    sizes: list[int] = []
    written = kept = 0
    for number in range(400):
        desk.launch(f"t{number}")
        if number == 0:
            desk.subscribe()
        for state in (RUNNING, FINISHED):
            desk.update(desk.status(f"t{number}", state))
            desk.acknowledge_all()
        log.append([records.decode(payload) for payload in desk.log[kept:]])
        written += sum(map(len, desk.log[kept:]))
        kept = len(desk.log)
        log.compact_if_due(desk.state)
        sizes.append((tmp_path / "meta" / "agent.log").stat().st_size)
    log.close()
    assert written > 5 * max(sizes[100:])
    assert any(later < earlier for earlier, later in itertools.pairwise(sizes[200:])), "again and again"
    again = store.Store(str(tmp_path))
    replayed = again.load()
    again.close()
    desk.executor().stream = None
    assert replayed == desk.state


def test_full_disk_at_compaction_leaves_the_long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "COMPACT_BYTES", 1)
    log = store.Store(str(tmp_path))
    state = log.load()
    record = records.AgentStarted("a-S0", "boot", 1)
    apply(state, record)
    log.append([record])
    (tmp_path / "meta" / "agent.log.new").mkdir()
    with pytest.raises(JournalUnavailable):
        log.compact_if_due(state)
    log.append([record])
    log.compact_if_due(state)
    log.close()
    (tmp_path / "meta" / "agent.log.new").rmdir()
    again = store.Store(str(tmp_path))
    assert again.load().starts == 2
    again.close()
