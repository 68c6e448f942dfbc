"""An order of processes as a tree."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from services.cli.plantree import MAX_LEVELS, tree
from services.common.task import Graph


def drawn(names: str, *orders: str) -> list[str]:
    graph = Graph.from_orders(names, orders)
    return list(tree(graph, names, lambda name: name))


def test_a_process_stands_below_the_last_that_it_waits_for() -> None:
    assert drawn("abcde", "abc", "ac", "ad") == [
        "├─ a",
        "│  ├─ b",
        "│  │  └─ c  (after a too)",
        "│  └─ d",
        "└─ e",
    ]


def test_only_what_is_asked_for_is_shown() -> None:
    graph = Graph.from_orders("abc", ["ab"])
    assert list(tree(graph, ["c"], str.upper)) == ["└─ C"]
    assert list(tree(graph, [], str.upper)) == []


def test_many_predecessors_are_counted() -> None:
    names = [f"p{n}" for n in range(20)]
    graph = Graph.from_orders([*names, "z"], [[name, "z"] for name in names])
    assert list(tree(graph, [*names, "z"], str))[1] == "│  └─ z  (after p1, p2, p3, p4, p5 and 14 more too)"


def test_a_long_chain_gets_no_broader() -> None:
    names = [f"p{n}" for n in range(20_000)]
    begin = time.process_time()
    lines = list(tree(Graph.from_orders(names, [names]), names, str))
    assert time.process_time() - begin < 5
    assert len(lines) == len(names)
    assert lines[-1].endswith("└─ p19999  (level 20000)")
    assert max(map(len, lines)) < 3 * MAX_LEVELS + 40


def test_a_name_cannot_draw_on_the_terminal() -> None:
    graph = Graph.from_orders(["a\x1b[2J", "b", "c"], [["a\x1b[2J", "b", "c"], ["a\x1b[2J", "c"]])
    assert not any("\x1b" in line for line in tree(graph, ["b", "c"], str))


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True).map(sorted), max_size=8))
def test_every_process_has_one_line_below_one_of_its_predecessors(orders: list[list[str]]) -> None:
    graph = Graph.from_orders("abcdefgh", orders)
    trail: list[str] = []
    seen = []
    for line in tree(graph, "abcdefgh", str):
        drawing = line[: line.index("─ ") + 2]
        level, name = len(drawing) // 3, line[len(drawing)]
        del trail[level - 1 :]
        if graph.predecessors[name]:
            assert trail[-1] in graph.predecessors[name]
        else:
            assert not trail
        trail.append(name)
        seen.append(name)
    assert sorted(seen) == list("abcdefgh")
