"""`trivet explain`: the answer in words and as an object."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest

from services.cli.arguments import parse
from services.cli.tasks.connection import ReporterRefused
from services.cli.tasks.explain import as_object, explain, report
from trivet.reporter.v1 import reporter_pb2 as pb

NASTY = "\x1b[2J\u202e\n"


def answer(**fields: Any) -> pb.ExplainTaskResponse:
    made = pb.ExplainTaskResponse(now=1_700_000_010.0, **fields)
    made.key.task_id, made.key.executor.executor_id, made.key.executor.framework_id = "t", "e", "f"
    return made


def event(text: str = "x", **fields: Any) -> pb.TraceEvent:
    values = {"at": 1_700_000_000.5, "source": pb.SOURCE_RUNNER, "kind": pb.TRACE_KIND_PHASE, **fields}
    return pb.TraceEvent(text=text, **values)


def test_events_have_both_times_and_their_source() -> None:
    lines = list(report(answer(trace=[event("task failed", source_at=1_700_000_000.25), event("late", at=0.0)])))
    assert lines[0] == "task t"
    assert lines[3].split() == ["LEARNED", "HAPPENED", "FROM", "WHAT"]
    assert ".500  2023-" in lines[4]
    assert lines[4].endswith(".250  runner  task failed")
    assert lines[5].split() == ["-", "-", "runner", "late"]


@pytest.mark.parametrize(
    ("fields", "last"),
    [
        ({"over": True}, "over: nothing is waited for"),
        ({}, "nothing is waited for: the task runs"),
        ({"waiting": [pb.Waiting(text="health", since=1_700_000_002.0)]}, "waits: health (for 8.0s)"),
        ({"waiting": [pb.Waiting(text="health")]}, "waits: health"),
        # The reporter's clock was set back.
        ({"waiting": [pb.Waiting(text="health", since=1_800_000_000.0)]}, "waits: health (for 0.0s)"),
    ],
)
def test_the_last_line_says_what_is_waited_for(fields: dict[str, Any], last: str) -> None:
    assert list(report(answer(**fields)))[-1] == last


def test_what_was_dropped_is_said() -> None:
    assert "dropped    7 older events, to keep the trace short" in [
        line.strip() for line in report(answer(dropped=7, trace=[event()]))
    ]


def test_nothing_hostile_reaches_the_terminal() -> None:
    made = answer(trace=[event(NASTY, at=1e300, source_at=float("nan"))], waiting=[pb.Waiting(text=NASTY, since=1.0)])
    made.key.task_id = made.key.executor.executor_id = NASTY
    assert all(line.isprintable() for line in report(made))
    json.dumps(as_object(made))


def test_numbers_of_a_newer_version_are_shown() -> None:
    made = event()
    made.source, made.kind = 99, 98  # type: ignore[assignment]  # any number may arrive
    shown = as_object(answer(trace=[made]))["trace"][0]
    assert (shown["source"], shown["kind"]) == ("99", "98")


def test_the_request_names_task_executor_and_framework(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, pb.ExplainTaskRequest]] = []

    class Service:
        async def ask(self, method: str, request: pb.ExplainTaskRequest) -> pb.ExplainTaskResponse:
            asked.append((method, request))
            return answer(over=True, trace=[event(uuid=b"\x01", n=3)])

    options = parse(["explain", "t", "--executor", "e", "--framework", "f", "--json"])
    service: Any = Service()
    assert asyncio.run(explain(options, service)) == 0
    assert asked == [("ExplainTask", pb.ExplainTaskRequest(task_id="t", executor_id="e", framework_id="f"))]
    shown = json.loads(capsys.readouterr().out)
    assert (shown["type"], shown["task_id"], shown["over"]) == ("explanation", "t", True)
    assert (shown["trace"][0]["uuid"], shown["trace"][0]["n"], shown["trace"][0]["source_at"]) == ("01", 3, None)


def test_an_unknown_task_says_what_to_do() -> None:
    assert ReporterRefused(grpc.StatusCode.NOT_FOUND, "task_id: no task 't'").lines() == [
        "NOT_FOUND: task_id: no task 't'",
        "`trivet ps --all` lists the tasks that the runner knows",
    ]
