"""An order of processes as a tree for people: each process once, below the last of those that it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cli.views.texts import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from services.common.task import Graph

# Below this level the tree gets no broader: a chain of a thousand is a thousand lines, not a million blanks.
MAX_LEVELS = 24
_MAX_NAMED = 5


def tree(
    graph: Graph,
    names: Collection[str],
    label: Callable[[str], str],
    below: Callable[[str], Iterable[str]] | None = None,
) -> Iterator[str]:
    """Lines of the tree of `names`, linear in the size of the graph.

    Args:
        graph: without a cycle.
        names: the processes to show; all that they wait for are among them.
        label: what stands in the line of a process.
        below: further lines of a process, shown under its own.
    """
    level, above = _levels(graph)
    shown = set(names)
    children: dict[str | None, list[str]] = {}
    for name in graph.predecessors:
        if name in shown:
            children.setdefault(above.get(name), []).append(name)
    # (name, what stands before its line, whether it is the last of its parent's)
    stack: list[tuple[str, str, bool]] = []

    def push(parent: str | None, indent: str) -> None:
        others = children.get(parent, [])
        stack.extend((name, indent, name == others[-1]) for name in reversed(others))

    push(None, "")
    while stack:
        name, indent, last = stack.pop()
        others = [other for other in graph.predecessors[name] if other != above.get(name)]
        deep = f"  (level {level[name]})" if level[name] > MAX_LEVELS else ""
        yield f"{indent}{'└─ ' if last else '├─ '}{label(name)}{_also(others)}{deep}"
        if level[name] < MAX_LEVELS:
            indent += "   " if last else "│  "
        if below is not None:
            branch = "│    " if name in children else "     "
            yield from (f"{indent}{branch}{line}" for line in below(name))
        push(name, indent)


def _levels(graph: Graph) -> tuple[dict[str, int], dict[str, str]]:
    """Level of each process, from 1, and the process under which it is shown: the deepest that it waits for."""
    level: dict[str, int] = {}
    above: dict[str, str] = {}
    for name in graph.sorted():
        level[name] = 1
        for other in graph.predecessors[name]:
            if level[other] >= level[name]:
                level[name] = level[other] + 1
                above[name] = other
    return level, above


def _also(others: list[str]) -> str:
    if not others:
        return ""
    more = len(others) - _MAX_NAMED
    named = ", ".join(printable(other) for other in others[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"  (after {named} too)"
