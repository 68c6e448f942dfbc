"""Which drivers are attached, and since when the others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.runner.header import Facts

if TYPE_CHECKING:
    from services.common.attach import Session
    from services.common.keys import Executor, TaskKey
    from trivet.link.v1 import link_pb2
    from trivet.runner.v1 import runner_pb2


class Link:
    """One attached driver."""

    def __init__(self, session: Session[runner_pb2.AttachResponse], hello: link_pb2.Hello) -> None:
        self.session = session
        self.executor: Executor = session.executor
        self.facts = Facts.of(hello)
        # Tasks that the Hello lists and nobody here knows: what the driver says of them until their TaskInfo comes.
        self.unknown: dict[TaskKey, link_pb2.HelloTask] = {}

    def remember(self, key: TaskKey, state: link_pb2.HandsState) -> None:
        """Adds news of the hands to an unknown task: runs that have changed replace what was said before."""
        task = self.unknown.get(key)
        if task is None:
            return
        changed = {(run.process, run.run) for run in state.runs}
        runs = [run for run in task.hands.runs if (run.process, run.run) not in changed]
        runs += state.runs
        task.hands.CopyFrom(state)
        del task.hands.runs[:]
        task.hands.runs.extend(runs)
