"""Who waits for whom: the order constraints of a task as a graph, linear in the number of names in all orders."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

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

    def find_cycles(self) -> list[list[str]]:
        """Cycles in the order of their edges, first name not repeated at the end; empty when there is none.

        Names that wait for themselves, and one cycle of each set of names that all wait for each other: such a set may
        have countless ones.
        """
        cycles = [[name] for name, others in self.predecessors.items() if name in others]
        return cycles + [self._cycle_in(knot) for knot in self._knots() if len(knot) > 1]

    def _cycle_in(self, knot: AbstractSet[str]) -> list[str]:
        """A cycle among names that all wait for each other."""
        name = next(iter(knot))
        trail: dict[str, int] = {}
        # Each name has a predecessor among them, so walking backwards must come round.
        while name not in trail:
            trail[name] = len(trail)
            name = next(other for other in self.predecessors[name] if other in knot and other != name)
        return list(trail)[trail[name] :][::-1]

    def _knots(self) -> Iterator[AbstractSet[str]]:
        """Strongly connected components of what is on or behind a cycle (Kosaraju)."""
        stuck = self.predecessors.keys() - self.sorted()
        finished: list[str] = []
        seen: set[str] = set()
        for root in (name for name in self.predecessors if name in stuck and name not in seen):
            seen.add(root)
            walk = [(root, iter(self.successors[root]))]
            while walk:
                name, others = walk[-1]
                following = next((other for other in others if other in stuck and other not in seen), None)
                if following is None:
                    finished.append(name)
                    walk.pop()
                else:
                    seen.add(following)
                    walk.append((following, iter(self.successors[following])))
        for root in reversed(finished):
            if root not in stuck:
                continue
            stuck.discard(root)
            knot = {root: None}
            found = [root]
            for name in found:  # grows while it is walked
                for other in self.predecessors[name]:
                    if other in stuck:
                        stuck.discard(other)
                        knot[other] = None
                        found.append(other)
            yield knot.keys()
