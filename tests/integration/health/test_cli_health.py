"""`trivet health` and `trivet snooze`: real commands against a real service. The driver is a double."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from tests.integration.health.double import DriverDouble, HealthProcess, run
from tests.integration.health.tool import Tool
from tests.unit.health.tasks import task_info, with_checks
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

TCP = mesos_pb2.CheckInfo(
    type=mesos_pb2.CheckInfo.TCP, tcp=mesos_pb2.CheckInfo.Tcp(port=7), delay_seconds=0, interval_seconds=0.2
)


class Prober:
    """Answers every probe as the test says."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"http_status": 200, "body": b"ok"}
        self.outcome = pb.PROBE_OUTCOME_DONE

    def __call__(self, probe: pb.Probe) -> pb.ProbeResult:
        fields = self.answer if probe.check == pb.CHECK_KIND_HEALTH else {}
        outcome = self.outcome if probe.check == pb.CHECK_KIND_HEALTH else pb.PROBE_OUTCOME_DONE
        return pb.ProbeResult(
            key=probe.key, id=probe.id, check=probe.check, outcome=outcome, latency_secs=0.0123, **fields
        )


@pytest.fixture(name="prober")
def make_prober() -> Prober:
    return Prober()


@pytest.fixture(name="trivet")
def make_tool(health: HealthProcess) -> Tool:
    return Tool(health)


def job(interval: float = 0.2, **config: Any) -> bytes:
    checker = {"http": {"port": 31001}}
    return task_info({"interval_secs": interval, "timeout_secs": 20, "health_checker": checker, **config})


def with_driver(
    health: HealthProcess, prober: Prober, body: Callable[[DriverDouble], Coroutine[Any, Any, None]]
) -> None:
    async def whole() -> None:
        async with DriverDouble(health, prober=prober) as driver:
            await body(driver)

    run(whole)


async def probed(driver: DriverDouble, more: int = 1) -> None:
    seen = len(driver.probes)
    await driver.until(lambda: len(driver.probes) >= seen + more)


def test_all_checks_stand_in_a_table(health: HealthProcess, trivet: Tool, prober: Prober) -> None:
    async def body(driver: DriverDouble) -> None:
        empty = await trivet("health")
        assert (empty.status, empty.err) == (0, "")
        assert empty.out == "no checks (`trivet ps` lists tasks without any, too)\n"
        await driver.launch(with_checks(job(1000), check=TCP), "both")
        await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
        await driver.launch(task_info(), "unchecked")
        prober.answer = {"http_status": 503}
        await driver.launch(job(1000, initial_interval_secs=600), "starting")
        await driver.until(lambda: any(each.consecutive_failures for each in driver.verdicts))
        await driver.until(lambda: any(each.check_result.changes for each in driver.verdicts))
        said = await trivet("health")
        head, first, second, third = said.out.splitlines()
        assert head.split() == ["TASK", "KIND", "TYPE", "RULE", "STATE", "LAST", "RESULT", "NEXT", "EXECUTOR"]
        assert first.startswith("both      health  http  aurora-time  healthy ")
        assert re.search(r"  success in \d+(\.\d)? ms, \d\.\ds ago +16m3\ds  e$", first)
        assert second.startswith("both      check   tcp   check        connected ")
        assert third.startswith("starting  health  http  aurora-time  STARTING, 1 failure  failure in ")
        assert said.err == ""
        objects = [json.loads(line) for line in (await trivet("health", "--json")).out.splitlines()]
        assert [(each["task_id"], each["kind"], each["probe"]) for each in objects] == [
            ("both", "health", "http"), ("both", "check", "tcp"), ("starting", "health", "http")
        ]  # fmt: skip
        assert [each.get("healthy") for each in objects] == [True, None, None]
        assert objects[1]["value"] == {"connected": True}
        assert objects[2]["passed"] is False
        assert objects[2]["last"]["outcome"] == "failure"
        only = (await trivet("health", "--executor", "other")).out
        assert only.startswith("no checks")

    with_driver(health, prober, body)


