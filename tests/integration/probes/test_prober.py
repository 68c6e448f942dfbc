"""One probe of a check at a time, and ends before the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.probes.prober_rig import (
    DONE,
    NO_ANSWER,
    TIMEOUT,
    TRANSIENT,
    Probing,
    hang,
    open_sockets,
    probing,
    saying,
    serving,
    settle,
)
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

HEALTH, CHECK = pb.CHECK_KIND_HEALTH, pb.CHECK_KIND_CHECK
TRUE = pb.CommandProbe(argv=["true"], cwd="sandbox", user="somebody", profile="sandbox/.thermos_profile")
ENDING = (TRANSIENT, "the task is ending")


def answer(order: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What the coordinator says of an order."""
    return {"ev": "probe", "id": order["id"], "task": order["task"], "secs": 0.5, "output": "", **fields}


async def ordered(one: Probing, count: int = 1) -> None:
    await settle(lambda: len(one.orders) == count)


# No overlap


def test_a_new_probe_of_the_same_check_ends_the_older_one_silently() -> None:
    async def test(one: Probing) -> None:
        async with serving(hang) as slow, serving(saying(b"HTTP/1.1 200 OK\r\n\r\n")) as quick:
            before = open_sockets()
            for check in (0, HEALTH, HEALTH, CHECK):
                one.start(check=check, http=pb.HttpProbe(port=slow))
            await settle(lambda: open_sockets() > before)
            one.start(check=HEALTH, http=pb.HttpProbe(port=quick))
            one.start(check=CHECK, tcp=pb.TcpProbe(port=quick))
            results = [await one.result(), await one.result()]
            assert {(result.id, result.check, result.outcome) for result in results} == {
                (5, HEALTH, DONE),
                (6, CHECK, DONE),
            }
            await settle(lambda: open_sockets() <= before)
        assert one.results.empty()

    probing(test)


def test_checks_and_tasks_do_not_disturb_each_other() -> None:
    async def test(one: Probing) -> None:
        async with serving(hang) as port:
            for name in ("a", "b"):
                for check in (HEALTH, CHECK):
                    one.start(one.task(name), check=check, timeout_secs=0.2, http=pb.HttpProbe(port=port))
            results = [await one.result() for _ in range(4)]
        assert {(result.id, result.outcome) for result in results} == {(number, TIMEOUT) for number in (1, 2, 3, 4)}

    probing(test)


def test_a_command_that_is_overtaken_is_stopped_and_its_answer_is_nobodys() -> None:
    async def test(one: Probing) -> None:
        one.start(command=TRUE, check=HEALTH)
        await ordered(one)
        one.start(command=TRUE, check=HEALTH)
        await ordered(one, 2)
        assert one.stopped == [one.orders[0]["id"]]
        one.prober.on_command(answer(one.orders[0], error="cancelled"))
        one.prober.on_command(answer(one.orders[0], code=0))
        one.prober.on_command(answer(one.orders[1], code=7, output="o"))
        one.prober.on_command(answer(one.orders[1], code=0))
        result = await one.result()
        assert (result.id, result.check, result.outcome, result.exit.code) == (2, HEALTH, DONE, 7)
        assert (result.output, result.latency_secs) == (b"o", 0.5)
        assert one.results.empty()

    probing(test)


# Commands


def test_what_the_coordinator_is_told() -> None:
    async def test(one: Probing) -> None:
        one.hub.options.preserve_env = True
        one.start(command=pb.CommandProbe(argv=["a", "b"], env={"X": "1"}, cwd="sandbox"), timeout_secs=0)
        await ordered(one)
        one.start(one.task("u"), command=TRUE, timeout_secs=2.5)
        await ordered(one, 2)
        first, second = one.orders
        assert first == {
            "op": "probe", "id": "3/1:t#1#1", "task": "1:t", "argv": ["a", "b"], "cwd": "sandbox", "user": "",
            "env": {"FROM": "executor", "PATH": "/executors/path", "X": "1"}, "profile": "", "timeout": 0.0,
            "sandbox": "/",
        }  # fmt: skip
        assert (second["user"], second["timeout"]) == ("somebody", 2.5)
        assert second["profile"] == "sandbox/.thermos_profile"
        for secs in (float("inf"), float("nan"), -1.0):
            one.start(one.task("v"), command=TRUE, timeout_secs=secs)
            await ordered(one, len(one.orders) + 1)
            assert one.orders[-1]["timeout"] == 0.0

    probing(test)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (pb.CommandProbe(), "command.argv: nothing to run"),
        (pb.CommandProbe(argv=["", "x"]), "command.argv: nothing to run"),
        (pb.CommandProbe(argv=["x", "a\0b"]), "command.argv[1]: holds a NUL character"),
        (
            pb.CommandProbe(argv=["x"], env={"A": "s3cret\0"}),
            "command.env: a name is empty or holds '=', or there is a NUL character",
        ),
    ],
)
def test_what_can_never_be_run_is_no_transient(command: pb.CommandProbe, why: str) -> None:
    async def test(one: Probing) -> None:
        result = await one.ask(command=command)
        assert (result.outcome, result.error) == (NO_ANSWER, why)
        assert one.orders == []

    probing(test)


