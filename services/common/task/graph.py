"""Who waits for whom: the order constraints of a task as a graph, linear in the number of names in all orders."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trivet.task.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class Graph:
    """Direct predecessors and successors of each process; the keys are in the order of the task's process list.

    An order `[a, b, c]` stands for the edges a -> b and b -> c; that c waits for a follows.
    """

    predecessors: dict[str, tuple[str, ...]]
    successors: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, task: task_pb2.ThermosTask) -> Graph:
        """The graph of a task's constraints."""
        return cls.from_orders((process.name for process in task.processes), (c.order for c in task.constraints))

    @classmethod
    def from_orders(cls, names: Iterable[str], orders: Iterable[Sequence[str]]) -> Graph:
        """A graph over `names`; pairs with a name that is not among them are left out (the rules report them)."""
        # Dicts as ordered sets: the same pair may stand in many orders.
        before: dict[str, dict[str, None]] = {name: {} for name in names}
        after: dict[str, dict[str, None]] = {name: {} for name in before}
        for order in orders:
            for first, second in itertools.pairwise(order):
                if first in after and second in before:
                    after[first][second] = None
                    before[second][first] = None
        return cls(
            predecessors={name: tuple(others) for name, others in before.items()},
            successors={name: tuple(others) for name, others in after.items()},
        )

    def sorted(self) -> list[str]:
        """Names with every predecessor before its successors; names on or behind a cycle are missing."""
        missing = {name: len(others) for name, others in self.predecessors.items()}
        ready = [name for name, count in missing.items() if count == 0]
        for name in ready:  # grows while it is walked
            for successor in self.successors[name]:
                missing[successor] -= 1
                if missing[successor] == 0:
                    ready.append(successor)
        return ready

    def find_cycle(self) -> list[str] | None:
        """One cycle in the order of its edges, first name not repeated at the end; None when there is none."""
        stuck = self.predecessors.keys() - self.sorted()
        if not stuck:
            return None
        # Each stuck name has a stuck predecessor, so walking backwards must come round.
        name = next(name for name in self.predecessors if name in stuck)
        trail: dict[str, int] = {}
        path: list[str] = []
        while name not in trail:
            trail[name] = len(path)
            path.append(name)
            name = next(other for other in self.predecessors[name] if other in stuck)
        cycle = path[trail[name] :]
        cycle.reverse()
        return cycle
