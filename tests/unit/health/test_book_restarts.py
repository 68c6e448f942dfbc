"""Restarts of the service under many checks, under a clock that the test moves."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from services.common.keys import Executor
from tests.effort import at_length
from tests.unit.health.tasks import task_info
from tests.unit.health.world import DriverDouble, World, kinds

if TYPE_CHECKING:
    from services.health.model import Check
    from trivet.health.v1 import health_pb2 as pb


@at_length
def test_fifty_restarts_under_two_hundred_checks_make_no_false_transition(world: World) -> None:
    """Every task is healthy all the time, but for `bad`, which fails one check in three."""
    drivers = [DriverDouble(world, Executor("f", f"e{number}", "i")) for number in range(200)]
    bad = drivers[7]
    calls = itertools.count()
    info = task_info(
        {"interval_secs": 10, "max_consecutive_failures": 2, "min_consecutive_successes": 2}, {"health": 1}
    )
    in_flight = 0

    def obey(driver: DriverDouble, messages: list[pb.AttachResponse]) -> None:
        for message in messages:
            if message.WhichOneof("message") == "probe":
                failing = driver is bad and next(calls) % 3 == 2
                driver.answer(message.probe, b"sorry" if failing else b"ok")

    def serve() -> None:
        while world.spoken:
            driver = world.spoken.pop()
            obey(driver, driver.listen())

    for driver in drivers:
        driver.attach()
        obey(driver, driver.launch(info))
    world.run(25, serve)
    assert all(driver.verdicts[driver.key()].passed for driver in drivers)
    told = {driver.executor: len(driver.heard) for driver in drivers}
    for _ in range(50):
        # Killed at a random moment, with probes under way.
        world.run(world.random.uniform(0, 15), serve)
        world.run(world.random.uniform(0, 2))
        in_flight += sum(check.flight is not None for check in checks_of(world))
        world.start()
        world.now += world.random.uniform(0, 30)
        before = {driver.executor: driver.verdicts[driver.key()].version for driver in drivers}
        for driver in drivers:
            (told_again, *rest) = driver.attach()
            assert told_again.verdict.version == before[driver.executor]
            obey(driver, rest)
    world.run(60, serve)
    assert in_flight > 0
    for driver in drivers:
        verdicts = [message.verdict for message in driver.heard if message.WhichOneof("message") == "verdict"]
        assert all(verdict.passed and not verdict.dead for verdict in verdicts[2:])
        if driver is not bad:
            assert all(verdict.healthy for verdict in verdicts if verdict.passed)
        assert len(driver.heard) > told[driver.executor] + 50


def checks_of(world: World) -> list[Check]:
    return [entry.check(kind) for entry in world.book.entries() for kind in entry.checked]


def test_after_a_restart_overdue_probes_are_spread_over_the_interval(world: World) -> None:
    drivers = [DriverDouble(world, Executor("f", f"e{number}", "i")) for number in range(200)]
    for driver in drivers:
        driver.attach()
        driver.answer(driver.launch()[0].probe)
    world.now += 300
    world.start()
    for driver in drivers:
        driver.attach()
    sent = []
    for _ in range(10):
        world.run(1)
        sent.append(sum(kinds(driver.listen()).count("probe") for driver in drivers))
    assert sum(sent) == 200
    assert max(sent) < 50
