"""What is lost when an executor ends before the runner has heard all that it said: nothing but time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.runner.rig import Rig, in_loop
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path


def test_a_forget_that_is_lost_with_its_executor_changes_nothing_but_the_time_until_the_lease_ends(
    tmp_path: Path,
) -> None:
    def scenario() -> None:
        for restarted in (False, True):
            directory = tmp_path / str(restarted)
            rig = Rig(directory)
            session = rig.attach()
            key = rig.launch(session)
            rig.exit(session, key)
            said = len(session.sent)
            rig.runner.on_detach(session)
            if restarted:
                rig.runner.close()
                rig = Rig(directory)
                rig.runner.start_leases()
            before = rig.queries.get("t1").task
            # Over, and shown so: not among the tasks that are not over, its end known, nothing to be started.
            assert before.state.phase == link_pb2.TASK_PHASE_SUCCESS
            assert not before.attached
            active = rig.queries.page(runner_pb2.ListTasksRequest(active_only=True))
            assert list(active.tasks) == []
            rig.now += 61
            rig.runner._alarms._fire()
            assert rig.runner.books == {}
            after = rig.queries.get("t1").task
            assert after == before, "the same end, and the same version of it"
            assert len(session.sent) == said
            # An executor that comes back after all is told how its task has ended.
            back = rig.attach(link_pb2.HelloTask(key=key.to_pb()))
            (told,) = back.sent
            assert told.task_state == before.state
            rig.runner.close()

    in_loop(scenario)
