"""How planning grows with the task: 1,000 processes with 10,000 order edges, twice and four times that."""

from __future__ import annotations

import gc
import json
import random
import statistics
import sys
import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.common.task import load
from services.runner.events import HandsSeen, StartRun
from services.runner.plan import Outcome, Plan
from services.runner.processes import Exit, HandsRun, HandsState
from services.runner.records import Moment
from services.runner.spec import TaskSpec
from services.runner.state import State
from services.runner.tasks import decide

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 1000
EDGES_PER_PROCESS = 10
FACTORS = (1, 2, 4)
ROUNDS = 10


def plan_times() -> dict[str, list[float]]:
    """Medians of seconds for each factor: reading and checking the task, planning it, and living through it."""
    times: dict[str, list[float]] = {"load": [], "plan": [], "live": []}
    for factor in FACTORS:
        info = task_info(PROCESSES * factor)
        spec = read(info)
        times["load"].append(_median(partial(read, info)))
        times["plan"].append(_median(partial(run_through, spec)))
        times["live"].append(_median(partial(live_through, spec)))
    return times


def _median(work: Callable[[], object]) -> float:
    """Seconds of this process: what others do on the machine does not count, nor does what it has left to collect."""
    rounds = []
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        try:
            begin = time.process_time()
            work()
            rounds.append(time.process_time() - begin)
        finally:
            gc.enable()
    return statistics.median(rounds)


def read(info: mesos_pb2.TaskInfo) -> TaskSpec:
    """From the TaskInfo to what the planner takes: reading, templates, rules, order."""
    return TaskSpec.of(load(info, hostname="host").task.task)


def growth(times: list[float]) -> float:
    """What the largest task costs for each process, in terms of the smallest: 1 is linear, 4 quadratic."""
    return times[-1] / times[0] / (FACTORS[-1] / FACTORS[0])


def task_info(count: int) -> mesos_pb2.TaskInfo:
    """A task whose processes each wait for about ten earlier ones."""
    dice = random.Random(count)
    names = [f"p{number}" for number in range(count)]
    orders = [[names[dice.randrange(number)], names[number]] for number in range(1, count)]
    while sum(len(order) - 1 for order in orders) < EDGES_PER_PROCESS * count:
        chain = sorted(dice.sample(range(count), 20))
        orders.append([names[number] for number in chain])
    processes = [{"name": name, "cmdline": "true", "min_duration": 0} for name in names]
    info = mesos_pb2.TaskInfo(name="bench")
    info.task_id.value = "bench"
    info.agent_id.value = "agent"
    info.data = json.dumps({"processes": processes, "constraints": [{"order": order} for order in orders]}).encode()
    return info


def run_through(spec: TaskSpec) -> None:
    """The plan alone, from the first process to the last."""
    plan = Plan(spec.processes, spec.successors)
    while not plan.complete:
        for name in plan.runnable:
            plan.waiting(name)
        while (ready := plan.next_ready(0.0)) is not None:
            plan.forked(ready)
            plan.ended(ready, Outcome.SUCCESS, 0.0)


def live_through(spec: TaskSpec) -> None:
    """The whole machine: every start, exec and exit is an event of its own, as hands tell them."""
    state = State.new(spec)
    now = Moment(1000.0, 1.7e9)
    actions = decide(state, [HandsSeen((), 0, hello=True)], now).actions
    while actions:
        started = [HandsRun(a.process, a.run, HandsState.RUNNING, 1, 1) for a in actions if isinstance(a, StartRun)]
        actions = []
        for run in started:
            actions += decide(state, [HandsSeen([run], 1)], now).actions
            ended = run._replace(state=HandsState.EXITED, exit=Exit(code=0))
            actions += decide(state, [HandsSeen([ended], 0)], now).actions
    if not state.over:
        raise RuntimeError("the task has not ended")


def show(times: dict[str, list[float]]) -> None:
    """One line a step."""
    for name, values in times.items():
        sizes = ", ".join(
            f"{PROCESSES * factor} processes {1000 * value:.1f} ms"
            for factor, value in zip(FACTORS, values, strict=True)
        )
        ratios = ", ".join(f"x{after / before:.2f}" for before, after in pairwise(values))
        print(f"{name:5} {sizes} ({ratios}; linear: x2.00)")


if __name__ == "__main__":
    show(plan_times())
    sys.exit(0)
