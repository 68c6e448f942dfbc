"""The runner as a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor_shim.driver import ends
from executor_shim.driver.links.base import BasePeer, end_to_pb, latch_to_pb
from executor_shim.driver.links.inquiries import KINDS, Inquiries
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import EndRequest, Task


class RunnerPeer(BasePeer):
    """Hears of launches, runs and ends; orders processes."""

    name = "runner"
    method = "/trivet.runner.v1.RunnerService/Attach"
    request = runner_pb2.AttachRequest
    response = runner_pb2.AttachResponse

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.inquiries = Inquiries(hub, self.link.send)

    def on_message(self, message: Any) -> None:
        """What is only asked concerns tasks, too, that are over for everybody else."""
        kind = message.WhichOneof("message")
        if kind in KINDS:
            content = getattr(message, kind)
            self.inquiries.ask(kind, content, self.find(content.key))
        else:
            super().on_message(message)

    def handle(self, kind: str, content: Any, task: Task) -> None:
        """Task states and orders."""
        if kind == "task_state":
            self._hub.on_task_state(task, content)
        elif kind == "start":
            self._hub.start_run(task, content)
        elif kind == "lifecycle":
            # Both are the beginning of the end, and its cause comes behind them: probes go first.
            self._hub.prober.task_ends(task)
            self._hub.lifecycles.ask(task, content)
        elif kind == "terminate":
            self._hub.prober.task_ends(task)
            self._hub.lifecycles.cancel(task.key)
            self._hub.hands.terminate(task.key, content.kill_at)
        elif kind == "stop_run":
            self._hub.hands.stop_run(task.key, content.process, content.run)

    def on_down(self) -> None:
        """The stream has broken: whoever asked on it is gone."""
        self.inquiries.end()
        super().on_down()

    def forget(self, task: Task) -> None:
        """The task is over for everybody."""
        super().forget(task)
        self.inquiries.forget(task)

    def hands(self, task: Task, state: link_pb2.HandsState) -> None:
        """Runs have changed."""
        self.link.send(self.request(hands=link_pb2.Hands(key=self.key(task), state=state)))
        self.inquiries.look()

    def end(self, task: Task, end: EndRequest) -> None:
        """Somebody wants the task to end."""
        self.link.send(self.request(end=link_pb2.End(key=self.key(task), request=end_to_pb(end))))

    def lifecycle_done(self, done: runner_pb2.LifecycleDone) -> None:
        """What became of a question to the task."""
        self.link.send(self.request(lifecycle_done=done))

    def latched(self, task: Task) -> None:
        """The task has its terminal status."""
        if task.latch is not None:
            latched = link_pb2.Latched(key=self.key(task), latch=latch_to_pb(task.latch))
            self.link.send(self.request(latched=latched))

    def state_of(self, task: Task) -> link_pb2.TaskState:
        """The runner's newest word; empty when it has not spoken."""
        return link_pb2.TaskState.FromString(task.task_state)

    def total_grace(self, task: Task) -> float:
        """Seconds that a KILL without a policy leaves the task."""
        return self.state_of(task).total_grace_secs if task.task_state else ends.DEFAULT_GRACE
