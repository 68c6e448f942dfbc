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
    MAX_ENDED_EXECUTORS,
    MAX_ENDED_TASKS,
    MAX_IDLE_FRAMEWORKS,
    MAX_RECEIVED,
    AgentState,
    Framework,
)
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
