"""The book with real journals, under a clock and a schedule that the test moves. The drivers are doubles."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import logging
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from services.common.attach import Session
from services.common.keys import Executor, TaskKey
from services.health.book import FORGET_AFTER, Book
from services.health.store import Store
from tests.unit.health.tasks import task_info
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINE = Executor("f", "e", "i")
CHECKED = task_info(ports={"health": 31001})


class Later:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """Clock, schedule and state directory; the service process in it can be killed and started again."""

    def __init__(self, path: Path) -> None:
        self.now = 5000.0
        self.random = random.Random(7)
        self.path = path
        self.start()

    def start(self) -> None:
        """A new service process; what the old one has not journalled is gone."""
        self.calls: list[tuple[float, int, Later, Callable[[], object]]] = []
        self.count = itertools.count()
        store = Store(str(self.path), "boot")
        self.book = Book(store, self.schedule, clock=lambda: self.now, jitter=self.random.random)
        self.book.replay()

    def schedule(self, delay: float, callback: Callable[[], object], /) -> Later:
        timer = Later()
        heapq.heappush(self.calls, (self.now + delay, next(self.count), timer, callback))
        return timer

    def run(self, secs: float, after_each: Callable[[], None] = lambda: None) -> None:
        """Lets time pass."""
        until = self.now + secs
        while self.calls and self.calls[0][0] <= until:
            at, _, timer, callback = heapq.heappop(self.calls)
            if not timer.cancelled:
                self.now = max(self.now, at)
                callback()
                after_each()
        self.now = until


class DriverDouble:
    """One executor's driver with its tasks; remembers what a real one would."""

    def __init__(self, world: World, executor: Executor = MINE) -> None:
        self.world = world
        self.executor = executor
        self.infos: dict[TaskKey, bytes] = {}
        self.states: dict[TaskKey, link_pb2.TaskState] = {}
        self.verdicts: dict[TaskKey, link_pb2.Verdict] = {}
        self.heard: list[pb.AttachResponse] = []
        self.session: Session[pb.AttachResponse] | None = None

    def key(self, task_id: str = "t") -> TaskKey:
        return TaskKey(self.executor, task_id, 1)

    def attach(self, *, memory: bool = True) -> list[pb.AttachResponse]:
        hello = link_pb2.Hello(executor=self.executor.to_pb(), sandbox="/sb", hostname="h", uid=0)
        self.session = Session(hello)
        tasks = []
        for key, info in self.infos.items():
            task = link_pb2.HelloTask(key=key.to_pb(), task_hash=hashlib.sha256(info).digest())
            if key in self.states:
                task.task_state.CopyFrom(self.states[key])
            if memory and key in self.verdicts:
                task.verdict.CopyFrom(self.verdicts[key])
            tasks.append(task)
        self.world.book.on_hello(self.session, hello, tasks)
        return self.listen()

    def detach(self) -> None:
        assert self.session is not None
        self.world.book.on_detach(self.session)

    def say(self, **message: Any) -> list[pb.AttachResponse]:
        assert self.session is not None
        self.world.book.on_message(self.session, pb.AttachRequest(**message))
        return self.listen()

    def launch(self, info: bytes = CHECKED, task_id: str = "t", *, started: bool = True) -> list[pb.AttachResponse]:
        key = self.key(task_id)
        self.infos[key] = info
        heard = self.say(launch=link_pb2.Launch(key=key.to_pb(), info=info))
        return heard + (self.state(task_id, started=True) if started else [])

    def state(self, task_id: str = "t", **fields: Any) -> list[pb.AttachResponse]:
        key = self.key(task_id)
        state = {"phase": link_pb2.TASK_PHASE_ACTIVE, **fields}
        self.states[key] = link_pb2.TaskState(key=key.to_pb(), **state)
        return self.say(task_state=self.states[key])

    def answer(self, probe: pb.Probe, body: bytes = b"ok", **fields: Any) -> list[pb.AttachResponse]:
        filled = {"outcome": pb.PROBE_OUTCOME_DONE, "http_status": 200, "body": body, **fields}
        return self.say(result=pb.ProbeResult(key=probe.key, id=probe.id, **filled))

    def listen(self) -> list[pb.AttachResponse]:
        """What was said since the last time; NeedTask is obeyed."""
        assert self.session is not None
        heard = []
        while not self.session.queue.empty():
            heard.append(self.session.queue.get_nowait())
        self.heard += heard
        for message in list(heard):
            match message.WhichOneof("message"):
                case "verdict":
                    key = TaskKey.of(message.verdict.key)
                    known = self.verdicts.get(key)
                    # The receiver keeps the newest.
                    if known is None or message.verdict.version > known.version:
                        self.verdicts[key] = message.verdict
                case "need_task":
                    key = TaskKey.of(message.need_task.key)
                    heard += self.say(launch=link_pb2.Launch(key=key.to_pb(), info=self.infos[key]))
        return heard


