"""What becomes of a call that a fault strikes, in the order in which it happens to the connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from services.local_agent.faults import spec
from services.local_agent.faults.force import Faults
from services.local_agent.wire.http import Request

if TYPE_CHECKING:
    from services.local_agent.faults.waiting import Caller


class _Connection:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def hand_in(self, request: Request) -> None:
        self.done.append(f"handled {request.target}")

    def hand_in_unanswered(self, request: Request) -> None:
        self.done.append(f"handled unanswered {request.target}")

    def respond(self, status: int, body: str) -> None:
        self.done.append(f"answered {status} {body}")

    def pause_reading(self, why: str) -> None:
        self.done.append(f"paused by {why}")

    def resume_reading(self, why: str) -> None:
        assert why == "fault"

    def cut(self, *, reset: bool = False) -> None:
        self.done.append("reset" if reset else "cut")


@pytest.mark.parametrize(
    ("effect", "keep_alive", "done"),
    [
        ("lose", True, ["handled unanswered /1", "cut"]),
        ("duplicate", True, ["handled /1", "handled unanswered /1"]),
        ("cut", True, ["cut"]),
        ("cut reset", True, ["reset"]),
        ("refuse=503 body=no", True, ["answered 503 no"]),
        ("refuse=503 body=no", False, ["answered 503 no", "cut"]),
        ("hold", True, ["paused by fault"]),
    ],
)
def test_effects_on_a_call(effect: str, keep_alive: bool, done: list[str]) -> None:
    async def play() -> list[str]:
        faults = Faults(0, [spec.parse(f"update {effect} id=x")])
        connection = _Connection()
        calls = faults.calls(cast("Caller", connection))
        calls.take(Request("POST", "/1", keep_alive=keep_alive), cast("Any", faults)._book.rules["x"])
        return connection.done

    assert asyncio.run(play()) == done


def test_calls_behind_one_that_is_held_keep_their_order() -> None:
    async def play() -> list[str]:
        faults = Faults(0, [spec.parse("update hold id=x")])
        connection = _Connection()
        calls = faults.calls(cast("Caller", connection))
        calls.take(Request("POST", "/1"), cast("Any", faults)._book.rules["x"])
        calls.take(Request("POST", "/2"), None)
        held = list(connection.done)
        faults.remove("x")
        return [*held, "freed", *connection.done[len(held) :]]

    assert asyncio.run(play()) == ["paused by fault", "paused by fault", "freed", "handled /1", "handled /2"]
