"""What the runner only wants to know: logs and usage. Loaded and held only from the first question on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor_shim.driver.hub import Hub
    from executor_shim.driver.logs.desk import LogDesk
    from executor_shim.driver.state.entries import Task
    from executor_shim.driver.usage.sampler import Sampler

KINDS = frozenset({"sampling", "open_log", "next_piece", "close_log"})
_ENDED = ("exited", "not_started")


class Inquiries:
    """All that is asked on the stream to the runner; it ends with the stream."""

    def __init__(self, hub: Hub, send: Callable[[runner_pb2.AttachRequest], None]) -> None:
        self._hub = hub
        self._send = send
        self._logs: LogDesk | None = None
        self._sampler: Sampler | None = None

    def ask(self, kind: str, content: Any, task: Task | None) -> None:
        """A message of the runner, one of `KINDS`. What is being read of a task that is over is read to its end."""
        if kind == "next_piece" and self._logs is not None:
            self._logs.next(content.id)
        elif kind == "close_log" and self._logs is not None:
            self._logs.close(content.id)
        elif kind == "sampling" and task is not None:
            self._sampling().order(task.key, content)
        elif kind == "open_log" and task is not None:
            key = task.key
            self._desk().open(content, lambda: self._over(key, content.process, content.run))
        elif kind == "open_log":
            error, detail = runner_pb2.LOG_ERROR_MISSING, "the executor has forgotten the task"
            piece = runner_pb2.LogPiece(key=content.key, id=content.id, error=error, detail=detail)
            self._send(runner_pb2.AttachRequest(log_piece=piece))

    @property
    def reading(self) -> bool:
        """Logs are being read."""
        return self._logs is not None and self._logs.reading

    def look(self) -> None:
        """Runs have changed, or a task is over."""
        if self._logs is not None:
            self._logs.look()

    def forget(self, task: Task) -> None:
        """The task is over for everybody."""
        if self._sampler is not None:
            self._sampler.forget(task.key)

    def end(self) -> None:
        """The stream has broken."""
        if self._logs is not None:
            self._logs.close_all()
        if self._sampler is not None:
            self._sampler.forget_all()

    def _over(self, task: str, process: str, run: int) -> bool:
        # A run that the coordinator does not list was over long ago: who reads its log knows that it was started.
        record = self._hub.hands.task(task).runs.get((process, run))
        return record is None or record["state"] in _ENDED

    def _desk(self) -> LogDesk:
        if self._logs is None:
            from executor_shim.driver.logs.desk import LogDesk

            sandbox = self._hub.environment.sandbox
            self._logs = LogDesk(
                sandbox,
                lambda piece: self._send(runner_pb2.AttachRequest(log_piece=piece)),
                on_idle=self._hub.exit_plan.review,
            )
        return self._logs

    def _sampling(self) -> Sampler:
        if self._sampler is None:
            from executor_shim.driver.usage.sampler import Sampler

            sandbox = self._hub.environment.sandbox
            self._sampler = Sampler(
                sandbox, self._hub.hands.tasks, lambda usage: self._send(runner_pb2.AttachRequest(usage=usage))
            )
        return self._sampler
