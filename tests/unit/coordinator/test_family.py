from __future__ import annotations

import pytest

from executor_shim.coordinator import tag
from executor_shim.coordinator.family import Evidence, Family, attribute
from executor_shim.coordinator.runs import Probe, Run


def run(task: str, pid: int, marker: str) -> Run:
    one = Run(task, "p", pid, marker, 0.0)
    one.pid = pid
    return one


MARK_A, MARK_B, MARK_P = ("x." + letter * 16 for letter in "abc")
A, B = run("a", 10, MARK_A), run("b", 20, MARK_B)
TAG_A, TAG_B = tag.of(MARK_A), tag.of(MARK_B)
NO_TAG = 0
UNKNOWN = 99


def evidence(marker: str = "", sid: int = UNKNOWN, tag_number: int = NO_TAG) -> Evidence:
    return Evidence(tag_number, marker, sid)


@pytest.mark.parametrize(
    ("found", "tasks", "expected"),
    [
        (evidence(MARK_A), ["a", "b"], ("a", A)),
        (evidence(sid=20), ["a", "b"], ("b", B)),
        # The marker is random; a session's number may mean somebody else by now.
        (evidence(MARK_A, 20), ["a", "b"], ("a", A)),
        (evidence(tag_number=TAG_B), ["a", "b"], ("b", B)),
        # An environment can be copied, a tag is only inherited.
        (evidence(MARK_A, 10, TAG_B), ["a", "b"], ("b", B)),
        (evidence(MARK_A, tag_number=12345), ["a", "b"], ("a", A)),
        (evidence("unknown"), ["a"], ("a", None)),
        # Whoever has just lost a child need not be the one: nobody is killed for another's process.
        (evidence(), ["a", "b"], ("", None)),
        (evidence(), [], ("", None)),
    ],
)
def test_orphan_belongs_to(found: Evidence, tasks: list[str], expected: tuple[str, Run | None]) -> None:
    tags: dict[int, Run | Probe] = {TAG_A: A, TAG_B: B}
    assert attribute(found, tags, {MARK_A: A, MARK_B: B}, {10: A, 20: B}, tasks) == expected


def test_alive_counts_runs_probes_and_orphans_of_the_task() -> None:
    family = Family()
    family.born(A)
    family.born(B)
    probe = Probe("i", "a", MARK_P, 0, 1)
    probe.pid = 30
    family.born(probe)
    family.adopt(40, evidence(sid=10), ["a", "b"])
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
    family.adopt(40, evidence(MARK_A, 41), ["a", "b"])
    assert family.adopt(50, evidence(sid=41), ["a", "b"]).task == "a"


def test_session_whose_last_child_is_gone_is_forgotten_as_its_number_may_be_used_again() -> None:
    family = Family()
    family.born(A)
    family.born(B)
    family.died(10)
    family.tidy()
    assert family.adopt(60, evidence(sid=10), ["a", "b"]).task == ""


def test_session_survives_its_leader_while_an_orphan_is_in_it() -> None:
    family = Family()
    family.born(A)
    family.born(B)
    family.adopt(40, evidence(sid=10), ["a", "b"])
    family.died(10)
    family.tidy()
    assert family.adopt(60, evidence(sid=10), ["a", "b"]).origin is A


def test_nothing_is_kept_of_probes_that_are_over() -> None:
    family = Family()
    for number in range(100):
        probe = Probe(str(number), "a", f"x.{number:016x}", 0, 1)
        probe.pid = 1000 + number
        family.born(probe)
        family.died(probe.pid)
        family.tidy()
    assert not family.children
    assert not family._markers
    assert not family._sessions
    assert not family._tags
