"""Records of a check's journal, those of the first format among them (journals/first_format: made by that version)."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.common.keys import Executor, TaskKey
from services.common.task.checks import Expected, HttpTarget, Source
from services.health import checks, records
from services.health.history import LENGTH, Recorded
from services.health.interpret import Meaning
from services.health.model import Attached, Check, Kind, Phase, Plan
from services.health.rules import Limits
from services.health.rules.aurora_time import Stage, State
from services.health.store import Store
from services.health.verdict import Checks
from tests.unit.health.play import TASK, spec_of

if TYPE_CHECKING:
    from services.health.history import History

FIRST_FORMAT = Path(__file__).parent / "journals" / "first_format"
WEB = Check(
    phase=Phase.PROBING,
    rule=State(Stage.SETTLED, True, False, 2, 0),
    message="failed",
    elapsed=12.5,
    last_done=999.25,
    probes=9,
    failures=3,
    transients=1,
)
SPEC = spec_of(Kind.HEALTH, "aurora-time", Limits(15, 10, 0, 1))


@pytest.fixture(name="loaded")
def load_first_format(tmp_path: Path) -> dict[str, tuple[records.Header, Checks | None, dict[Kind, History]]]:
    shutil.copytree(FIRST_FORMAT, tmp_path / "checks")
    loaded = {}
    for log, task, histories in Store(str(tmp_path), "boot").load():
        loaded[log.header.key.task_id] = (log.header, task, histories)
        log.close()
    return loaded


def test_checks_of_the_first_format_go_on(
    loaded: dict[str, tuple[records.Header, Checks | None, dict[Kind, History]]],
) -> None:
    assert sorted(loaded) == ["over", "plain", "shell", "web"]
    header, task, histories = loaded["web"]
    assert header.key == TaskKey(Executor("f", "e", "i"), "web", 1)
    (spec,) = header.specs
    assert (spec.kind, spec.source, spec.rule, spec.gates) == (Kind.HEALTH, Source.AURORA, "aurora-time", True)
    assert (spec.target, spec.expected) == (HttpTarget(31001, "/health"), Expected((), "ok"))
    assert spec.limits == Limits(15, 10, 2, 1)
    assert task == Checks(12345, {Kind.HEALTH: WEB})
    assert list(histories[Kind.HEALTH]) == []
    _, over, _ = loaded["over"]
    assert over is not None
    assert over.of[Kind.HEALTH].phase is Phase.STOPPED
    assert loaded["plain"][1] is None
    shell, begun, _ = loaded["shell"]
    assert shell.specs[0].describe_target().endswith('"exit 0"')
    assert begun is not None
    assert begun.of[Kind.HEALTH] == checks.new("aurora-time")


def test_a_restart_on_a_journal_of_the_first_format_keeps_the_schedule(
    loaded: dict[str, tuple[records.Header, Checks | None, dict[Kind, History]]],
) -> None:
    _, task, _ = loaded["web"]
    assert task is not None
    check = checks.restored(task.of[Kind.HEALTH], 1003.0)
    check, _ = checks.step(check, Plan(Limits(15, 10, 2, 1), 1.0), Attached(0.5), 1004.0)
    assert checks.wake_at(check) == 1009.25


@pytest.mark.parametrize("task_id", ["t", "t\u00e4\ud800sk\n"])
def test_header_and_spec_are_read_back(task_id: str) -> None:
    for specs in ((), (SPEC,), (SPEC, spec_of(Kind.CHECK, "check", Limits(0, 10, 0, 1), gates=False))):
        key = TaskKey(Executor("f", "e/../..", "i"), task_id, 1)
        header = records.Header(key, b"\1" * 32, "boot", specs)
        assert records.decode_header(records.encode_header(header)) == header


def test_a_record_of_this_format_without_since_is_read_in_the_tasks_favour() -> None:
    header = records.Header(TASK, b"", "boot", (SPEC,))
    record = json.loads(records.encode_state(Kind.HEALTH, 7, dataclasses.replace(WEB, planned=1009.25, since=999.25)))
    del record["since"]
    payload = json.dumps(record, separators=(",", ":")).encode()
    task, _ = records.decode(header, [payload])
    assert task.of[Kind.HEALTH] == dataclasses.replace(WEB, planned=1009.25)


def test_states_without_a_result_push_no_results_out() -> None:
    """Restarts and snoozes save states, too."""
    header = records.Header(TASK, b"", "boot", (SPEC,))
    found = [Recorded(number, Meaning.SUCCESS, "passed", 0.25) for number in range(LENGTH + 10)]
    odd = dataclasses.replace(WEB, message='a text with ,"result":[1] in it')
    payloads = [records.encode_state(Kind.HEALTH, 7, WEB, recorded) for recorded in found]
    payloads += [records.encode_state(Kind.HEALTH, 7, odd)] * 2 * LENGTH
    task, histories = records.decode(header, payloads)
    assert task.of[Kind.HEALTH] == odd
    assert list(histories[Kind.HEALTH]) == found[10:]
    assert histories[Kind.HEALTH].newest() == found[-1]


def mutated(payload: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(payload), **changes}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "dancing"},
        {"rule": {"stage": "warming"}},
        {"rule": None},
        {"version": None},
        {"elapsed": "1"},
        {"gap": [1.0, "boredom", "x"]},
        {"gap": [1.0]},
        {"snoozed_until": "later"},
        {"snoozes": None},
        {"since": "a while ago"},
    ],
)
def test_a_state_that_is_none_is_refused(changes: dict[str, object]) -> None:
    header = records.Header(TASK, b"", "boot", (SPEC,))
    payload = records.encode_state(Kind.HEALTH, 7, WEB)
    assert records.decode(header, [mutated(payload)])[0].of[Kind.HEALTH] == WEB
    with pytest.raises((ValueError, TypeError)):
        records.decode(header, [mutated(payload, **changes)])


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"null", b'{"kind":"poem"}', b"\xff"])
def test_a_record_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        records.decode_header(payload)
    with pytest.raises(ValueError, match=r"."):
        records.decode(records.Header(TASK, b"", "boot", (SPEC,)), [payload])


def test_results_that_cannot_be_read_cost_the_history_and_no_verdict(caplog: pytest.LogCaptureFixture) -> None:
    header = records.Header(TASK, b"", "boot", (SPEC,))
    payload = mutated(records.encode_state(Kind.HEALTH, 7, WEB), result=[1, "who knows", "x", 0.1])
    task, histories = records.decode(header, [payload])
    assert task.of[Kind.HEALTH] == WEB
    assert list(histories[Kind.HEALTH]) == []
    assert "cannot be read" in caplog.text
