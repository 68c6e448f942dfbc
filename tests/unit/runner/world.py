"""A simulated world around the task machine: a clock, a journal, hands that obey, and lines that break.

Simulated: there are no processes here. The machine is the real one.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from services.runner.budgets import Request
from services.runner.events import (
    Action,
    Event,
    Gone,
    HandsSeen,
    Lifecycle,
    LifecycleDone,
    StartRun,
    StopRun,
    Tick,
)
from services.runner.processes import Exit, HandsRun, HandsState, ProcessState
from services.runner.records import Cause, Moment, Phase, Record, RunRecord, decode, encode
from services.runner.spec import ProcessSpec, TaskSpec
from services.runner.state import State, apply
from services.runner.tasks import decide, detach, next_wakeup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.runner.events import Decision

BOOT = 1000.0
WALL = 1_700_000_000.0


def replayed(spec: TaskSpec, records: Sequence[Record]) -> State:
    """The state that a journal of `records` gives, through its written form."""
    state = State.new(spec)
    for record in records:
        apply(state, decode(encode(record)))
    return state


def facts(state: State) -> object:
    """Everything of a state that a replay must bring back."""
    return (
        state.phase,
        state.phases,
        state.launched_at,
        state.cause,
        state.ended_at,
        state.verdict,
        state.message,
        state.clean_until,
        state.end_at,
        (state.step, state.step_until, state.step_answered),
        state.endings,
        state.started,
        state.forked,
        state.version,
        state.runs,
        state.newest,
        state.open,
        state.regular.counts(),
        state.final.counts(),
        (state.regular.runnable, state.regular.complete, state.regular.deadlocked, state.regular.running),
        (state.final.runnable, state.final.complete, state.final.deadlocked, state.final.running),
    )


class World:
    """One task, its runner and its hands."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.state = State.new(spec)
        self.records: list[Record] = []
        self.now = BOOT
        self.runs: dict[tuple[str, int], HandsRun] = {}
        self.kill_at: float | None = None
        self.terminates: list[float] = []
        self.started: list[tuple[str, int]] = []
        # Said by the runner, not heard by the hands yet; and back.
        self.to_hands: deque[Action] = deque()
        self.to_runner: deque[HandsSeen | LifecycleDone] = deque()
        # Lifecycle endpoints that were asked, and whether the task answers them.
        self.asked: list[Lifecycle] = []
        self.answers = True
        self.ends: list[Request] = []
        # Processes that ended runs have left behind; they ignore SIGTERM.
        self.leftovers = 0

    def moment(self) -> Moment:
        return Moment(self.now, WALL + self.now)

    def launch(self) -> Decision:
        return self.take(HandsSeen((), 0, hello=True))

    def take(self, *events: Event) -> Decision:
        """The runner takes in events, journals and sends."""
        over = self.state.over
        decision = decide(self.state, events, self.moment())
        if over:
            assert decision.records == [], "a terminal state is the last word"
        self.records += decision.records
        if self.state.view.connected:
            self.to_hands += decision.actions
        self.check(decision)
        return decision

    def check(self, decision: Decision) -> None:
        state = self.state
        for plan in (state.regular, state.final):
            limit = self.spec.max_concurrency
            assert limit <= 0 or plan.running <= limit, "above max_concurrency"
        gave_up = any(isinstance(r, RunRecord) and "not confirmed" in r.error for r in decision.records)
        if state.over and decision.records and state.phase and state.phase.name != "LOST" and not gave_up:
            assert self.alive() == 0, f"terminal while processes live: {decision.records}"
        wakeup = next_wakeup(state)
        if wakeup is not None and wakeup <= self.now and state.view.connected:
            before = len(self.records)
            again = decide(state, [Tick()], self.moment())
            self.records += again.records
            self.to_hands += again.actions
            assert again.records or again.actions, "an alarm that changes nothing would ring for ever"
            assert len(self.records) > before or again.actions

    # Hands

    def alive(self) -> int:
        return self.leftovers + len(self.living())

    def hear(self) -> None:
        """The hands carry out the next thing that they were told."""
        if not self.to_hands:
            return
        action = self.to_hands.popleft()
        if isinstance(action, StartRun):
            key = (action.process, action.run)
            if key not in self.runs:
                self.started.append(key)
                self.runs[key] = HandsRun(*key, HandsState.RUNNING, pid=len(self.runs) + 1, start_ticks=1)
            self.say(self.runs[key])
        elif isinstance(action, StopRun):
            self.stop((action.process, action.run))
        elif isinstance(action, Lifecycle):
            self.asked.append(action)
            self.to_runner.append(LifecycleDone(action.step, self.answers))
        else:
            self.kill_at = action.kill_at
            self.terminates.append(action.kill_at)
            if action.kill_at <= self.now:
                self.kill()
            self.say()

    def stop(self, key: tuple[str, int]) -> None:
        """SIGKILL to one run; one that was never started never will be."""
        run = self.runs.get(key)
        if run is None:
            self.runs[key] = HandsRun(*key, HandsState.NOT_STARTED, error="given up")
            self.say(self.runs[key])
        elif run.state in (HandsState.FORKED, HandsState.RUNNING):
            self.exit(key, Exit(signal=9))
        else:
            self.say(run)

    def swallow(self) -> None:
        """The hands lose the next start, and nobody notices."""
        if self.to_hands and isinstance(self.to_hands[0], StartRun):
            self.to_hands.popleft()

    def get_stuck(self) -> None:
        """The hands fork the next start, and it never comes to exec; only a Hello tells."""
        action = self.to_hands[0] if self.to_hands else None
        if isinstance(action, StartRun):
            self.to_hands.popleft()
            key = (action.process, action.run)
            if key not in self.runs:
                self.started.append(key)
                self.runs[key] = HandsRun(*key, HandsState.FORKED, pid=len(self.runs) + 1, start_ticks=1)

    def say(self, *changed: HandsRun) -> None:
        self.to_runner.append(HandsSeen(changed, self.alive()))

    def living(self) -> list[tuple[str, int]]:
        return [key for key, run in self.runs.items() if run.state in (HandsState.FORKED, HandsState.RUNNING)]

    def exit(self, key: tuple[str, int], exit_: Exit, leftovers: int = 0) -> None:
        self.leftovers += leftovers
        self.runs[key] = self.runs[key]._replace(state=HandsState.EXITED, exit=exit_)
        self.say(self.runs[key])

    def kill(self) -> None:
        gone, self.leftovers = self.leftovers, 0
        for key in self.living():
            self.exit(key, Exit(signal=9))
        if gone:
            self.say()

    def deliver(self) -> None:
        """The runner hears the next thing that the hands said."""
        if self.to_runner:
            self.take(self.to_runner.popleft())

    # Lines and time

    def reconnect(self) -> None:
        """The stream breaks. What was sent has reached the hands, what they said is lost; then a Hello."""
        while self.to_hands:
            self.hear()
        self.hello()

    def lose_line(self) -> None:
        """The same, but what was sent is lost, too."""
        self.to_hands.clear()
        self.hello()

    def hello(self) -> None:
        self.to_runner.clear()
        detach(self.state)
        self.take(HandsSeen(list(self.runs.values()), self.alive(), hello=True), *self.ends)

    def restart(self, cut: int = 0) -> None:
        """The runner dies and replays its journal, without the last `cut` records that it never wrote."""
        if cut:
            # What follows from unwritten records was not sent either.
            del self.records[len(self.records) - min(cut, len(self.records) - 1) :]
        self.state = replayed(self.spec, self.records)

    def end(self, request: Request) -> None:
        self.ends.append(request)
        self.take(request)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.kill_at is not None and self.kill_at <= self.now:
            self.kill()
        wakeup = next_wakeup(self.state)
        if wakeup is not None and wakeup <= self.now:
            self.take(Tick())

    def settle(self, exit_: Exit | None = None) -> None:
        """Everybody says and does all that is due; `exit_`: and every process ends so, at once."""
        for _ in range(10_000):
            if self.to_hands:
                self.hear()
            elif self.to_runner:
                self.deliver()
            elif exit_ is not None and self.living():
                self.exit(self.living()[0], exit_)
            else:
                names = [name for name, _ in self.living()]
                assert self.state.over or len(names) == len(set(names)), f"twice at the same time: {self.living()}"
                return
        raise AssertionError("never settles")

    def run_out(self, exit_: Exit | None) -> None:
        """Lets time pass until the task is over."""
        for _ in range(2_000):
            self.settle(exit_)
            if self.state.over:
                return
            wakeup = next_wakeup(self.state)
            times = [t for t in (wakeup, self.kill_at) if t is not None and t > self.now]
            assert times, f"{self.state.phase}: nothing will ever happen: {self.state.open}"
            self.pass_time(min(times) - self.now)
        raise AssertionError("never ends")


KILL = Request(Cause.KILL, seq=1)
LOST = Gone("gone")


def spec(*processes: ProcessSpec, order: str = "", **options: Any) -> TaskSpec:
    names = order.split()
    return TaskSpec(
        processes=processes,
        successors={first: (second,) for first, second in pairwise(names)},
        **options,
    )


def proc(name: str, **options: Any) -> ProcessSpec:
    return ProcessSpec(name, **{"min_duration": 0.0, **options})


A = proc("a")
F = proc("f", final=True)
DONE = Exit(code=0)


def launched(task: TaskSpec) -> World:
    world = World(task)
    world.launch()
    return world


def running(task: TaskSpec) -> World:
    world = launched(task)
    world.settle()
    return world


def phase_of(world: World) -> Phase | None:
    return world.state.phase


def states(world: World) -> dict[tuple[str, int], ProcessState]:
    return {(name, number): run.state for name, runs in world.state.runs.items() for number, run in runs.items()}