def test_one_task_is_shown_with_everything(health: HealthProcess, trivet: Tool, prober: Prober) -> None:
    async def body(driver: DriverDouble) -> None:
        await driver.launch(with_checks(job(max_consecutive_failures=2, initial_interval_secs=0), check=TCP))
        await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
        await probed(driver, 40)
        said = await trivet("health", "t")
        assert (said.status, said.err) == (0, "")
        lines = said.out.splitlines()
        assert lines[:3] == ["task t", "  executor   e of framework f", "health"]
        for words in (
            "  probe      GET http://localhost:31001/health every 0.2 s, timeout 20 s",
            "  success    body 'ok'",
            "  source     aurora; RUNNING waits for it",
            "  rule       aurora-time: initial interval 0 s, 3 failures in a row end the task, 1 success to pass",
            "  state      healthy",
            "  verdict    HTTP health check passed",
            "  rule       check: results are told as they are",
            "  verdict    TCP check: connected",
        ):
            assert words in lines, words
        assert sum(re.fullmatch(r"  results \(newest 10 of \d\d\)", line) is not None for line in lines) == 2
        passed = re.compile(r"(?m)^    20\S+ \S+  success +\d+(\.\d)? ms  HTTP health check passed$")
        assert len(passed.findall(said.out)) == 10
        for number in (3, 0):
            assert len(passed.findall((await trivet("health", "t", "--results", str(number))).out)) == number
        objects = [json.loads(line) for line in (await trivet("health", "t", "--json")).out.splitlines()]
        assert [each["kind"] for each in objects] == ["health", "check"]
        assert objects[0]["config"]["max_consecutive_failures"] == 2
        assert [result["outcome"] for result in objects[0]["results"]] == ["success"] * 10
        prober.answer = {"http_status": 500, "body": b"\x1b[2J\x9b31m gone"}
        await driver.until(lambda: driver.verdicts[-1].consecutive_failures >= 2)
        failing = (await trivet("health", "t")).out
        assert "\x1b" not in failing
        assert "  state      failing " in failing or "  state      unhealthy, stopped" in failing

    with_driver(health, prober, body)


def test_what_cannot_be_shown_or_snoozed_is_said_with_what_to_do(
    health: HealthProcess, trivet: Tool, prober: Prober
) -> None:
    async def body(driver: DriverDouble) -> None:
        await driver.launch(task_info(), "unchecked")
        await driver.launch(with_checks(task_info(), check=TCP), "told")
        key = await driver.launch(job(), "over")
        await driver.state(key, link_pb2.TASK_PHASE_CLEANING, started=True)
        hint = "trivet: `trivet health` lists all checks, `trivet ps` all tasks\n"
        for argv, words in (
            (("health", "nobody"), "no health check of a task 'nobody': ListChecks names all tasks that have one"),
            (("snooze", "nobody"), "no health check of a task 'nobody'"),
            (("snooze", "unchecked"), "no health check of a task 'unchecked': none is configured"),
            (("snooze", "told"), "it has only a check, whose results are told as they are"),
            (("snooze", "\x1b[2J"), r"'\x1b[2J'"),
        ):
            said = await trivet(*argv)
            assert (said.status, said.out) == (2, ""), argv
            assert words in said.err, argv
            assert said.err.endswith(hint), argv
            assert "\x1b" not in said.err
        over = await trivet("snooze", "over")
        assert over.status == 2
        assert "FAILED_PRECONDITION: task_id: 'over' is ending or over" in over.err
        async with DriverDouble(health, "e1", prober=prober) as other:
            await other.launch(job(), "twin")
            await driver.launch(job(), "twin")
            for verb in ("health", "snooze"):
                twin = await trivet(verb, "twin")
                assert twin.status == 2
                assert "'twin' is a task of several executors: 'e' of framework 'f', 'e1' of framework 'f'" in twin.err
                assert "say --executor ID" in twin.err
                assert (await trivet(verb, "twin", "--executor", "e1")).status == 0
        for span in (["0"], ["8days"], ["-1s"], ["x"], ["1s", "--wake"]):
            refused = await trivet("snooze", "t", "--for", *span)
            assert (refused.status, refused.out) == (2, ""), span
            assert refused.err.startswith("trivet snooze: "), span

    with_driver(health, prober, body)


def test_a_snooze_is_begun_seen_and_ended(health: HealthProcess, trivet: Tool, prober: Prober) -> None:
    async def body(driver: DriverDouble) -> None:
        await driver.launch(job())
        await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
        begun = await trivet("snooze", "t", "--for", "1h")
        assert (begun.status, begun.err) == (0, "")
        assert begun.out.startswith("t: not probed for 59m59s, until 20") or "for 1h00m, until" in begun.out
        assert begun.out.endswith("(--wake ends it)\n")
        assert "STARTING" not in begun.out
        health.restart()
        await driver.until(lambda: driver.hellos == 2)
        seen = len(driver.probes)
        shown = (await trivet("health", "t")).out
        assert "  state      healthy, snoozed 59m" in shown
        assert "  healthy, snoozed 59m" in (await trivet("health")).out
        assert len(driver.probes) == seen
        woken = await trivet("snooze", "t", "--wake", "--json")
        assert json.loads(woken.out)["snoozed_for_secs"] is None
        await driver.until(lambda: len(driver.probes) > seen)
        prober.outcome = pb.PROBE_OUTCOME_SNOOZED
        await probed(driver, 2)
        assert "healthy, snoozed (file)" in (await trivet("health", "t")).out

    with_driver(health, prober, body)


