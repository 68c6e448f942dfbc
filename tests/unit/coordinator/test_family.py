from __future__ import annotations

import pytest

from executor_shim.coordinator.family import Family, attribute
from executor_shim.coordinator.runs import Probe, Run


def run(task: str, pid: int, marker: str) -> Run:
    one = Run(task, "p", pid, marker, 0.0)
    one.pid = pid
    return one


A, B = run("a", 10, "ma"), run("b", 20, "mb")


@pytest.mark.parametrize(
    ("marker", "sid", "tasks", "bereaved", "expected"),
    [
        ("ma", 99, ["a", "b"], [], ("a", A)),
        ("", 20, ["a", "b"], [], ("b", B)),
        # The marker is random; a session's number may mean somebody else by now.
        ("ma", 20, ["a", "b"], ["b"], ("a", A)),
        ("unknown", 99, ["a"], [], ("a", None)),
        ("", 99, ["a", "b"], ["b"], ("b", None)),
        ("", 99, ["a", "b"], ["a", "b"], ("", None)),
        ("", 99, ["a", "b"], [], ("", None)),
    ],
)
def test_orphan_belongs_to(
    marker: str, sid: int, tasks: list[str], bereaved: list[str], expected: tuple[str, Run | None]
) -> None:
    assert attribute(marker, sid, {"ma": A, "mb": B}, {10: A, 20: B}, tasks, bereaved) == expected


def test_alive_counts_runs_probes_and_orphans_of_the_task() -> None:
    family = Family()
    family.born(A)
    family.born(B)
    probe = Probe("i", "a", "mp", 0, 1)
    probe.pid = 30
    family.born(probe)
    family.adopt(40, 10, lambda _: "", ["a", "b"], [])
    assert (family.alive("a"), family.alive("b"), family.alive("c")) == (3, 1, 0)
    assert family.leaders("a") == {10, 30}
    assert family.probes("a") == [probe]
    family.died(10)
    assert family.alive("a") == 2
    assert family.leaders("a") == {30}


def test_session_made_by_an_orphan_is_remembered_for_what_it_leaves() -> None:
    family = Family()
    family.born(A)
    family.born(B)
    family.adopt(40, 41, lambda _: "ma", ["a", "b"], [])
    assert family.adopt(50, 41, lambda _: "", ["a", "b"], []).task == "a"


def test_session_whose_last_child_is_gone_is_forgotten_as_its_number_may_be_used_again() -> None:
    family = Family()
    family.born(A)
    family.born(B)
    family.died(10)
    family.tidy()
    assert family.adopt(60, 10, lambda _: "", ["a", "b"], []).task == ""


def test_session_survives_its_leader_while_an_orphan_is_in_it() -> None:
    family = Family()
    family.born(A)
    family.born(B)
    family.adopt(40, 10, lambda _: "", ["a", "b"], [])
    family.died(10)
    family.tidy()
    assert family.adopt(60, 10, lambda _: "", ["a", "b"], []).origin is A


def test_nothing_is_kept_of_probes_that_are_over() -> None:
    family = Family()
    for number in range(100):
        probe = Probe(str(number), "a", f"m{number}", 0, 1)
        probe.pid = 1000 + number
        family.born(probe)
        family.died(probe.pid)
        family.tidy()
    assert not family.children
    assert not family._markers
    assert not family._sessions
