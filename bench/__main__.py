"""Runs all measurements against a stack of real processes; agent over TCP on loopback."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

from bench import delivery, execs, health, life, plan, probes, recovery, reporting
from tests.integration.faults.stack import SERVICES, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 30
LONG_ROUNDS = 10
FEW_ROUNDS = 3
IDLE_SECS = 30.0
RESULTS = os.path.join(os.path.dirname(__file__), "results.json")


class Result(NamedTuple):
    """A median."""

    value: float
    n: int


# name -> (goal; None: only reported, its unit, what it is)
GOALS: dict[str, tuple[float | None, str, str]] = {
    "launch_to_exec": (5.0, "ms", "LAUNCH sent -> process exec'd, executor attached"),
    "cold_start": (150.0, "ms", "exec of the coordinator -> first process exec'd"),
    "start_to_subscribe": (80.0, "ms", "exec of the coordinator -> SUBSCRIBE at the agent"),
    "exit_to_update": (5.0, "ms", "process exit -> terminal UPDATE at the agent"),
    "chain50": (0.25, "s", "task of 50 `true` in a chain"),
    "parallel50": (0.3, "s", "task of 50 `true` side by side, LAUNCH sent -> TASK_FINISHED at the agent"),
    "handover": (3.0, "ms", "end of a process -> the one that waits for it forked"),
    "kill_to_update": (50.0, "ms", "KILL sent -> TASK_KILLED at the agent"),
    "executor_rss": (54.0, "MiB", "idle coordinator + driver, resident"),
    "executor_anon": (26.0, "MiB", "idle coordinator + driver, anonymous"),
    "coordinator_rss": (13.0, "MiB", "coordinator, resident"),
    "coordinator_per_process": (20.0, "KiB", "coordinator's growth for each live process"),
    "idle_cpu": (0.3, "%", "executor + services, one idle task, of a core"),
    "burst200": (1.0, "s", "200 tasks end at one moment -> the agent has the last TASK_FINISHED"),
    "drain_away": (2.0, "s", "agent back after a long time -> the last of 1,000 updates acknowledged"),
    "drain_refused": (2.0, "s", "agent takes updates again after 503 -> the same"),
    "proposal": (0.5, "ms", "a proposal through the reporter, 6,000 of them (0.5 ms: 2,000/s)"),
    "proposals_lost": (0.0, "", "of those under way at 5 kill -9 of the reporter, and of all others"),
    "plan_load": (150.0, "ms", "reading and checking a task of 1,000 processes, 10,000 order edges"),
    "plan_run": (150.0, "ms", "the same task planned and lived through, 3,000 events"),
    "plan_load_growth": (1.6, "x", "cost of a process, 4,000 of them : 1,000 (1 linear, 4 quadratic)"),
    "plan_run_growth": (1.6, "x", "the same for living through it"),
    "recovery": (3.0, "s", "exec of the runner -> serves 10,000 ended + 200 live tasks of 50 records"),
    "recovery_rss": (120.0, "MiB", "what the runner then holds, resident"),
    "health1000": (50.0, "ms", "1,000 HTTP checks at 1 s: 99 % of the probes start within this of when they are due"),
    "health1000_service": (50.0, "%", "the health service meanwhile, of a core"),
    "health1000_drivers": (None, "%", "the four drivers meanwhile, of a core"),
    "health1000_tcp": (50.0, "ms", "the same with TCP checks"),
    "health1000_tcp_service": (50.0, "%", "the health service meanwhile, of a core"),
    "health1000_tcp_drivers": (None, "%", "the four drivers meanwhile, of a core"),
}
LATENCIES = {
    "launch_to_exec", "cold_start", "start_to_subscribe", "exit_to_update", "chain50", "parallel50", "handover",
    "kill_to_update", "burst200",
}  # fmt: skip
SIZES = {"executor_rss", "executor_anon", "coordinator_rss", "coordinator_per_process", "idle_cpu"}
NEED_STACK = LATENCIES | SIZES


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes."""
    options = parse(arguments)
    wanted = set(options.names or GOALS)
    results = {**planning(wanted), **recovering(wanted), **delivering(wanted), **probing(wanted)}
    if wanted & NEED_STACK:
        progress("starting the stack")
        stack = Stack()
        try:
            results = {**latencies(stack, wanted), **sizes(stack, wanted), **results}
        finally:
            stack.close()
    # What belongs together is measured together: only what was asked for is told.
    results = {name: results[name] for name in GOALS if name in wanted}
    show(results)
    output = options.output or ("" if options.names else RESULTS)
    if output:
        write(results, output)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    width = max(map(len, GOALS))
    names = "\n".join(
        f"  {name:{width}}  {what}; " + ("no goal" if goal is None else f"goal: {goal:g} {unit}")
        for name, (goal, unit, what) in GOALS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures Trivet against a stack of real processes that is started for it, in about four minutes. "
        "Values are medians; a ! marks those beyond their goal. Nothing is asserted.",
        epilog=f"names:\n{names}\n\nexamples:\n"
        "  python -m bench                              all of it, into bench/results.json\n"
        "  python -m bench launch_to_exec handover      these two, only printed\n"
        "  python -m bench chain50 --output chain.json  one, printed and written\n\n"
        "Other work on the machine shows in all of it. As root, `chrt -r 1 python -m bench` keeps out of its way.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all, if none is named")
    parser.add_argument(
        "--output", metavar="FILE", help="JSON file for the results (bench/results.json if no NAME is given, else none)"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in GOALS]
    if unknown:
        parser.error(f"NAME: no such measurement: {', '.join(unknown)} (--help lists them)")
    return options