@pytest.fixture(name="world")
def make_world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(name="driver")
def make_driver(world: World) -> DriverDouble:
    driver = DriverDouble(world)
    driver.attach()
    return driver


def kinds(messages: list[pb.AttachResponse]) -> list[str | None]:
    return [message.WhichOneof("message") for message in messages]


def journals(world: World) -> int:
    return len(os.listdir(world.path / "checks"))


@pytest.mark.parametrize("info", [task_info(), b"\xff not a TaskInfo", task_info(processes=[])])
def test_a_task_without_a_check_passes_at_once_and_healthy_is_unset(driver: DriverDouble, info: bytes) -> None:
    (message,) = driver.launch(info, started=False)
    assert message.verdict.passed
    assert not message.verdict.HasField("healthy")
    assert not message.verdict.dead
    assert driver.state(started=True) == []
    driver.world.start()
    assert [message.verdict.passed for message in driver.attach()] == [True]


def test_probe_answer_verdict(driver: DriverDouble) -> None:
    (probe,) = driver.launch()
    assert (probe.probe.http.port, probe.probe.http.path) == (31001, "/health")
    (verdict,) = driver.answer(probe.probe)
    assert (verdict.verdict.passed, verdict.verdict.healthy, verdict.verdict.dead) == (True, True, False)
    driver.world.run(9.9)
    assert driver.listen() == []
    driver.world.run(0.2)
    (second,) = driver.listen()
    driver.world.run(0.5)
    assert driver.answer(second.probe) == []
    driver.world.run(10)
    (third,) = driver.listen()
    (verdict,) = driver.answer(third.probe, b"sorry", http_status=503)
    assert (verdict.verdict.passed, verdict.verdict.healthy, verdict.verdict.dead) == (True, False, True)
    assert verdict.verdict.message == (
        "HTTP health check failed: status 503, expected body 'ok', got 'sorry' (1 failure in a row, 0 allowed)"
    )
    driver.world.run(100)
    assert driver.listen() == []


def test_a_task_that_has_not_started_is_not_probed(driver: DriverDouble) -> None:
    assert driver.launch(started=False) == []
    assert driver.state(started=False) == []
    driver.world.run(100)
    assert driver.listen() == []
    assert kinds(driver.state(started=True)) == ["probe"]


@pytest.mark.parametrize(
    "fields",
    [
        {"phase": link_pb2.TASK_PHASE_CLEANING},
        {"phase": link_pb2.TASK_PHASE_SUCCESS},
        {"phase": link_pb2.TASK_PHASE_LOST},
        {"end_cause": link_pb2.END_CAUSE_KILL},
    ],
)
def test_an_ending_task_gets_no_probe_and_no_verdict(driver: DriverDouble, fields: dict[str, Any]) -> None:
    (probe,) = driver.launch()
    driver.state(started=True, **fields)
    assert driver.answer(probe.probe, b"sorry") == []
    driver.world.run(100)
    assert driver.listen() == []
    # An old view that comes late starts nothing.
    assert driver.state(started=True) == []


