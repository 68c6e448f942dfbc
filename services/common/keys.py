"""Ids as plain hashable values (design: who makes which id)."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from trivet.link.v1 import link_pb2


class Executor(NamedTuple):
    """One run of an executor: an executor id may be used again, the incarnation may not."""

    framework_id: str
    executor_id: str
    incarnation: str

    @classmethod
    def of(cls, key: link_pb2.ExecutorKey) -> Executor:
        """The value of a message."""
        return cls(key.framework_id, key.executor_id, key.incarnation)

    def to_pb(self) -> link_pb2.ExecutorKey:
        """The message of this value."""
        return link_pb2.ExecutorKey(
            framework_id=self.framework_id, executor_id=self.executor_id, incarnation=self.incarnation
        )

    @property
    def file_name(self) -> str:
        """Safe on every file system, whatever the ids contain."""
        return _digest(self)


class TaskKey(NamedTuple):
    """One launch of a task: a task id may be used again after its end."""

    executor: Executor
    task_id: str
    launch: int

    @classmethod
    def of(cls, key: link_pb2.TaskKey) -> TaskKey:
        """The value of a message."""
        return cls(Executor.of(key.executor), key.task_id, key.launch)

    def to_pb(self) -> link_pb2.TaskKey:
        """The message of this value."""
        return link_pb2.TaskKey(executor=self.executor.to_pb(), task_id=self.task_id, launch=self.launch)

    @property
    def file_name(self) -> str:
        """Safe on every file system, whatever the ids contain."""
        return _digest((*self.executor, self.task_id, str(self.launch)))

    def __str__(self) -> str:
        return f"{self.task_id} (launch {self.launch} in executor {self.executor.executor_id})"


def _digest(parts: tuple[str, ...]) -> str:
    # Lengths make the join unambiguous: ids may contain any separator.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