def write(results: dict[str, Result], path: str) -> None:
    """The results with their goals, as JSON."""
    with open(path, "w") as file:
        json.dump(
            {
                name: {"value": result.value, "unit": GOALS[name][1], "n": result.n, "goal": GOALS[name][0]}
                for name, result in results.items()
            },
            file,
            indent=2,
        )
        file.write("\n")


def planning(wanted: set[str]) -> dict[str, Result]:
    """The runner's planner, without a stack."""
    if not wanted & {"plan_load", "plan_run", "plan_load_growth", "plan_run_growth"}:
        return {}
    progress("plans")
    times = plan.plan_times()
    plan.show(times)
    return {
        "plan_load": Result(1000 * times["load"][0], plan.ROUNDS),
        "plan_run": Result(1000 * times["live"][0], plan.ROUNDS),
        "plan_load_growth": Result(plan.growth(times["load"]), plan.ROUNDS),
        "plan_run_growth": Result(plan.growth(times["live"]), plan.ROUNDS),
    }


def recovering(wanted: set[str]) -> dict[str, Result]:
    """The runner alone, started on a state directory."""
    if not wanted & {"recovery", "recovery_rss"}:
        return {}
    progress("recovery of 10,200 tasks")
    rounds = recovery.recovery(rounds=LONG_ROUNDS)
    return {
        "recovery": Result(statistics.median(seconds for seconds, _ in rounds), len(rounds)),
        "recovery_rss": Result(statistics.median(mib for _, mib in rounds), len(rounds)),
    }


def delivering(wanted: set[str]) -> dict[str, Result]:
    """The reporter alone, and the driver between doubles of agent and reporter."""
    results: dict[str, Result] = {}
    measured: dict[str, Callable[[], float]] = {
        "drain_away": delivery.drain,
        "drain_refused": lambda: delivery.drain(refused=True),
        "proposal": lambda: 1000 * reporting.throughput(),
    }
    for name, once in measured.items():
        if name in wanted:
            progress(name)
            results[name] = Result(statistics.median(once() for _ in range(FEW_ROUNDS)), FEW_ROUNDS)
    if "proposals_lost" in wanted:
        progress("proposals_lost")
        # A lost one is an error there.
        results["proposals_lost"] = Result(0.0, reporting.survived())
    return results


def probing(wanted: set[str]) -> dict[str, Result]:
    """A stack of its own for each kind of checks."""
    results = {}
    for kind, name in (("http", "health1000"), ("tcp", "health1000_tcp")):
        if not wanted & {name, f"{name}_service", f"{name}_drivers"}:
            continue
        progress(f"{health.CHECKS} {kind} checks")
        measured = health.measure(kind)
        health.show(kind, measured)
        results[name] = Result(1000 * measured.percentile(0.99), len(measured.late))
        results[f"{name}_service"] = Result(100 * measured.service, 1)
        results[f"{name}_drivers"] = Result(100 * measured.drivers, 1)
    return results


