"""Keys, tokens, watch streams, log lines."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.keys import Executor, TaskKey
from services.common.logs import JsonFormatter, Occasional
from services.common.tokens import TokenStore
from services.common.watch import Broadcast, SlowSubscriber

if TYPE_CHECKING:
    from pathlib import Path

E1 = Executor("F", "E", "I")


@given(st.text(), st.text(), st.text(), st.text(), st.integers(0, 99))
def test_keys_survive_the_wire(framework: str, executor: str, incarnation: str, task: str, launch: int) -> None:
    key = TaskKey(Executor(framework, executor, incarnation), task, launch)
    assert TaskKey.of(key.to_pb()) == key
    assert key.file_name.isalnum()


def test_ids_that_contain_separators_do_not_collide() -> None:
    assert Executor("a", "b/c", "d").file_name != Executor("a/b", "c", "d").file_name
    assert Executor("ab", "c", "d").file_name != Executor("a", "bc", "d").file_name


def test_the_first_token_is_the_executors_for_ever(tmp_path: Path) -> None:
    store = TokenStore(str(tmp_path))
    assert store.claim(E1, b"secret")
    assert not store.claim(E1, b"other")
    store.close()
    again = TokenStore(str(tmp_path))
    assert not again.claim(E1, b"other")
    assert again.claim(E1, b"secret")
    assert again.claim(Executor("F", "E", "another incarnation"), b"other")
    again.close()


def test_tokens_are_not_written_down(tmp_path: Path) -> None:
    store = TokenStore(str(tmp_path))
    store.claim(E1, b"a-very-secret-token")
    store.close()
    assert b"a-very-secret-token" not in (tmp_path / "tokens.journal").read_bytes()


def test_a_damaged_token_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "tokens.journal").write_bytes(b"garbage")
    store = TokenStore(str(tmp_path))
    assert store.claim(E1, b"secret")
    store.close()
    assert (tmp_path / "tokens.journal.damaged").read_bytes() == b"garbage"


def test_a_watcher_gets_the_snapshot_and_then_every_change() -> None:
    async def go() -> list[int]:
        broadcast: Broadcast[int] = Broadcast()
        stream = broadcast.subscribe([1, 2])
        found = [await anext(stream)]
        # Between snapshot and change nothing is lost.
        broadcast.publish(3)
        found += [await anext(stream), await anext(stream)]
        return found

    assert asyncio.run(go()) == [1, 2, 3]


def test_a_watcher_that_does_not_read_is_told_to_watch_again() -> None:
    async def go() -> None:
        broadcast: Broadcast[int] = Broadcast(limit=3)
        stream = broadcast.subscribe([0])
        await anext(stream)
        for n in range(10):
            broadcast.publish(n)
        found = []
        with pytest.raises(SlowSubscriber):
            found += [n async for n in stream]

    asyncio.run(go())


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "two\nlines %s", ("ä",), None)
    record.fields = {"task": "t"}
    line = JsonFormatter("runner").format(record)
    assert "\n" not in line
    assert json.loads(line)["task"] == "t"
    assert json.loads(line)["msg"] == "two\nlines ä"


def test_a_complaint_that_comes_every_second_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    complaint, logger = Occasional(), logging.getLogger("test")
    for _ in range(5):
        complaint.error(logger, "disk full", {})
    assert len(caplog.records) == 1
    at_once = Occasional(pause_secs=0)
    for _ in range(2):
        at_once.error(logger, "disk full", {})
    assert len(caplog.records) == 3