def test_a_starting_task_stays_so_and_is_told_so(health: HealthProcess, trivet: Tool, prober: Prober) -> None:
    async def body(driver: DriverDouble) -> None:
        prober.answer = {"http_status": 503}
        await driver.launch(job(initial_interval_secs=600))
        begun = await trivet("snooze", "t", "--for", "30s")
        assert "; the task stays STARTING meanwhile (--wake ends it)" in begun.out
        assert "the task stays STARTING" not in (await trivet("snooze", "t", "--wake")).out

    with_driver(health, prober, body)


def test_a_watch_of_a_task_shows_each_result_and_ends_with_it(
    health: HealthProcess, trivet: Tool, prober: Prober
) -> None:
    async def body(driver: DriverDouble) -> None:
        key = await driver.launch(job(max_consecutive_failures=1000, initial_interval_secs=0))
        await driver.until(lambda: bool(driver.verdicts) and driver.verdicts[-1].healthy)
        with trivet.open("health", "t", "--watch", "--results", "0") as watch:
            await asyncio.to_thread(watch.until, b" ms  HTTP health check passed\n", count=3)
            prober.answer = {"http_status": 500, "body": b"\x1b]0;x\x07"}
            await asyncio.to_thread(watch.until, b" ms  HTTP health check failed: status 500")
            await asyncio.to_thread(watch.until, b"  failing 1 of 1001\n")
            health.stop()
            await asyncio.to_thread(watch.until, b"trivet: health is away, waiting for it", err=True)
            health.start()
            await driver.until(lambda: driver.hellos == 2)
            prober.answer = {"http_status": 200, "body": b"ok"}
            await asyncio.to_thread(watch.until, b"  healthy\n")
            assert (await trivet("snooze", "t")).status == 0
            await asyncio.to_thread(watch.until, b"  healthy, snoozed\n")
            await driver.say(forget=link_pb2.Forget(key=key.to_pb()))
            assert await asyncio.to_thread(watch.end) == 0
            assert b"\x1b" not in watch.out
            assert b"Traceback" not in watch.err

    with_driver(health, prober, body)


def test_a_watch_ends_when_the_task_ended_while_nobody_told(
    health: HealthProcess, trivet: Tool, prober: Prober
) -> None:
    async def body(driver: DriverDouble) -> None:
        key = await driver.launch(job())
        await driver.until(lambda: bool(driver.verdicts))
        with trivet.open("health", "t", "--watch", "--json") as watch:
            await asyncio.to_thread(watch.until, b"gone", count=2)
            del driver.infos[key]
            health.stop()
            await asyncio.to_thread(watch.until, b"health is away", err=True)
            health.start()
            assert await asyncio.to_thread(watch.end) == 0
            first, *changes = [json.loads(line) for line in watch.out.splitlines()]
            assert first["config"]["interval_secs"] == 0.2
            assert {each["task_id"] for each in changes} == {"t"}
            # Told by whoever was quicker: the service that has heard so, or our own question.
            assert changes[-1]["gone"] or b"health knows the task no more" in watch.err

    with_driver(health, prober, body)


def test_a_watch_of_all_follows_and_ends_with_ctrl_c(health: HealthProcess, trivet: Tool, prober: Prober) -> None:
    async def body(driver: DriverDouble) -> None:
        key = await driver.launch(job(), "t-1")
        await driver.until(lambda: bool(driver.verdicts))
        with trivet.open("health", "--watch") as watch:
            await asyncio.to_thread(watch.until, b"\nt-1 ", count=2)
            await driver.launch(job(), "t-2")
            await asyncio.to_thread(watch.until, b"\nt-2 ")
            await driver.say(forget=link_pb2.Forget(key=key.to_pb()))
            await asyncio.to_thread(watch.until, b"EXECUTOR\nt-2 ")
            health.stop(signal.SIGTERM)
            await asyncio.to_thread(watch.until, b"(health is away: ")
            health.start()
            before = watch.out.count(b"\nt-2 ")
            await asyncio.to_thread(watch.until, b"\nt-2 ", count=before + 1)
            assert await asyncio.to_thread(watch.interrupt) == 130
            assert (watch.err, b"\x1b" in watch.out) == (b"", False)

    with_driver(health, prober, body)
