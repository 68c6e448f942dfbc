"""`trivet health`: the checks of all tasks, or everything about those of one."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import grpc

from services.cli.tasks.checkwords import (
    HEAD,
    as_object,
    kind_name,
    milliseconds,
    next_words,
    outcome,
    result_object,
    row,
    state_words,
    verdict_words,
)
from services.cli.tasks.connection import Refused
from services.cli.tasks.texts import moment, number_of, table
from services.cli.views.texts import printable
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from services.cli.tasks.connection import Health

# Of a task, unless the user says otherwise.
_RESULTS = 10
# The command behind it may hold secrets.
_COMMANDS = ("shell command ", "command ")


async def health(options: argparse.Namespace, service: Health) -> int:
    """Prints the checks, and with --watch what becomes of them.

    Raises:
        Refused: there is no such check, or several, or no answer.
    """
    asked = {"executor_id": options.executor or "", "framework_id": options.framework or ""}
    if options.task is None:
        if options.watch:
            from services.cli.tasks.healthwatch import watch_all

            return await watch_all(options, service, health_pb2.WatchChecksRequest(**asked))
        answer: health_pb2.ListChecksResponse = await service.ask("ListChecks", health_pb2.ListChecksRequest(**asked))
        _print_all(list(answer.checks), as_json=options.json)
        return 0
    found = await checks_of(service, options.task, asked)
    number = _RESULTS if options.results is None else options.results
    for whole in found:
        if options.json:
            print(json.dumps(details_object(whole, number)), flush=True)
    if not options.json:
        for line in report(found, number):
            print(line, flush=True)
    if not options.watch:
        return 0
    from services.cli.tasks.healthwatch import watch_task

    return await watch_task(options, service, found)


def _print_all(checks: list[health_pb2.Check], *, as_json: bool) -> None:
    if as_json:
        for check in checks:
            print(json.dumps(as_object(check)))
        return
    now = time.time()
    lines = table(HEAD, [row(check, now) for check in checks]) if checks else [nothing()]
    for line in lines:
        print(line)


def nothing() -> str:
    """There is no check."""
    return "no checks (`trivet ps` lists tasks without any, too)"


async def checks_of(service: Health, task: str, asked: dict[str, str]) -> list[health_pb2.GetCheckResponse]:
    """The checks of one task, that of its health first.

    Args:
        service: who is asked.
        task: its id.
        asked: fields of the request that say which executor's it is.

    Raises:
        Refused: there are none, or several executors have such a task.
    """
    first: health_pb2.GetCheckResponse = await service.ask(
        "GetCheck", health_pb2.GetCheckRequest(task_id=task, **asked)
    )
    if first.check.kind != health_pb2.CHECK_KIND_HEALTH:
        return [first]
    key = first.check.key
    other = health_pb2.GetCheckRequest(
        task_id=task,
        kind=health_pb2.CHECK_KIND_CHECK,
        executor_id=key.executor.executor_id,
        framework_id=key.executor.framework_id,
    )
    try:
        second: health_pb2.GetCheckResponse = await service.ask("GetCheck", other)
    except Refused as error:
        if error.code is not grpc.StatusCode.NOT_FOUND:
            raise
        return [first]
    # An earlier launch may have had one.
    return [first, second] if second.check.key == key else [first]


def report(found: list[health_pb2.GetCheckResponse], results: int) -> Iterator[str]:
    """What there is to say of the checks of a task, for people.

    Args:
        found: its checks.
        results: how many of the newest.
    """
    key = found[0].check.key
    executor = key.executor
    yield f"task {printable(key.task_id)}"
    yield f"  {'executor':<10} {printable(executor.executor_id)} of framework {printable(executor.framework_id)}"
    for whole in found:
        kept = list(whole.results)[len(whole.results) - min(results, len(whole.results)) :]
        yield kind_name(whole.check.kind)
        for what, text in _facts(whole):
            yield f"  {what:<10} {printable(text)}"
        if results:
            more = f" (newest {len(kept)} of {len(whole.results)})" if len(kept) < len(whole.results) else ""
            yield f"  results{more}" if kept else "  results    none yet"
        yield from (f"    {result_line(result, whole.check.kind)}" for result in kept)


def _facts(whole: health_pb2.GetCheckResponse) -> Iterator[tuple[str, str]]:
    check, config, verdict = whole.check, whole.config, whole.check.verdict
    yield "probe", f"{target_words(config)} every {config.interval_secs:g} s, {_budget(config)}"
    if config.expected:
        yield "success", config.expected
    yield "source", f"{config.source}{'; RUNNING waits for it' if config.gates else ''}"
    yield "rule", rule_words(check, config)
    yield "state", state_words(check)
    message = verdict.check_result.message if check.kind == health_pb2.CHECK_KIND_CHECK else verdict.message
    if message:
        yield "verdict", message
    if not check.attached:
        yield "attached", f"no: its executor is away, and cannot be asked to probe; before that: {verdict_words(check)}"
    yield "next", next_words(check)
    counts = [
        number_of(check.probes, "probe", "probes"),
        number_of(check.failures, "failure", "failures"),
        number_of(check.transients, "transient", "transients"),
        f"{check.snoozes} snoozed by file",
    ]
    yield "counters", ", ".join(counts)


def _budget(config: health_pb2.CheckConfig) -> str:
    return f"timeout {config.timeout_secs:g} s" if config.timeout_secs else "no timeout"


def target_words(config: health_pb2.CheckConfig) -> str:
    """What is probed, without a command's text."""
    for words in _COMMANDS:
        if config.target.startswith(words):
            return f"a {words.strip()}"
    return config.target


