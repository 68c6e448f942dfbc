"""KILL for a task that this executor never had.

The agent answers for tasks that it does not know, so such a KILL means that it takes one for ours: silence would leave
the scheduler waiting for ever (Mesos: mapping of situations to statuses). It gets TASK_KILLED, once for each id, done
when the agent has taken it: nobody acknowledges it, so it stands in no list and holds up no exit.

A task that was here has had its end: of it nothing is said again. Once ids have been trimmed away, nobody can tell
whether an id is one of those, and saying nothing is the lesser evil: the scheduler would hear of a second end.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from executor_shim.driver import statuses
from mesos.v1 import mesos_pb2

if TYPE_CHECKING:
    from executor_shim.driver.state.book import Book

_LOG = logging.getLogger(__name__)
MESSAGE = "Kill received for a task unknown to this executor"


def answer_kill(book: Book, task_id: str, executor_id: str) -> bool:
    """Puts the answer to a KILL into the book; False: there is nothing to say.

    Args:
        book: The driver's memory.
        task_id: Of a task that is not alive here.
        executor_id: Of this executor.
    """
    if book.last_launch(task_id) or task_id in book.strays:
        _LOG.info("KILL for a task that is over, or was answered before")
        return False
    _LOG.warning("KILL for a task that was never here")
    uuid = statuses.new_uuid()
    status = statuses.fallback(task_id, "TASK_KILLED", MESSAGE)
    payload = statuses.finished(status, executor_id=executor_id, uuid=uuid, now=time.time())
    book.answer_stray(task_id, uuid, mesos_pb2.TASK_KILLED, payload)
    return True
