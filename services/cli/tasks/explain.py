"""`trivet explain`: why a task has its status, and what it waits for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from services.cli.tasks.ps import key_object
from services.cli.tasks.texts import moment, number_of, since, table
from services.cli.views.texts import printable
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from services.cli.tasks.connection import Reporter

HEAD = ("LEARNED", "HAPPENED", "FROM", "WHAT")


async def explain(options: argparse.Namespace, service: Reporter) -> int:
    """Explains one task.

    Raises:
        Refused: there is no such task, or several, or no answer.
    """
    request = reporter_pb2.ExplainTaskRequest(
        task_id=options.task, executor_id=options.executor or "", framework_id=options.framework or ""
    )
    answer: reporter_pb2.ExplainTaskResponse = await service.ask("ExplainTask", request)
    if options.json:
        print(json.dumps(as_object(answer)))
    else:
        for line in report(answer):
            print(line)
    return 0


def report(answer: reporter_pb2.ExplainTaskResponse) -> Iterator[str]:
    """What there is to say, for people; nothing in it reaches the terminal as a control sequence."""
    executor = answer.key.executor
    yield f"task {printable(answer.key.task_id)}"
    yield f"  {'executor':<10} {printable(executor.executor_id)} of framework {printable(executor.framework_id)}"
    if answer.dropped:
        yield f"  {'dropped':<10} {number_of(answer.dropped, 'older event', 'older events')}, to keep the trace short"
    if answer.trace:
        yield ""
        yield from table(HEAD, [_row(event) for event in answer.trace])
    yield ""
    if answer.over:
        yield "over: nothing is waited for"
    elif not answer.waiting:
        yield "nothing is waited for: the task runs"
    for waiting in answer.waiting:
        span = f" (for {since(waiting.since, answer.now)})" if waiting.since else ""
        yield f"waits: {printable(waiting.text)}{span}"


def as_object(answer: reporter_pb2.ExplainTaskResponse) -> dict[str, Any]:
    """The whole answer as one object; times in seconds, what is not known is None."""
    return {
        "type": "explanation",
        **key_object(answer.key),
        "over": answer.over,
        "attached": answer.attached,
        "dropped": answer.dropped,
        "now": answer.now,
        "trace": [
            {
                "at": event.at or None,
                "source_at": event.source_at or None,
                "source": source_name(event.source),
                "kind": kind_name(event.kind),
                "text": event.text,
                "n": event.n or None,
                "uuid": event.uuid.hex() or None,
            }
            for event in answer.trace
        ],
        "waiting": [{"text": waiting.text, "since": waiting.since or None} for waiting in answer.waiting],
    }


def source_name(source: int) -> str:
    """`runner`; a number that this version does not know as it stands."""
    return _name(reporter_pb2.Source, source, "SOURCE_")


def kind_name(kind: int) -> str:
    """`run_ended`."""
    return _name(reporter_pb2.TraceKind, kind, "TRACE_KIND_")


def _row(event: reporter_pb2.TraceEvent) -> tuple[str, ...]:
    return moment(event.at), moment(event.source_at), source_name(event.source), event.text


def _name(enum: Any, number: int, prefix: str) -> str:
    try:
        name: str = enum.Name(number)
    except ValueError:
        return str(number)
    return name.removeprefix(prefix).lower()
