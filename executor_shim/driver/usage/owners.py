"""Whose is a process? Pure: a snapshot and the runs in, owners out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from executor_shim.coordinator import tag, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from executor_shim.driver.usage.stats import Stat


class Owner(NamedTuple):
    """A run; `process` is empty for what belongs to a task but to no run that is known."""

    task: str
    process: str
    run: int


class KnownRun(NamedTuple):
    """A run as the coordinator has told of it. It leads the session `pid`."""

    owner: Owner
    pid: int
    ticks: int
    marker: str


def owners(
    procs: Mapping[int, Stat],
    coordinator: int,
    runs: Iterable[KnownRun],
    read_marker: Callable[[int], str],
    read_tag: Callable[[int], int],
    driver: int,
    only: str = "",
) -> dict[int, Owner]:
    """Owner by pid of every process below the coordinator that belongs to a task.

    A run's own process is known by pid and age, what hangs below it goes with it. An orphan, which the coordinator has
    adopted, is known by its tag, else by the marker in its environment, else by its session (the coordinator's own
    order); what has none of these belongs to the only task there is.

    Args:
        procs: snapshot.
        coordinator: its pid.
        runs: what is known.
        read_marker: how to get at the marker of a process of the snapshot.
        read_tag: the same for its tag.
        driver: its pid: it is nobody's.
        only: the only task of the executor, whether or not it is to be measured; empty: there are several, or none.
    """
    runs = list(runs)
    by_process = {(run.pid, run.ticks): run.owner for run in runs}
    by_marker = {run.marker: run.owner for run in runs if run.marker}
    by_tag = {tag.of(run.marker): run.owner for run in runs if run.marker}
    by_session = {run.pid: run.owner for run in runs}
    # That of the log pumps. No process of a task can be in it.
    own_session = procs[coordinator].sid if coordinator in procs else 0
    tops: dict[int, Owner | None] = {}
    found: dict[int, Owner] = {}
    for pid, top in tree.roots(dict(procs), coordinator).items():
        if top not in tops:
            head = procs[top]
            tops[top] = by_process.get((head.pid, head.ticks)) or by_tag.get(read_tag(top))
            tops[top] = tops[top] or by_marker.get(read_marker(top)) or by_session.get(head.sid)
            if tops[top] is None and only and head.sid != own_session and top != driver:
                tops[top] = Owner(only, "", 0)
        owner = tops[top]
        if owner is not None:
            found[pid] = owner
    return found
