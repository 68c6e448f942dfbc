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
    cycle = graph.find_cycle()
    ranked = {name: rank for rank, name in enumerate(graph.sorted())}
    if cycle is None:
        assert set(ranked) == set(names)
        for name, others in graph.predecessors.items():
            assert all(ranked[other] < ranked[name] for other in others)
    else:
        assert len(set(cycle)) == len(cycle)
        for name, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert following in graph.successors[name]


@given(NAMES, ORDERS)
def test_predecessors_and_successors_are_the_same_edges(names: list[str], orders: list[list[str]]) -> None:
    graph = Graph.from_orders(names, orders)
    edges = {(first, second) for second, others in graph.predecessors.items() for first in others}
    assert edges == {(first, second) for first, others in graph.successors.items() for second in others}


def test_a_chain_of_a_hundred_thousand_is_no_problem() -> None:
    names = [f"p{n}" for n in range(100_000)]
    graph = Graph.from_orders(names, [names])
    assert graph.find_cycle() is None
    assert graph.sorted() == names
    closed = Graph.from_orders(names, [[*names, names[0]]])
    cycle = closed.find_cycle()
    assert cycle is not None
    assert len(cycle) == 100_000
