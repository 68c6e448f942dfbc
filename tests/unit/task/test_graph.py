"""The graph of order constraints."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.common.task import Graph

NAMES = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True)
ORDERS = st.lists(st.lists(st.sampled_from("abcdefgz")))


def test_an_order_stands_for_its_neighbouring_pairs() -> None:
    graph = Graph.from_orders("abcd", [["a", "b", "c"], ["a", "b"], ["z", "d"]])
    assert graph.predecessors == {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    assert graph.successors == {"a": ("b",), "b": ("c",), "c": (), "d": ()}


@given(NAMES, ORDERS)
def test_a_graph_is_sorted_or_has_a_cycle(names: list[str], orders: list[list[str]]) -> None:
    graph = Graph.from_orders(names, orders)
    cycles = graph.find_cycles()
    ranked = {name: rank for rank, name in enumerate(graph.sorted())}
    if not cycles:
        assert set(ranked) == set(names)
        for name, others in graph.predecessors.items():
            assert all(ranked[other] < ranked[name] for other in others)
    for cycle in cycles:
        assert len(set(cycle)) == len(cycle)
        for name, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert following in graph.successors[name]


@given(NAMES, ORDERS)
def test_every_name_that_waits_for_itself_or_in_a_circle_is_in_a_set_of_which_a_cycle_is_told(
    names: list[str], orders: list[list[str]]
) -> None:
    graph = Graph.from_orders(names, orders)

    def reached(name: str) -> set[str]:
        found: set[str] = set()
        ahead = list(graph.successors[name])
        while ahead:
            if (other := ahead.pop()) not in found:
                found.add(other)
                ahead += graph.successors[other]
        return found

    behind = {name: reached(name) for name in names}
    circles = {frozenset(other for other in behind[name] if name in behind[other]) for name in names}
    large = {circle for circle in circles if len(circle) > 1}
    cycles = graph.find_cycles()
    assert sorted(cycle[0] for cycle in cycles if len(cycle) == 1) == sorted(
        name for name in names if name in graph.successors[name]
    )
    told = [next(circle for circle in large if circle.issuperset(cycle)) for cycle in cycles if len(cycle) > 1]
    assert sorted(map(sorted, told)) == sorted(map(sorted, large))


@given(NAMES, ORDERS)
def test_predecessors_and_successors_are_the_same_edges(names: list[str], orders: list[list[str]]) -> None:
    graph = Graph.from_orders(names, orders)
    edges = {(first, second) for second, others in graph.predecessors.items() for first in others}
    assert edges == {(first, second) for first, others in graph.successors.items() for second in others}


def test_a_chain_of_a_hundred_thousand_is_no_problem() -> None:
    names = [f"p{n}" for n in range(100_000)]
    graph = Graph.from_orders(names, [names])
    assert graph.find_cycles() == []
    assert graph.sorted() == names
    closed = Graph.from_orders(names, [[*names, names[0]]])
    (cycle,) = closed.find_cycles()
    assert len(cycle) == 100_000
