"""`trivet health` and `trivet snooze`: checks in words and as objects."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.arguments import parse
from services.cli.tasks.checkwords import as_object, last_words, milliseconds, next_words, row, state_words
from services.cli.tasks.connection import HealthRefused
from services.cli.tasks.health import checks_of, details_object, health, report, rule_words, target_words
from services.cli.tasks.healthwatch import Picture, Teller
from services.cli.tasks.records import described
from services.cli.tasks.snooze import snooze
from services.cli.tasks.texts import table
from trivet.health.v1 import health_pb2 as pb

PROBING, IDLE, STOPPED = pb.CHECK_PHASE_PROBING, pb.CHECK_PHASE_IDLE, pb.CHECK_PHASE_STOPPED
PASSED = {"passed": True, "healthy": True}


def check(verdict: dict[str, Any] | None = None, result: dict[str, Any] | None = None, **fields: Any) -> pb.Check:
    made = pb.Check(phase=PROBING, kind=pb.CHECK_KIND_HEALTH, type="http", rule="mesos", attached=True)
    made.fatal_failures = 3
    made.key.task_id, made.key.executor.executor_id, made.key.executor.framework_id = "t", "e", "f"
    for name, value in (verdict or {}).items():
        setattr(made.verdict, name, value)
    for name, value in (result or {}).items():
        setattr(made.verdict.check_result, name, value)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


TOLD: dict[str, Any] = {"kind": pb.CHECK_KIND_CHECK, "fatal_failures": 0}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (check(), "STARTING"),
        (check({"consecutive_failures": 1}), "STARTING, 1 failure"),
        (check({"consecutive_failures": 4}), "STARTING, 4 failures in a row"),
        (check({"consecutive_successes": 2}), "STARTING, 2 successes in a row"),
        (check({"passed": True}), "undecided"),
        (check(PASSED), "healthy"),
        # Tolerated within the initial interval.
        (check(PASSED | {"consecutive_failures": 2}), "healthy, 2 failures in a row"),
        (check(PASSED | {"healthy": False, "consecutive_failures": 2}), "failing 2 of 3"),
        (check({"dead": True, "healthy": False}, phase=STOPPED), "unhealthy, stopped"),
        (check(PASSED, phase=STOPPED), "stopped"),
        (check(phase=IDLE), "not begun"),
        # Nobody knows whether it has ended meanwhile: neither healthy nor failing.
        (check(PASSED, attached=False, unattached_secs=243.0, unprobed_secs=9.0), "unattached 4m05s"),
        (check(attached=False, unattached_secs=243.0, snoozed_for_secs=9.0), "unattached 4m05s, snoozed 7.0s"),
        (check(PASSED, attached=False), "unattached"),
        (check(PASSED, attached=False, unattached_secs=0.0, snoozed=True), "unattached 2.0s"),
        (check({"passed": True}, {"exit_code": 0}, **TOLD, attached=False, unattached_secs=1.0), "unattached 3.0s"),
        (check(PASSED, attached=False, phase=STOPPED, unattached_secs=1.0), "stopped"),
        (check(PASSED, snoozed=True), "healthy, snoozed (file)"),
        (check(PASSED, snoozed=True, snoozed_for_secs=300.0, unprobed_secs=1.0), "healthy, snoozed 4m58s"),
        (check(PASSED, snoozed=True, snoozed_for_secs=1.0), "healthy, snoozed until the next probe"),
        (check(PASSED, unprobed_secs=10.0, unprobed_reason="x\x1b[2J"), "healthy, unprobed 12s: x [2J"),
        (check({"passed": True}, **TOLD), "no value"),
        (check({"passed": True}, {"exit_code": 0}, **TOLD), "exit code 0"),
        (check({"passed": True}, {"http_status": 204}, **TOLD), "status 204"),
        (check({"passed": True}, {"connected": False}, **TOLD), "not connected"),
        # Another check of the task has ended it.
        (check({"dead": True}, **TOLD, phase=STOPPED), "stopped"),
    ],
)
def test_the_state_in_words(made: pb.Check, words: str) -> None:
    assert state_words(made, age=2.0) == words


def test_a_long_reason_does_not_fill_the_table() -> None:
    made = check(PASSED, unprobed_secs=1.0, unprobed_reason="because " * 40)
    assert len(row(made, 0.0)[4]) < 80
    assert state_words(made).count("because") == 40


def test_a_long_id_does_not_fill_the_table_and_is_whole_elsewhere() -> None:
    made = whole()
    made.check.key.task_id = made.check.key.executor.executor_id = name = "first" + "x" * 240 + "-last"
    for column in (0, 7):
        cell = row(made.check, 0.0)[column]
        assert (len(cell), cell[:5], cell[-5:], cell.count("...")) == (40, "first", "-last", 1)
    assert f"task {name}" in report([made], 0)
    assert as_object(made.check)["task_id"] == name
    made.check.key.task_id = "x" * 40
    assert row(made.check, 0.0)[0] == "x" * 40


@pytest.mark.parametrize(
    ("made", "words"),
    [(check(next_probe_secs=4.25), "2.2s"), (check(next_probe_secs=1.0), "0.0s"), (check(), "now"),
     (check(attached=False), "-"), (check(phase=IDLE), "-"), (check(phase=STOPPED), "-")],
)  # fmt: skip
def test_when_the_next_probe_starts(made: pb.Check, words: str) -> None:
    assert next_words(made, age=2.0) == words


def result(at: float = 100.0, kind: str = "success", detail: str = "HTTP health check passed") -> pb.RecordedResult:
    made = pb.RecordedResult(at=at, detail=detail, latency_secs=0.0123)
    if kind != "failure":
        setattr(made, kind, True)
    return made


@pytest.mark.parametrize(
    ("kind", "words"),
    [("success", "success in 12 ms, 5.0s ago"), ("failure", "failure in 12 ms, 5.0s ago"),
     ("transient", "transient in 12 ms, 5.0s ago"), ("snoozed", "snoozed, 5.0s ago")],
)  # fmt: skip
def test_the_last_result(kind: str, words: str) -> None:
    made = check()
    assert last_words(made, 105.0) == "-"
    made.last.CopyFrom(result(kind=kind))
    assert last_words(made, 105.0) == words


def test_latencies() -> None:
    assert [milliseconds(secs) for secs in (0, 0.00042, 0.0099, 0.0123, 1.5)] == [
        "0.0 ms", "0.4 ms", "9.9 ms", "12 ms", "1,500 ms"
    ]  # fmt: skip


def whole(**config: Any) -> pb.GetCheckResponse:
    made = pb.GetCheckResponse(check=check(PASSED, probes=3, failures=1, transients=1))
    made.check.verdict.message = "HTTP health check passed"
    fields = {"source": "mesos", "target": "GET http://127.0.0.1:80/", "interval_secs": 10, "grace_secs": 60, **config}
    made.config.CopyFrom(pb.CheckConfig(**fields))
    for number in range(30):
        made.results.append(result(at=1.7e9 + number, detail=f"r{number}"))
    return made


def test_details_of_a_check() -> None:
    lines = list(report([whole(delay_secs=5, timeout_secs=0)], 2))
    assert lines[:11] == [
        "task t",
        "  executor   e of framework f",
        "health",
        "  probe      GET http://127.0.0.1:80/ every 10 s, no timeout",
        "  source     mesos",
        "  rule       mesos: grace period 60 s, first probe after 5 s, 3 failures in a row end the task",
        "  state      healthy",
        "  verdict    HTTP health check passed",
        "  next       now",
        "  counters   3 probes, 1 failure, 1 transient, 0 snoozed by file",
        "  results (newest 2 of 30)",
    ]
    assert [line.split()[-1] for line in lines[11:]] == ["r28", "r29"]
    assert not any("results" in line for line in report([whole()], 0))
    unprobed = pb.GetCheckResponse(check=check())
    assert list(report([unprobed], 5))[-1] == "  results    none yet"
    away = whole()
    away.check.attached = False
    lines = list(report([away], 0))
    assert "  state      unattached" in lines
    assert any(line.startswith("  attached   no: ") and line.endswith("; before that: healthy") for line in lines)


def test_a_rule_says_what_it_takes() -> None:
    made = whole(source="aurora", gates=True, min_consecutive_successes=2, grace_secs=15)
    made.check.fatal_failures, made.check.rule = 1, "aurora-time"
    words = "aurora-time: initial interval 15 s, 1 failure ends the task, 2 successes in a row to pass"
    assert rule_words(made.check, made.config) == words
    made.check.rule = "aurora-attempts"
    words = "initial interval 15 s, 2 of 4 attempts are forgiven, 1 failure ends the task"
    assert words in rule_words(made.check, made.config)


@pytest.mark.parametrize(
    ("target", "words"),
    [('shell command "curl -H s3cret"', "a shell command"), ('command "/bin/x s3cret"', "a command"),
     ("GET http://localhost:1/command x", "GET http://localhost:1/command x")],
)  # fmt: skip
def test_command_lines_are_not_shown(target: str, words: str) -> None:
    made = whole(target=target)
    assert target_words(made.config) == words
    assert "s3cret" not in "".join(report([made], 5)) + json.dumps(details_object(made, 5))


@given(st.text(), st.text(), st.text())
def test_no_text_of_strangers_reaches_the_terminal_as_it_is(task: str, detail: str, message: str) -> None:
    made = whole()
    made.check.key.task_id, made.check.verdict.message, made.check.unprobed_reason = task, message, message
    made.check.unprobed_secs = 1.0
    made.check.last.CopyFrom(result(detail=detail))
    made.results.append(result(detail=detail))
    lines = [*report([made], 50), *table(("",) * 8, [row(made.check, 0.0)])]
    assert all(line.isprintable() for line in lines)


def test_objects_have_the_same_fields_whatever_is_unset() -> None:
    empty, full = as_object(check()), as_object(check(PASSED, snoozed_for_secs=1.0, unprobed_secs=2.0))
    assert set(empty) == set(full)
    assert (empty["healthy"], empty["snoozed_for_secs"], empty["last"]) == (None, None, None)
    assert (full["healthy"], full["snoozed_for_secs"], full["unprobed_secs"]) == (True, 1.0, 2.0)
    told = as_object(check({"passed": True}, {"exit_code": 0, "changes": 2}, **TOLD))
    assert (told["value"], told["changes"]) == ({"exit_code": 0}, 2)


class HealthDouble:
    """Answers what the test has prepared."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def ask(self, _method: str, request: Any) -> Any:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_both_checks_of_a_task_are_asked_for_of_one_executor() -> None:
    second = whole()
    second.check.kind = pb.CHECK_KIND_CHECK
    double: Any = HealthDouble(whole(), second)
    assert asyncio.run(checks_of(double, "t", {})) == [whole(), second]
    asked = double.asked[1]
    assert (asked.kind, asked.executor_id, asked.framework_id) == (pb.CHECK_KIND_CHECK, "e", "f")
    alone: Any = HealthDouble(whole(), HealthRefused(grpc.StatusCode.NOT_FOUND, "task_id: no check"))
    assert asyncio.run(checks_of(alone, "t", {})) == [whole()]
    second.check.key.launch = 7
    older: Any = HealthDouble(whole(), second)
    assert asyncio.run(checks_of(older, "t", {})) == [whole()]
    gone: Any = HealthDouble(whole(), HealthRefused(grpc.StatusCode.UNAVAILABLE, "gone"))
    with pytest.raises(HealthRefused):
        asyncio.run(checks_of(gone, "t", {}))