def latencies(stack: Stack, wanted: set[str]) -> dict[str, Result]:
    """Everything that takes time."""
    if not wanted & LATENCIES:
        return {}
    results: dict[str, Result] = {}
    gate, watch = stack.gate(), execs.watch_if_allowed()
    if watch is None:
        progress("not root: exec is told by the process itself, about 1 ms late")
    if wanted & {"cold_start", "start_to_subscribe"}:
        progress("cold starts")
        colds = [life.cold_start(stack, gate, watch) for _ in range(ROUNDS)]
        results["cold_start"] = millis([cold for _, cold in colds])
        results["start_to_subscribe"] = millis([subscribe for subscribe, _ in colds])
    anchor = life.Anchor(stack, "lively")
    seconds: dict[str, Callable[[], float]] = {
        "launch_to_exec": lambda: life.launch_to_exec(anchor, gate, watch),
        "exit_to_update": lambda: life.exit_to_update(anchor, gate),
        "kill_to_update": lambda: life.kill_to_update(anchor),
        "chain50": lambda: life.chain(anchor, 50),
        "parallel50": lambda: life.parallel(anchor, 50),
        "handover": lambda: life.handover(anchor, gate, watch),
    }
    for name, once in seconds.items():
        if name in wanted:
            progress(name)
            long = name in {"chain50", "parallel50"}
            values = [once() for _ in range(LONG_ROUNDS if long else ROUNDS)]
            results[name] = Result(statistics.median(values), len(values)) if long else millis(values)
    anchor.end()
    if "burst200" in wanted:
        progress("burst200")
        results["burst200"] = Result(statistics.median(delivery.burst(stack) for _ in range(FEW_ROUNDS)), FEW_ROUNDS)
    return results


def sizes(stack: Stack, wanted: set[str]) -> dict[str, Result]:
    """Everything that takes room, and the cost of doing nothing."""
    if not wanted & SIZES:
        return {}
    progress("memory")
    anchor = life.Anchor(stack, "idle")
    coordinator, driver = anchor.task.coordinator(), anchor.task.driver()
    pair = (coordinator, driver)
    rss, anon = (sum(probes.status_kib(pid, field) for pid in pair) / 1024 for field in ("VmRSS", "RssAnon"))
    alone = probes.status_kib(coordinator, "VmRSS")
    results = {
        "executor_rss": Result(rss, 1),
        "executor_anon": Result(anon, 1),
        "coordinator_rss": Result(alone / 1024, 1),
    }
    if "idle_cpu" in wanted:
        progress(f"doing nothing for {IDLE_SECS:.0f} s")
        pids = [*pair, *(part.process.pid for name in SERVICES if (part := stack.parts[name]).process)]
        before = sum(map(probes.cpu_seconds, pids))
        threading.Event().wait(IDLE_SECS)
        results["idle_cpu"] = Result(100 * (sum(map(probes.cpu_seconds, pids)) - before) / IDLE_SECS, 1)
    if "coordinator_per_process" in wanted:
        many = 100
        definition = life.task(*(life.process("exec sleep 3600", f"p{i}") for i in range(many)))
        crowd = anchor.launch(definition)
        crowd.wait_for("TASK_RUNNING")
        crowded = probes.status_kib(coordinator, "VmRSS")
        crowd.kill()
        crowd.wait_end()
        results["coordinator_per_process"] = Result((crowded - alone) / many, many)
    anchor.end()
    return results


def millis(values: list[float]) -> Result:
    """Median of seconds, in ms."""
    return Result(1000 * statistics.median(values), len(values))


def show(results: dict[str, Result]) -> None:
    """The table."""
    print(f"\nPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs; medians\n")
    print(f"{'name':24} {'value':>9}  {'goal':>7}  {'n':>4}  what")
    for name, result in results.items():
        goal, unit, what = GOALS[name]
        mark = " " if goal is None or result.value <= goal else "!"
        shown = "-" if goal is None else f"{goal:g}"
        print(f"{name:24} {result.value:9.2f}{mark} {shown:>7}  {result.n:4}  {what} [{unit}]")


def progress(what: str) -> None:
    """One line for whoever waits."""
    print(f"bench: {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
