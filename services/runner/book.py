"""One live task: its state, its journal and what is told of it."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from services.common.journal import JournalUnavailable
from services.common.task import InvalidTask, LoadedTask, load
from services.common.task.checks import Source
from services.common.task.environment import user_of
from services.runner import commands, header, views
from services.runner.budgets import Request
from services.runner.events import Lifecycle, Resumed, StartRun, StopRun, Terminate
from services.runner.processes import IllegalTransition
from services.runner.records import BadRecord, Cause, decode, encode
from services.runner.spec import EMPTY, TaskSpec, reserved_disk
from services.runner.state import IllegalPhase, State, apply, snapshot
from services.runner.tasks import decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.common.task.lifecycle import Lifecycle as Endpoints
    from services.runner.events import Action, Decision, Event
    from services.runner.header import Header
    from services.runner.records import Moment
    from services.runner.store import TaskLog
    from trivet.link.v1 import link_pb2
    from trivet.runner.v1 import runner_pb2
    from trivet.task.v1 import task_pb2

_LOG = logging.getLogger(__name__)

# A journal is compacted when it has grown by this many bytes, and to four times what it was after the last time.
COMPACT_BYTES = 1 << 20
_COMPACT_FACTOR = 4


class Book:
    """A task, from its launch until the driver forgets it."""

    def __init__(self, head: Header, log: TaskLog, *, recorded: bool) -> None:
        """Reads the task; `recorded`: the header is in the journal already."""
        self.head = head
        self.key = head.key
        self.log = log
        self.loaded: LoadedTask | None = None
        self.invalid: InvalidTask | None = None
        self.name = head.key.task_id
        # Bytes that are reserved for the task's files; 0: it does not say.
        self.disk_limit = 0
        spec = self._load(head)
        self.processes: dict[str, task_pb2.Process] = {}
        self.user = ""
        if self.loaded is not None:
            self.processes = {process.name: process for process in self.loaded.task.task.processes}
            self.user = user_of(self.loaded, head.facts.uid)
        self.state = State.new(spec)
        # Why the journal takes no records at the moment; empty: it does.
        self.trouble = ""
        # What was wrong with an older journal of the task that was put aside; empty: there is none.
        self.damage = ""
        # The executor says that the task is another one than what is recorded; empty: it does not.
        self.conflict = ""
        # Nothing is left of the task; it stays only until its journal can be made a summary.
        self.leaving = False
        # What the last write could not bring into the journal.
        self._backlog: list[bytes] = [] if recorded else [header.encode(head)]
        self._compacted = log.size
        # What the last TaskState has said, to tell only changes.
        self._told: tuple[object, ...] | None = None

    def _load(self, head: Header) -> TaskSpec:
        try:
            info = mesos_pb2.TaskInfo.FromString(head.info)
            self.name = info.name or self.name
            self.loaded = load(info, hostname=head.facts.hostname)
        except DecodeError:
            self.invalid = InvalidTask(["TaskInfo: cannot be parsed"])
        except InvalidTask as error:
            self.invalid = error
        except Exception:  # noqa: BLE001 - a task that trips over a defect must not take the others with it
            _LOG.exception("task could not be read", extra={"fields": {"task": str(self.key)}})
            self.invalid = InvalidTask(["the task could not be read; see the runner's log"])
        if self.loaded is None:
            return EMPTY
        self.name = self.loaded.name
        self.disk_limit = reserved_disk(self.loaded.task.task, info)
        limit = info.max_completion_time.nanoseconds / 1e9 if info.HasField("max_completion_time") else None
        lifecycle, health = self.loaded.lifecycle, self.loaded.health
        return TaskSpec.of(
            self.loaded.task.task,
            kill_grace=self.loaded.kill_grace,
            max_completion=limit,
            run_limit=head.run_limit,
            lifecycle=() if lifecycle is None else tuple(wait for _, wait in lifecycle.steps),
            health_kills=health is not None and health.source is Source.MESOS,
        )

    def replay(self, payloads: Iterable[bytes]) -> None:
        """Brings the state to where the journal ends. No effects.

        Raises:
            BadRecord: The journal is not one of this task.
        """
        for number, payload in enumerate(payloads, start=1):
            try:
                apply(self.state, decode(payload))
            except (BadRecord, IllegalTransition, IllegalPhase, KeyError, TypeError, ValueError) as error:
                raise BadRecord(f"record {number}: {type(error).__name__}: {error}", number) from error

    def refusal(self) -> Request | None:
        """The end request of a task that cannot be run."""
        if self.invalid is None:
            return None
        return Request(Cause.INVALID, grace=0.0, message=str(self.invalid))

    def compare(self, task_hash: bytes) -> None:
        """What the executor has under this key. What runs is what was recorded; that it differs must not go unnoticed.

        Args:
            task_hash: SHA-256 of its TaskInfo; empty: it does not say.
        """
        recorded = hashlib.sha256(self.head.info).digest()
        conflict = ""
        if task_hash and task_hash != recorded:
            conflict = (
                f"the executor has another TaskInfo under this key (SHA-256 {task_hash.hex()}, recorded is "
                f"{recorded.hex()}): the task goes on as it was recorded"
            )
        if conflict and conflict != self.conflict:
            _LOG.error("task differs from its journal", extra={"fields": {"task": str(self.key), "error": conflict}})
        self.conflict = conflict

    def step(self, events: Sequence[Event], now: Moment) -> Decision:
        """Decides and writes. Actions that the journal does not back are taken out of the decision."""
        decision = decide(self.state, events, now)
        self._backlog += map(encode, decision.records)
        if not self._write(now):
            decision.actions = [action for action in decision.actions if not self._hold(action)]
        return decision

    def retry(self, now: Moment) -> Decision | None:
        """Tries to write what could not be written; None: still not."""
        if not self._write(now):
            return None
        return self.step([Resumed(may_start=True)], now)

    def _write(self, now: Moment) -> bool:
        try:
            if self._backlog:
                self.log.append(self._backlog)
                self._backlog = []
            if self.log.size > max(self._compacted * _COMPACT_FACTOR, self._compacted + COMPACT_BYTES):
                self.log.rewrite([header.encode(self.head), encode(snapshot(self.state, now))])
                self._compacted = self.log.size
        except JournalUnavailable as error:
            if not self._backlog:
                # Only the compaction failed: everything is recorded, and it is tried again when it has grown again.
                self._compacted = self.log.size
                _LOG.warning("journal not compacted", extra={"fields": {"task": str(self.key), "error": str(error)}})
                return True
            if not self.trouble:
                _LOG.error(
                    "journal takes no records: nothing new is started until it does",
                    extra={"fields": {"task": str(self.key), "error": str(error)}},
                )
            self.trouble = str(error)
            self.state.view.may_start = False
            return False
        if self.trouble:
            _LOG.info("journal takes records again", extra={"fields": {"task": str(self.key)}})
            self.trouble = ""
        return True

    def _hold(self, action: Action) -> bool:
        """Keeps back a start that is not written. An end is never kept back: it can do no harm to do it twice."""
        if isinstance(action, StartRun):
            self.state.view.listed.pop((action.process, action.run), None)
            return True
        return False

    def command(self, action: Action) -> runner_pb2.AttachResponse:
        """The message to the driver."""
        if isinstance(action, Terminate):
            return commands.terminate(self.key, action.kill_at)
        if isinstance(action, StopRun):
            return commands.stop_run(self.key, action.process, action.run)
        if isinstance(action, Lifecycle):
            return commands.lifecycle(self.key, self._endpoints(), action.step, action.until)
        return commands.start(self.key, self.head.facts, self.user, self.processes[action.process], action.run)

    def _endpoints(self) -> Endpoints:
        assert self.loaded is not None, "an invalid task has no steps"  # noqa: S101 - an invariant
        assert self.loaded.lifecycle is not None, "no steps, no order"  # noqa: S101 - an invariant
        return self.loaded.lifecycle

    def news(self, *, always: bool) -> link_pb2.TaskState | None:
        """The TaskState to send: whole, and only when something in it has changed, or `always`."""
        changeable = views.changeable(self.state)
        if changeable == self._told and not always:
            return None
        self._told = changeable
        return views.task_state(self)

    def warnings(self) -> list[str]:
        """What was accepted and may surprise, and what goes wrong at the moment."""
        texts: list[str] = []
        if self.loaded is not None:
            texts += self.loaded.warnings
            texts += commands.warnings(self.loaded, self.head.facts)
        if self.damage:
            texts.append(f"an older journal was put aside: {self.damage}")
        if self.conflict:
            texts.append(self.conflict)
        if self.trouble:
            texts.append(f"journal: {self.trouble}: nothing new is started until it takes records again")
        return texts