@pytest.mark.parametrize(
    ("said", "outcome", "error"),
    [
        ({"code": 3, "signal": None, "error": ""}, DONE, ""),
        ({"code": None, "signal": 9, "timeout": True}, TIMEOUT, "no end within 20 s"),
        ({"code": None, "error": "fork: Too many\nopen files"}, TRANSIENT, "fork: Too many open files"),
        ({"ev": "error", "error": "probe.user: must be a string"}, TRANSIENT, "probe.user: must be a string"),
    ],
)
def test_what_its_answer_means(said: dict[str, Any], outcome: int, error: str) -> None:
    async def test(one: Probing) -> None:
        one.start(command=TRUE, check=CHECK)
        await ordered(one)
        one.prober.on_command(answer(one.orders[0], **said))
        result = await one.result()
        assert (result.outcome, result.error, result.check) == (outcome, error, CHECK)

    probing(test)


# Ends


def test_the_tasks_end_calls_off_what_is_under_way_and_says_so() -> None:
    async def test(one: Probing) -> None:
        task, other = one.task(), one.task("other")
        async with serving(hang) as port:
            before = open_sockets()
            one.start(task, http=pb.HttpProbe(port=port), check=HEALTH)
            one.start(task, command=TRUE, check=CHECK)
            one.start(other, http=pb.HttpProbe(port=port), check=HEALTH, timeout_secs=0.3)
            await settle(lambda: open_sockets() > before)
            await ordered(one)
            one.prober.task_ends(task)
            one.prober.task_ends(task)
            told = [await one.result(), await one.result()]
            assert {(result.id, result.check, result.outcome, result.error) for result in told} == {
                (1, HEALTH, *ENDING),
                (2, CHECK, *ENDING),
            }
            assert one.stopped == [one.orders[0]["id"]]
            one.prober.on_command(answer(one.orders[0], error="cancelled"))
            # The neighbour goes on, and nothing more is said of this one.
            last = await one.result()
            assert (last.id, last.outcome) == (3, TIMEOUT)
            await settle(lambda: open_sockets() <= before)
        assert one.results.empty()

    probing(test)


def test_nothing_is_probed_of_a_task_that_ends_or_has_ended() -> None:
    async def test(one: Probing) -> None:
        ending, ended, ends = one.task("ending"), one.task("ended"), one.task("ends")
        ending.ends.append(object())
        ended.latch = object()
        one.states[ends.key] = link_pb2.TaskState(end_cause=link_pb2.END_CAUSE_UNHEALTHY)
        for task, why in ((ending, "the task is ending"), (ended, "the task is over"), (ends, "the task is ending")):
            one.start(task, command=TRUE)
            result = await one.result()
            assert (result.outcome, result.error) == (TRANSIENT, why)
        assert one.orders == []

    probing(test)


@pytest.mark.parametrize("end", [lambda one: one.prober.drop_all(), lambda one: one.prober.forget(one.task())])
def test_nobody_is_told_when_nobody_asks_any_more(end: Callable[[Probing], None]) -> None:
    async def test(one: Probing) -> None:
        async with serving(hang) as port:
            before = open_sockets()
            one.start(http=pb.HttpProbe(port=port), check=HEALTH)
            one.start(command=TRUE, check=CHECK)
            await ordered(one)
            end(one)
            assert one.stopped == [one.orders[0]["id"]]
            await settle(lambda: open_sockets() <= before)
            # It works on.
            one.start(tcp=pb.TcpProbe(port=port))
            assert (await one.result()).id == 3
        assert one.results.empty()

    probing(test)


def test_an_unknown_probe_is_a_transient() -> None:
    async def test(one: Probing) -> None:
        result = await one.ask()
        assert (result.outcome, result.error) == (TRANSIENT, "this driver does not know such a probe")

    probing(test)


def test_a_defect_of_the_drivers_own_is_a_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_probe: pb.Probe) -> pb.ProbeResult:
        raise RuntimeError("s3cret")

    async def test(one: Probing) -> None:
        monkeypatch.setattr(one.prober._http, "probe", broken)
        result = await one.get(1)
        assert (result.outcome, result.error) == (TRANSIENT, "internal error: RuntimeError")

    probing(test)