def rule_words(check: health_pb2.Check, config: health_pb2.CheckConfig) -> str:
    """The rule with its numbers."""
    delay = f"first probe after {config.delay_secs:g} s" if config.delay_secs else ""
    if check.kind == health_pb2.CHECK_KIND_CHECK:
        return ", ".join(filter(None, (f"{check.rule}: results are told as they are", delay)))
    grace = "grace period" if config.source == "mesos" else "initial interval"
    attempts = ""
    if check.rule == "aurora-attempts" and config.interval_secs > 0:
        forgiven = math.ceil(round(config.grace_secs / config.interval_secs, 9))
        total = forgiven + config.max_consecutive_failures + config.min_consecutive_successes
        attempts = f"{forgiven} of {total} attempts are forgiven"
    words = [
        f"{check.rule}: {grace} {config.grace_secs:g} s",
        attempts,
        delay,
        f"{check.fatal_failures} {'failure ends' if check.fatal_failures == 1 else 'failures in a row end'} the task",
    ]
    if config.gates:
        needed = config.min_consecutive_successes
        words.append(f"{number_of(needed, 'success', 'successes in a row')} to pass")
    return ", ".join(filter(None, words))


def result_line(result: health_pb2.RecordedResult, kind: int) -> str:
    """One result on one line."""
    took = "-" if result.snoozed else milliseconds(result.latency_secs)
    return f"{moment(result.at)}  {outcome(result, kind):<9} {took:>9}  {printable(result.detail)}"


def details_object(whole: health_pb2.GetCheckResponse, results: int) -> dict[str, Any]:
    """The same for programs."""
    config = whole.config
    kept = list(whole.results)[len(whole.results) - min(results, len(whole.results)) :]
    return as_object(whole.check) | {
        "config": {
            "source": config.source,
            "gates": config.gates,
            "target": target_words(config),
            "expected": config.expected or None,
            "delay_secs": config.delay_secs,
            "interval_secs": config.interval_secs,
            "timeout_secs": config.timeout_secs,
            "grace_secs": config.grace_secs,
            "max_consecutive_failures": config.max_consecutive_failures,
            "min_consecutive_successes": config.min_consecutive_successes,
        },
        "results": [result_object(result, whole.check.kind) for result in kept],
    }