def test_a_launch_that_comes_twice_changes_nothing(driver: DriverDouble) -> None:
    driver.launch()
    assert driver.say(launch=link_pb2.Launch(key=driver.key().to_pb(), info=CHECKED)) == []
    assert driver.say(launch=link_pb2.Launch(key=driver.key().to_pb(), info=task_info())) == []


def test_forget_removes_check_and_journal(driver: DriverDouble) -> None:
    driver.launch()
    assert journals(driver.world) == 1
    driver.say(forget=link_pb2.Forget(key=driver.key().to_pb()))
    assert journals(driver.world) == 0
    assert driver.world.book.shown() == []
    driver.say(forget=link_pb2.Forget(key=driver.key().to_pb()))
    driver.world.run(100)
    assert kinds(driver.listen()) == []


def test_an_unknown_task_in_hello_is_asked_for(world: World) -> None:
    driver = DriverDouble(world)
    driver.infos[driver.key()] = CHECKED
    driver.states[driver.key()] = link_pb2.TaskState(phase=link_pb2.TASK_PHASE_ACTIVE, started=True)
    assert kinds(driver.attach()) == ["need_task", "probe"]


def test_a_known_task_in_hello_is_not_asked_for(driver: DriverDouble) -> None:
    driver.answer(driver.launch()[0].probe)
    driver.world.start()
    (verdict,) = driver.attach()
    assert verdict.verdict == driver.verdicts[driver.key()]


def test_another_taskinfo_under_a_known_key_starts_anew(driver: DriverDouble) -> None:
    driver.launch()
    driver.detach()
    driver.infos[driver.key()] = task_info({"health_checker": {"shell": {"shell_command": "x"}}})
    (need, probe) = driver.attach()
    assert (need.WhichOneof("message"), probe.probe.command.argv[2]) == ("need_task", "x")


def test_a_task_that_is_not_in_hello_is_dropped(driver: DriverDouble) -> None:
    driver.launch()
    driver.launch(task_id="other")
    driver.detach()
    del driver.infos[driver.key()]
    driver.attach()
    assert [check.key.task_id for check in driver.world.book.shown()] == ["other"]
    assert journals(driver.world) == 1


def test_tasks_of_an_earlier_incarnation_are_dropped_unless_its_driver_is_attached(driver: DriverDouble) -> None:
    driver.launch()
    later = DriverDouble(driver.world, Executor("f", "e", "later"))
    later.attach()
    assert len(driver.world.book.shown()) == 1
    driver.detach()
    later.detach()
    later.attach()
    assert driver.world.book.shown() == []


def test_another_executors_tasks_are_left_alone(driver: DriverDouble) -> None:
    driver.launch()
    driver.detach()
    DriverDouble(driver.world, Executor("f", "e2", "i")).attach()
    assert len(driver.world.book.shown()) == 1


@pytest.mark.parametrize("kind", ["launch", "task_state", "result", "forget"])
def test_a_driver_speaks_only_of_its_own_tasks(driver: DriverDouble, kind: str) -> None:
    (probe,) = driver.launch()
    intruder = DriverDouble(driver.world, Executor("f", "evil", "i"))
    intruder.attach()
    before = driver.world.book.shown()
    message: dict[str, Any] = {
        "launch": link_pb2.Launch(key=driver.key().to_pb(), info=task_info()),
        "task_state": link_pb2.TaskState(key=driver.key().to_pb(), phase=link_pb2.TASK_PHASE_KILLED),
        "result": pb.ProbeResult(key=driver.key().to_pb(), id=probe.probe.id, outcome=pb.PROBE_OUTCOME_TIMEOUT),
        "forget": link_pb2.Forget(key=driver.key().to_pb()),
    }
    intruder.say(**{kind: message[kind]})
    assert intruder.session is not None
    assert not intruder.session.alive
    assert driver.world.book.shown() == before


