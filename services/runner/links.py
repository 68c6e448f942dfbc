"""Which drivers are attached, and since when the others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

    def remember(self, key: TaskKey, kind: str, content: Any) -> None:
        """Adds a message about an unknown task to what its Hello has said."""
        task = self.unknown.get(key)
        if task is None:
            return
        if kind == "hands":
            self._merge(task, content.state)
        elif kind == "end":
            task.ends.append(content.request)
        elif kind == "latched":
            task.latch.CopyFrom(content.latch)
        elif kind == "forget":
            del self.unknown[key]

    @staticmethod
    def _merge(task: link_pb2.HelloTask, state: link_pb2.HandsState) -> None:
        """Runs that have changed replace what was said of them before."""
        changed = {(run.process, run.run) for run in state.runs}
        runs = [run for run in task.hands.runs if (run.process, run.run) not in changed]
        runs += state.runs
        task.hands.CopyFrom(state)
        del task.hands.runs[:]
        task.hands.runs.extend(runs)
