"""Whether tasks that came together may start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executor_shim.driver.groups import Judgement, Member, judge
from executor_shim.driver.state.entries import GROUP_OPEN, GROUP_REFUSED, GROUP_STARTED

NEW = Member("new", spoken=False, refused=False, message="")
FINE = Member("fine", spoken=True, refused=False, message="")
BAD = Member("bad", spoken=True, refused=True, message="no processes")
MEMBERS = st.lists(st.sampled_from([NEW, FINE, BAD]), max_size=6)


@given(MEMBERS)
def test_a_group_starts_when_the_runner_has_spoken_of_all_and_refused_none(members: list[Member]) -> None:
    verdict = judge(members).verdict
    assert (verdict == GROUP_STARTED) == all(member is FINE for member in members)
    assert (verdict == GROUP_REFUSED) == (BAD in members)
    assert (verdict == GROUP_OPEN) == (NEW in members and BAD not in members)


@given(MEMBERS, st.integers(0, 5))
def test_a_decision_stands_whatever_is_said_later(members: list[Member], at: int) -> None:
    before = judge(members).verdict
    # The runner speaks of one more.
    later = [FINE if member is NEW and i == at else member for i, member in enumerate(members)]
    if before != GROUP_OPEN:
        assert judge(later).verdict == before


def test_the_message_names_the_task_and_the_rule() -> None:
    assert judge([FINE, BAD]) == Judgement(GROUP_REFUSED, "Task group rejected: task 'bad': no processes")