@pytest.mark.parametrize(
    ("argv", "answer", "said"),
    [(["--wake"], check(PASSED), "t: probed now\n"),
     (["--wake"], check(PASSED, attached=False), "t: probed as soon as its executor is back\n"),
     (["--wake"], check(phase=IDLE), "t: probed when the task starts\n")],
)  # fmt: skip
def test_what_becomes_of_a_snooze_that_is_ended(
    argv: list[str], answer: pb.Check, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    double: Any = HealthDouble(pb.SnoozeCheckResponse(check=answer))
    assert asyncio.run(snooze(parse(["snooze", "t", *argv]), double)) == 0
    assert capsys.readouterr().out == said
    assert double.asked[0].duration_secs == 0


def test_the_length_of_a_snooze() -> None:
    for argv, secs in (([], 600), (["--for", "30s"], 30), (["--for", "2h"], 7200), (["--for", "7days"], 604800)):
        double: Any = HealthDouble(pb.SnoozeCheckResponse(check=check(snoozed_for_secs=1.0)))
        asyncio.run(snooze(parse(["snooze", "t", *argv]), double))
        assert double.asked[0].duration_secs == secs


def test_no_check_at_all_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, out in (([], "no checks (`trivet ps` lists tasks without any, too)\n"), (["--json"], "")):
        double: Any = HealthDouble(pb.ListChecksResponse())
        assert asyncio.run(health(parse(["health", *flags]), double)) == 0
        assert capsys.readouterr().out == out


def update(made: pb.Check, *, gone: bool = False) -> pb.WatchChecksResponse:
    return pb.WatchChecksResponse(check=made, gone=gone)


def test_a_watch_says_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    first = whole()
    first.check.last.CopyFrom(result(at=1.7e9))
    teller = Teller([first], as_json=False)
    newer = check(PASSED | {"healthy": False, "consecutive_failures": 1})
    newer.last.CopyFrom(result(at=1.7e9 + 1, kind="failure", detail="bad\x1b"))
    snoozed = [check(PASSED | {"healthy": False, "consecutive_failures": 1}, snoozed=True) for _ in range(2)]
    for number, made in enumerate(snoozed):
        made.last.CopyFrom(newer.last)
        made.snoozed_for_secs = 60.0 - number
    for made in (first.check, newer, newer, *snoozed):
        assert not teller.tell(update(made))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == ["bad ", "failing 1 of 3", "failing 1 of 3, snoozed"]
    for number in range(2):
        teller.tell(update(check(PASSED, attached=False, unattached_secs=float(number))))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("  unattached")
    assert teller.tell(update(newer, gone=True))


def test_a_watch_of_two_checks_ends_with_both() -> None:
    second = whole()
    second.check.kind = pb.CHECK_KIND_CHECK
    teller = Teller([whole(), second], as_json=True)
    assert not teller.tell(update(second.check, gone=True))
    assert teller.tell(update(whole().check, gone=True))


def test_a_watch_ends_without_the_drivers_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller([whole()], as_json=True)
    assert not teller.tell(update(check(PASSED, phase=pb.CHECK_PHASE_STOPPED, attached=True)))
    assert not teller.tell(update(check(PASSED, phase=pb.CHECK_PHASE_PROBING, attached=False)))
    assert teller.tell(update(check(PASSED, phase=pb.CHECK_PHASE_STOPPED, attached=False)))
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_page_of_a_watch_ages() -> None:
    picture = Picture()
    assert list(picture.lines(0.0, 0.0)) == ["no checks (`trivet ps` lists tasks without any, too)"]
    picture.observe(update(check(PASSED, snoozed=True, snoozed_for_secs=60.0)), 100.0)
    assert "snoozed 50s" in list(picture.lines(0.0, 110.0))[1]
    picture.observe(update(check(PASSED), gone=True), 111.0)
    assert len(list(picture.lines(0.0, 112.0))) == 1


def test_a_journal_of_health_tells_no_secret_in_words() -> None:
    command = {"type": "command", "argv": ["s3cret"], "env": {"A": "s3cret"}, "text": "s3cret"}
    spec = {"kind": "health", "target": command, "rule": "mesos", "env": {"TOKEN": "s3cret"}}
    line = described({"is": "check", "specs": [spec]})
    assert line.endswith("specs=(health: command, rule mesos)")
    for odd in ([{"kind": "s3cret"}], ["s3cret"], 7):
        assert "s3cret" not in described({"is": "check", "specs": odd})
    assert described({"is": "check", "specs": []}).endswith("specs=none")