def test_a_lost_journal_never_unpasses_a_task(driver: DriverDouble) -> None:
    driver.answer(driver.launch()[0].probe)
    version = driver.verdicts[driver.key()].version
    for name in os.listdir(driver.world.path / "checks"):
        os.unlink(driver.world.path / "checks" / name)
    driver.world.start()
    heard = driver.attach()
    assert kinds(heard) == ["need_task", "verdict"]
    assert driver.verdicts[driver.key()].version > version
    assert driver.verdicts[driver.key()].passed
    driver.world.run(10)
    assert kinds(driver.listen()) == ["probe"]


def test_a_lost_journal_never_unpasses_a_task_that_was_called_running(driver: DriverDouble) -> None:
    driver.infos[driver.key()] = CHECKED
    session: Session[pb.AttachResponse] = Session(link_pb2.Hello(executor=MINE.to_pb()))
    hash_ = hashlib.sha256(CHECKED).digest()
    task = link_pb2.HelloTask(key=driver.key().to_pb(), task_hash=hash_, accepted_states=[0, 1])
    driver.world.book.on_hello(session, session.hello, [task])
    driver.session = session
    heard = driver.listen()
    assert kinds(heard) == ["need_task", "verdict"]
    assert heard[1].verdict.passed


def test_a_task_that_has_ended_before_hello_is_not_probed(world: World) -> None:
    driver = DriverDouble(world)
    driver.infos[driver.key()] = CHECKED
    driver.states[driver.key()] = link_pb2.TaskState(phase=link_pb2.TASK_PHASE_FINALIZING, started=True)
    assert kinds(driver.attach()) == ["need_task"]
    world.run(100)
    assert driver.listen() == []


@pytest.mark.parametrize(
    "fields", [{"latch": link_pb2.Latch(state=2)}, {"ends": [link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL)]}]
)
def test_a_task_whose_end_was_asked_for_before_hello_is_not_probed(
    driver: DriverDouble, fields: dict[str, Any]
) -> None:
    driver.launch(started=False)
    driver.detach()
    session: Session[pb.AttachResponse] = Session(link_pb2.Hello(executor=MINE.to_pb()))
    task = link_pb2.HelloTask(key=driver.key().to_pb(), task_hash=hashlib.sha256(CHECKED).digest(), **fields)
    driver.world.book.on_hello(session, session.hello, [task])
    driver.session = session
    assert driver.state(started=True) == []


def test_a_full_disk_holds_no_verdict_back(driver: DriverDouble) -> None:
    path = driver.world.path / "checks" / f"{driver.key().file_name}.journal"
    path.symlink_to("/dev/full")
    (probe,) = driver.launch()
    (verdict,) = driver.answer(probe.probe)
    assert verdict.verdict.passed
    path.unlink()
    driver.world.start()
    assert kinds(driver.attach()) == ["need_task", "verdict"]
    assert driver.verdicts[driver.key()].passed


def test_a_driver_that_stays_away_for_an_hour_is_given_up(driver: DriverDouble) -> None:
    driver.launch()
    driver.detach()
    driver.world.run(FORGET_AFTER - 700)
    assert len(driver.world.book.shown()) == 1
    driver.world.run(1400)
    assert driver.world.book.shown() == []
    assert journals(driver.world) == 0


def test_a_new_stream_of_the_same_driver_replaces_the_old_one(driver: DriverDouble) -> None:
    (probe,) = driver.launch()
    driver.detach()
    driver.attach()
    # The probe of the old stream is not waited for any more.
    assert driver.answer(probe.probe) == []
    driver.world.run(1)
    (again,) = driver.listen()
    assert kinds(driver.answer(again.probe)) == ["verdict"]


def test_nothing_secret_is_logged_or_told(driver: DriverDouble, caplog: pytest.LogCaptureFixture) -> None:
    assert driver.session is not None
    driver.session.hello.token = b"TOPSECRET"
    with caplog.at_level(logging.DEBUG):
        driver.answer(driver.launch()[0].probe)
    assert caplog.records
    assert "TOPSECRET" not in caplog.text + str(driver.heard)


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
        for driver in drivers:
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


def checks_of(world: World) -> list[Any]:
    return [entry.checked.check for entry in world.book._entries.values() if entry.checked]


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
