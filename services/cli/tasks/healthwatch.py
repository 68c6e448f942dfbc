"""`trivet health --watch`: checks as they change."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc

from services.cli.tasks import note
from services.cli.tasks.checkwords import HEAD, as_object, away_words, halt_words, row, verdict_words
from services.cli.tasks.connection import Refused
from services.cli.tasks.health import nothing, result_line
from services.cli.tasks.texts import clock, moment, table
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from services.cli.tasks.connection import Health
    from trivet.link.v1 import link_pb2

# Between two pages.
_PAGE_SECS = 1.0

Key = tuple[str, str, str, str, int, int]


class Picture:
    """The newest word of each check, and when it came."""

    def __init__(self) -> None:
        self._newest: dict[Key, tuple[health_pb2.Check, float]] = {}

    def observe(self, update: health_pb2.WatchChecksResponse, at: float) -> None:
        """Takes in one message; `at`: CLOCK_MONOTONIC, seconds."""
        if update.gone:
            self._newest.pop(_key(update.check), None)
        else:
            self._newest[_key(update.check)] = (update.check, at)

    def clear(self) -> None:
        """What was known may not be so any more."""
        self._newest.clear()

    def lines(self, now: float, at: float) -> Iterator[str]:
        """The page; `now`: wall clock, `at`: CLOCK_MONOTONIC, seconds."""
        if not self._newest:
            yield nothing()
            return
        yield from table(HEAD, [row(check, now, at - then) for check, then in self._newest.values()])


def _key(check: health_pb2.Check) -> Key:
    key, executor = check.key, check.key.executor
    return executor.framework_id, executor.executor_id, executor.incarnation, key.task_id, key.launch, check.kind


async def watch_all(options: argparse.Namespace, service: Health, request: health_pb2.WatchChecksRequest) -> int:
    """Shows all checks until interrupted.

    Raises:
        Refused: no answer.
    """
    if options.json:
        async with aclosing(service.stream("WatchChecks", lambda: request, away=_away)) as updates:
            async for update in updates:
                print(json.dumps(_object(update)), flush=True)
        return 0
    from services.cli.tasks.screen import Screen

    picture = Picture()
    trouble = ""

    def away(why: str) -> None:
        nonlocal trouble
        trouble = f"health is away: {why}"
        # Told anew when it is back.
        picture.clear()

    async def follow() -> None:
        nonlocal trouble
        async with aclosing(service.stream("WatchChecks", lambda: request, away=away)) as updates:
            async for update in updates:
                trouble = ""
                picture.observe(update, time.monotonic())

    def page() -> list[str]:
        at = clock(time.time()) + (f"  ({trouble})" if trouble else "")
        return [at, *picture.lines(time.time(), time.monotonic())]

    following = asyncio.ensure_future(follow())
    try:
        # What is there comes at once: the first page shall not be empty.
        await asyncio.wait([following], timeout=_PAGE_SECS / 5)
        with Screen() as screen:
            while not following.done():
                screen.show(page())
                await asyncio.wait([following], timeout=_PAGE_SECS)
            following.result()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return 0


async def watch_task(options: argparse.Namespace, service: Health, found: list[health_pb2.GetCheckResponse]) -> int:
    """Shows each new result of a task's checks until it is over.

    Args:
        options: of the command line.
        service: who tells.
        found: what was shown already.

    Raises:
        Refused: no answer.
    """
    key = found[0].check.key
    broken = asyncio.Event()

    def away(why: str) -> None:
        _away(why)
        broken.set()

    async def follow() -> None:
        request = health_pb2.WatchChecksRequest(
            task_id=key.task_id, executor_id=key.executor.executor_id, framework_id=key.executor.framework_id
        )
        teller = Teller(found, as_json=options.json)
        async with aclosing(service.stream("WatchChecks", lambda: request, away=away)) as updates:
            async for update in updates:
                if update.check.key == key and teller.tell(update):
                    return

    following = asyncio.ensure_future(follow())
    vanishing = asyncio.ensure_future(_vanished(service, key, broken))
    try:
        done, _ = await asyncio.wait({following, vanishing}, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        if following not in done:
            note("health knows the task no more: it ended while health was away")
        return 0
    finally:
        for task in (following, vanishing):
            task.cancel()
        await asyncio.gather(following, vanishing, return_exceptions=True)


async def _vanished(service: Health, key: link_pb2.TaskKey, broken: asyncio.Event) -> None:
    """Until health, back after a break, does not know the task: nobody says so otherwise."""
    request = health_pb2.ListChecksRequest(
        task_id=key.task_id, executor_id=key.executor.executor_id, framework_id=key.executor.framework_id
    )
    while True:
        await broken.wait()
        broken.clear()
        try:
            answer: health_pb2.ListChecksResponse = await service.ask("ListChecks", request)
        except Refused as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            # The stream waits, too.
            broken.set()
            continue
        if not any(check.key == key for check in answer.checks):
            return


class Teller:
    """Says what is new in each message about a task's checks."""

    def __init__(self, found: list[health_pb2.GetCheckResponse], *, as_json: bool) -> None:
        """`found`: what was shown already."""
        self._open = {whole.check.kind for whole in found}
        self._several = len(found) > 1
        self._at = {whole.check.kind: whole.check.last.at for whole in found}
        self._state = {whole.check.kind: _state(whole.check) for whole in found}
        self._json = as_json

    def tell(self, update: health_pb2.WatchChecksResponse) -> bool:
        """Prints it; True: nothing more can come, the task is over."""
        check = update.check
        if self._json:
            print(json.dumps(_object(update)), flush=True)
        else:
            for line in self._news(check):
                print(line, flush=True)
        # The driver's last word may be lost: nothing more is heard of what is not probed and has no driver.
        if update.gone or (check.phase == health_pb2.CHECK_PHASE_STOPPED and not check.attached):
            self._open.discard(check.kind)
        return not self._open

    def _news(self, check: health_pb2.Check) -> Iterator[str]:
        kind = check.kind
        which = f"  {'check' if kind == health_pb2.CHECK_KIND_CHECK else 'health':<6}" if self._several else ""
        if check.HasField("last") and check.last.at != self._at.get(kind):
            self._at[kind] = check.last.at
            yield f"  {which}{result_line(check.last, kind)}"
        state = _state(check)
        if state != self._state.get(kind):
            self._state[kind] = state
            yield f"  {which}{moment(time.time())}  state     {'':>9}  {', '.join(filter(None, state))}"


def _state(check: health_pb2.Check) -> tuple[str, str]:
    """The verdict, and why nothing is probed, without what changes with every second."""
    halt = halt_words(check)
    verdict = "unattached" if away_words(check) else verdict_words(check)
    if check.HasField("snoozed_for_secs"):
        return verdict, "snoozed"
    return verdict, f"unprobed: {check.unprobed_reason}" if halt.startswith("unprobed") else halt


def _object(update: health_pb2.WatchChecksResponse) -> dict[str, object]:
    return as_object(update.check) | {"gone": update.gone}


def _away(why: str) -> None:
    note(f"health is away, waiting for it ({why})")
