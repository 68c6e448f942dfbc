"""All checks of the service: what drivers say goes into the machines, what these ask for is done.

Everything runs on the event loop and nothing in it waits.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import random
import time
from typing import TYPE_CHECKING, Protocol

import grpc

from services.common.keys import Executor, TaskKey
from services.common.watch import Broadcast
from services.health import checks, hearsay, interpret, model
from services.health.entry import Checked, Entry, Timer, recorded
from services.health.records import Header
from services.health.spec import spec_of_info
from trivet.health.v1 import health_pb2
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.common.attach import Session
    from services.health.store import Store

    HealthSession = Session[health_pb2.AttachResponse]

_LOG = logging.getLogger(__name__)
# A task whose driver stays away is dropped; should it come back, it tells what it remembers.
FORGET_AFTER = 3600.0
_SWEEP_EVERY = 600.0


def boot_clock() -> float:
    """CLOCK_BOOTTIME, seconds: goes on over restarts of the service and suspends of the host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Schedule(Protocol):
    """`loop.call_later`."""

    def __call__(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Calls `callback` in `delay` seconds."""


class Book:
    """Handler of the Attach streams."""

    def __init__(
        self,
        store: Store,
        schedule: Schedule,
        *,
        clock: Callable[[], float] = boot_clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Makes an empty book; `replay` fills it.

        Args:
            store: Journals.
            schedule: Calls back later.
            clock: CLOCK_BOOTTIME, seconds.
            jitter: A number from 0 to 1, to spread first probes after a start of the service.
        """
        self._store = store
        self._schedule = schedule
        self._clock = clock
        self._jitter = jitter
        self._entries: dict[TaskKey, Entry] = {}
        # Tasks that were asked for with NeedTask, with what the driver said of them.
        self._awaited: dict[TaskKey, link_pb2.HelloTask] = {}
        self._sweeper: Timer | None = None
        self.changes: Broadcast[health_pb2.Check] = Broadcast()

    def replay(self) -> None:
        """Reads the journals. Nobody is told anything.

        Raises:
            OSError: The state directory cannot be used.
        """
        now = self._clock()
        for log, check in self._store.load():
            key, spec = log.header.key, log.header.spec
            checked = None if spec is None or check is None else Checked(spec, check)
            self._entries[key] = Entry(key, log, checked, alone_since=now)
        self._sweeper = self._schedule(_SWEEP_EVERY, self._sweep)

    def close(self) -> None:
        """Stops all timers and closes all journals."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for entry in self._entries.values():
            _cancel(entry)
            entry.log.close()
        self._entries.clear()

    def shown(self) -> list[health_pb2.Check]:
        """All checks, in the order of their launches."""
        return [shown for entry in self._entries.values() if (shown := entry.shown()) is not None]

    def find(self, task_id: str) -> Entry | None:
        """The newest launch of the task that has a check, those with a live driver first."""
        found = [entry for entry in self._entries.values() if entry.key.task_id == task_id and entry.checked]
        return max(found, key=lambda entry: (entry.session is not None, entry.key.launch), default=None)

    def on_hello(self, session: HealthSession, _hello: link_pb2.Hello, tasks: list[link_pb2.HelloTask]) -> None:
        """See `Handler`."""
        told = {TaskKey.of(task.key): task for task in tasks}
        for entry in list(self._entries.values()):
            if entry.key not in told and _superseded(entry, session.executor):
                self._drop(entry)
        for key, task in told.items():
            known = self._entries.get(key)
            if known is not None and known.log.header.task_hash == task.task_hash:
                self._meet(known, session, task)
                continue
            if known is not None:
                _LOG.warning("the driver names another TaskInfo; the check starts anew", extra=_about(key))
                self._drop(known)
            self._awaited[key] = task
            session.send(health_pb2.AttachResponse(need_task=link_pb2.NeedTask(key=key.to_pb())))

    def on_message(self, session: HealthSession, message: health_pb2.AttachRequest) -> None:
        """See `Handler`."""
        match message.WhichOneof("message"):
            case "launch" if self._own(session, message.launch.key):
                self._launch(session, TaskKey.of(message.launch.key), message.launch.info)
            case "task_state" if self._own(session, message.task_state.key):
                event = hearsay.event_of(message.task_state)
                if event is not None:
                    self._apply(TaskKey.of(message.task_state.key), event)
            case "result" if self._own(session, message.result.key):
                self._result(message.result)
            case "forget" if self._own(session, message.forget.key):
                entry = self._entries.get(TaskKey.of(message.forget.key))
                if entry is not None:
                    self._drop(entry)
            case "hello" | "hello_task" | "hello_end":
                session.end(grpc.StatusCode.INVALID_ARGUMENT, "hello: must come once, at the beginning")
            case None:
                _LOG.debug("a newer driver said something unknown", extra=_about(session.executor))

    def on_detach(self, session: HealthSession) -> None:
        """See `Handler`."""
        for entry in self._entries.values():
            if entry.session is session:
                entry.session = None
                entry.alone_since = self._clock()
                self._step(entry, model.Detached())
                self._publish(entry)
        for key in [key for key in self._awaited if key.executor == session.executor]:
            del self._awaited[key]

    def _own(self, session: HealthSession, key: link_pb2.TaskKey) -> bool:
        if Executor.of(key.executor) == session.executor:
            return True
        session.end(grpc.StatusCode.INVALID_ARGUMENT, "key.executor: not this executor")
        return False

    def _launch(self, session: HealthSession, key: TaskKey, info: bytes) -> None:
        if key in self._entries:
            return
        spec = spec_of_info(info, session.hello)
        log = self._store.new(Header(key, hashlib.sha256(info).digest(), self._store.boot_id, spec))
        checked = None if spec is None else Checked(spec, checks.new(spec.rule))
        entry = Entry(key, log, checked, alone_since=self._clock())
        self._entries[key] = entry
        log.save(None if checked is None else checked.check)
        self._meet(entry, session, self._awaited.pop(key, None))

    def _meet(self, entry: Entry, session: HealthSession, task: link_pb2.HelloTask | None) -> None:
        """Brings a task and its driver together; what the driver remembers comes first."""
        if entry.session is not None:
            self._step(entry, model.Detached())
        entry.session = session
        if entry.checked is None:
            session.send(health_pb2.AttachResponse(verdict=entry.verdict()))
            return
        for event in () if task is None else hearsay.events_of(task):
            self._step(entry, event)
        self._step(entry, model.Attached(self._jitter()))
        self._publish(entry)

    def _result(self, result: health_pb2.ProbeResult) -> None:
        key = TaskKey.of(result.key)
        entry = self._entries.get(key)
        if entry is not None and entry.checked is not None:
            spec = entry.checked.spec
            reading = interpret.read(spec.target, spec.timeout, result)
            self._apply(key, model.Result(result.id, reading, result.latency_secs))

    def _apply(self, key: TaskKey, event: model.Event) -> None:
        entry = self._entries.get(key)
        if entry is not None and self._step(entry, event):
            self._publish(entry)

    def _step(self, entry: Entry, event: model.Event) -> bool:
        """Lets one event act on one check; whether anything changed."""
        checked = entry.checked
        if checked is None:
            return False
        now = self._clock()
        before = checked.check
        checked.check, actions = checks.step(before, checked.plan, event, now)
        for action in actions:
            self._do(entry, checked, action)
        _cancel(entry)
        wake = checks.wake_at(checked.check, checked.plan)
        if wake is not None:
            checked.timer = self._schedule(
                max(wake - now, 0.0), functools.partial(self._apply, entry.key, model.Tick())
            )
        return checked.check is not before

    def _do(self, entry: Entry, checked: Checked, action: model.Action) -> None:
        match action:
            case model.Save():
                entry.log.save(checked.check)
            case model.Note(reading, latency):
                checked.history.append(recorded(reading, latency))
            case model.SendVerdict() if entry.session is not None:
                verdict = entry.verdict()
                _LOG.info("verdict", extra=_about(entry.key, passed=verdict.passed, message=verdict.message))
                entry.session.send(health_pb2.AttachResponse(verdict=verdict))
            case model.SendProbe(probe_id) if entry.session is not None:
                entry.session.send(health_pb2.AttachResponse(probe=checked.spec.probe(entry.key, probe_id)))

    def _drop(self, entry: Entry) -> None:
        self._step(entry, model.Ending())
        self._publish(entry)
        del self._entries[entry.key]
        entry.log.delete()

    def _sweep(self) -> None:
        now = self._clock()
        for entry in list(self._entries.values()):
            if entry.session is None and now - entry.alone_since > FORGET_AFTER:
                _LOG.info("the driver has not come back; its task is dropped", extra=_about(entry.key))
                self._drop(entry)
        self._sweeper = self._schedule(_SWEEP_EVERY, self._sweep)

    def _publish(self, entry: Entry) -> None:
        if self.changes.watched and (shown := entry.shown()) is not None:
            self.changes.publish(shown)


def _cancel(entry: Entry) -> None:
    if entry.checked is not None and entry.checked.timer is not None:
        entry.checked.timer.cancel()
        entry.checked.timer = None


def _superseded(entry: Entry, executor: Executor) -> bool:
    """A Hello of `executor` that does not name the task means that it is over."""
    if entry.key.executor == executor:
        return True
    # Another incarnation. The ids of an executor are no secret: nobody ends the checks of one that is attached now.
    return entry.session is None and entry.key.executor[:2] == executor[:2]


def _about(who: TaskKey | Executor, **more: object) -> dict[str, dict[str, object]]:
    return {"fields": {"task" if isinstance(who, TaskKey) else "executor": str(who), **more}}
