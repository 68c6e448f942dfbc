"""Runs all measurements against a stack of real processes; agent over TCP on loopback."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import threading
from typing import NamedTuple

from bench import execs, life, plan, probes, recovery
from tests.integration.faults.stack import SERVICES, Stack

ROUNDS = 30
LONG_ROUNDS = 10
IDLE_SECS = 30.0
RESULTS = os.path.join(os.path.dirname(__file__), "results.json")


class Result(NamedTuple):
    """A median."""

    value: float
    unit: str
    n: int


# name -> (goal, what it is)
GOALS = {
    "launch_to_exec": (5.0, "LAUNCH sent -> process exec'd, executor attached"),
    "cold_start": (150.0, "exec of the coordinator -> first process exec'd"),
    "start_to_subscribe": (80.0, "exec of the coordinator -> SUBSCRIBE at the agent"),
    "exit_to_update": (5.0, "process exit -> terminal UPDATE at the agent"),
    "chain50": (0.25, "task of 50 `true` in a chain"),
    "parallel50": (0.3, "task of 50 `true` side by side, LAUNCH sent -> TASK_FINISHED at the agent"),
    "handover": (3.0, "end of a process -> the one that waits for it forked"),
    "kill_to_update": (50.0, "KILL sent -> TASK_KILLED at the agent"),
    "executor_rss": (54.0, "idle coordinator + driver, resident"),
    "executor_anon": (26.0, "idle coordinator + driver, anonymous"),
    "coordinator_rss": (13.0, "coordinator, resident"),
    "coordinator_per_process": (20.0, "coordinator's growth for each live process"),
    "idle_cpu": (0.3, "executor + services, one idle task, of a core"),
    "plan_load": (150.0, "reading and checking a task of 1,000 processes, 10,000 order edges"),
    "plan_run": (150.0, "the same task planned and lived through, 3,000 events"),
    "plan_load_growth": (1.6, "cost of a process, 4,000 of them : 1,000 (1 linear, 4 quadratic)"),
    "plan_run_growth": (1.6, "the same for living through it"),
    "recovery": (3.0, "exec of the runner -> serves 10,000 ended + 200 live tasks of 50 records"),
    "recovery_rss": (120.0, "what the runner then holds, resident"),
}


def main() -> int:
    """Measures, prints, writes."""
    services = {**planning(), **recovering()}
    progress("starting the stack")
    stack = Stack()
    try:
        results = {**latencies(stack), **sizes(stack), **services}
    finally:
        stack.close()
    show(results)
    with open(RESULTS, "w") as file:
        json.dump(
            {name: result._asdict() | {"goal": GOALS[name][0]} for name, result in results.items()}, file, indent=2
        )
        file.write("\n")
    return 0


def planning() -> dict[str, Result]:
    """The runner's planner, without a stack."""
    progress("plans")
    times = plan.plan_times()
    plan.show(times)
    return {
        "plan_load": Result(1000 * times["load"][0], "ms", plan.ROUNDS),
        "plan_run": Result(1000 * times["live"][0], "ms", plan.ROUNDS),
        "plan_load_growth": Result(plan.growth(times["load"]), "x", plan.ROUNDS),
        "plan_run_growth": Result(plan.growth(times["live"]), "x", plan.ROUNDS),
    }


def recovering() -> dict[str, Result]:
    """The runner alone, started on a state directory."""
    progress("recovery of 10,200 tasks")
    rounds = recovery.recovery(rounds=LONG_ROUNDS)
    return {
        "recovery": Result(statistics.median(seconds for seconds, _ in rounds), "s", len(rounds)),
        "recovery_rss": Result(statistics.median(mib for _, mib in rounds), "MiB", len(rounds)),
    }


def latencies(stack: Stack) -> dict[str, Result]:
    """Everything that takes time."""
    gate, watch = stack.gate(), execs.watch_if_allowed()
    if watch is None:
        progress("not root: exec is told by the process itself, about 1 ms late")
    progress("cold starts")
    colds = [life.cold_start(stack, gate, watch) for _ in range(ROUNDS)]
    anchor = life.Anchor(stack, "lively")
    progress("launches")
    launches = [life.launch_to_exec(anchor, gate, watch) for _ in range(ROUNDS)]
    progress("exits")
    exits = [life.exit_to_update(anchor, gate) for _ in range(ROUNDS)]
    progress("kills")
    kills = [life.kill_to_update(anchor) for _ in range(ROUNDS)]
    progress("chains")
    chains = [life.chain(anchor, 50) for _ in range(LONG_ROUNDS)]
    progress("side by side")
    parallels = [life.parallel(anchor, 50) for _ in range(LONG_ROUNDS)]
    progress("handovers")
    handovers = [life.handover(anchor, gate, watch) for _ in range(ROUNDS)]
    anchor.end()
    return {
        "launch_to_exec": millis(launches),
        "cold_start": millis([cold for _, cold in colds]),
        "start_to_subscribe": millis([subscribe for subscribe, _ in colds]),
        "exit_to_update": millis(exits),
        "chain50": Result(statistics.median(chains), "s", len(chains)),
        "parallel50": Result(statistics.median(parallels), "s", len(parallels)),
        "handover": millis(handovers),
        "kill_to_update": millis(kills),
    }


def sizes(stack: Stack) -> dict[str, Result]:
    """Everything that takes room, and the cost of doing nothing."""
    progress("memory")
    anchor = life.Anchor(stack, "idle")
    coordinator, driver = anchor.task.coordinator(), anchor.task.driver()
    pair = (coordinator, driver)
    rss, anon = (sum(probes.status_kib(pid, field) for pid in pair) / 1024 for field in ("VmRSS", "RssAnon"))
    alone = probes.status_kib(coordinator, "VmRSS")
    progress(f"doing nothing for {IDLE_SECS:.0f} s")
    pids = [*pair, *(part.process.pid for name in SERVICES if (part := stack.parts[name]).process)]
    before = sum(map(probes.cpu_seconds, pids))
    threading.Event().wait(IDLE_SECS)
    used = sum(map(probes.cpu_seconds, pids)) - before
    many = 100
    definition = life.task(*(life.process("exec sleep 3600", f"p{i}") for i in range(many)))
    crowd = anchor.launch(definition)
    crowd.wait_for("TASK_RUNNING")
    crowded = probes.status_kib(coordinator, "VmRSS")
    crowd.kill()
    crowd.wait_end()
    anchor.end()
    return {
        "executor_rss": Result(rss, "MiB", 1),
        "executor_anon": Result(anon, "MiB", 1),
        "coordinator_rss": Result(alone / 1024, "MiB", 1),
        "coordinator_per_process": Result((crowded - alone) / many, "KiB", many),
        "idle_cpu": Result(100 * used / IDLE_SECS, "%", 1),
    }


def millis(values: list[float]) -> Result:
    """Median of seconds, in ms."""
    return Result(1000 * statistics.median(values), "ms", len(values))


def show(results: dict[str, Result]) -> None:
    """The table."""
    print(f"\nPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs; medians\n")
    print(f"{'name':24} {'value':>9}  {'goal':>7}  {'n':>4}  what")
    for name, result in results.items():
        goal, what = GOALS[name]
        mark = " " if result.value <= goal else "!"
        print(f"{name:24} {result.value:9.2f}{mark} {goal:7g}  {result.n:4}  {what} [{result.unit}]")


def progress(what: str) -> None:
    """One line for whoever waits."""
    print(f"bench: {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
