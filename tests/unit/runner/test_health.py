"""What the runner makes of a task's checks: who waits for them, and how a task ends that they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from services.runner.book import Book
from services.runner.budgets import Request
from services.runner.events import HandsSeen
from services.runner.header import Facts, Header
from services.runner.records import Cause, Moment, Phase
from services.runner.store import Store

if TYPE_CHECKING:
    from pathlib import Path

KEY = TaskKey(Executor("f", "e", "i"), "t", 1)
BARE: dict[str, Any] = {"processes": [{"name": "a", "cmdline": ""}]}
AURORA = {**BARE, "health_check_config": {"health_checker": {"tcp": {"port": 5}}}}
NOW = Moment(100.0, 1e9)


def info(document: dict[str, Any], *, health: bool, check: bool, gated: bool) -> mesos_pb2.TaskInfo:
    made = mesos_pb2.TaskInfo(name="n", data=json.dumps(document).encode())
    made.task_id.value, made.agent_id.value = "t", "a"
    if health:
        made.health_check.type, made.health_check.tcp.port = mesos_pb2.HealthCheck.TCP, 5
    if check:
        made.check.type, made.check.tcp.port = mesos_pb2.CheckInfo.TCP, 5
    if gated:
        made.labels.labels.add(key="trivet.health_gated", value="true")
    return made


def opened(path: Path, made: mesos_pb2.TaskInfo) -> Book:
    head = Header(KEY, made.SerializeToString(), Facts("b", "h", "/s", "/s", 1000), 0.0)
    store = Store(str(path))
    store.open()
    return Book(head, store.log_of(KEY), recorded=False)


@pytest.mark.parametrize(
    ("document", "given", "gated", "checked", "end"),
    [
        (BARE, {}, False, False, Phase.FAILED),
        (BARE, {"check": True}, False, False, Phase.FAILED),
        (BARE, {"health": True}, False, True, Phase.KILLED),
        (BARE, {"health": True, "gated": True}, True, True, Phase.KILLED),
        (AURORA, {}, True, True, Phase.FAILED),
        (AURORA, {"health": True, "check": True}, True, True, Phase.FAILED),
    ],
)
def test_who_configured_the_check_decides(
    tmp_path: Path, document: dict[str, Any], given: dict[str, bool], gated: bool, checked: bool, end: Phase
) -> None:
    asked = {"health": False, "check": False, "gated": False, **given}
    book = opened(tmp_path, info(document, **asked))
    state = book.news(always=True)
    assert state is not None
    assert (state.gated, state.health_checked) == (gated, checked)
    book.step([HandsSeen((), 0, hello=True), Request(Cause.UNHEALTHY, message="x")], NOW)
    assert (book.state.cause, book.state.phase) == (Cause.UNHEALTHY, end)
    book.log.close()
    # The end is in the journal: nobody has to look at the configuration again.
    store = Store(str(tmp_path))
    ((log, payloads),) = store.scan()
    again = opened(tmp_path, info(BARE, health=False, check=False, gated=False))
    again.replay(payloads[1:])
    assert again.state.phase is end
    log.close()
