"""All checks of the service: what drivers say goes into the machines, what these ask for is done.

Everything runs on the event loop and nothing in it waits.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from typing import TYPE_CHECKING

import grpc

from services.common.keys import Executor, TaskKey
from services.common.watch import Broadcast
from services.health import checks, choice, hearsay, interpret, model, shown, verdict
from services.health.entry import Checked, Entry
from services.health.history import Recorded
from services.health.records import Header
from services.health.spec import specs_of_info
from services.health.timing import boot_clock, evenly
from trivet.health.v1 import health_pb2
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.common.attach import Session
    from services.health.entry import Observer, Timer
    from services.health.model import Kind
    from services.health.store import Store
    from services.health.timing import Schedule

    HealthSession = Session[health_pb2.AttachResponse]

_LOG = logging.getLogger(__name__)
# A task whose driver stays away is dropped; should it come back, it tells what it remembers.
FORGET_AFTER = 3600.0
# The same for one that is not probed any more: its driver has left, and its last word was lost.
FORGET_STOPPED_AFTER = 60.0
_SWEEP_EVERY = 600.0


class Book:
    """Handler of the Attach streams."""

    def __init__(
        self,
        store: Store,
        schedule: Schedule,
        *,
        aurora_rule: str = "time",
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
        spread: Callable[[], float] | None = None,
        observe: Observer | None = None,
    ) -> None:
        """Makes an empty book; `replay` fills it.

        Args:
            store: Journals.
            schedule: Calls back later.
            aurora_rule: Of new tasks whose Aurora configuration names no rule: `time` or `attempts`.
            clock: CLOCK_BOOTTIME, seconds.
            wall_clock: Seconds since 1970, only for people.
            spread: Numbers from 0 to 1, to spread overdue probes.
            observe: Hears of all attempts.
        """
        self._store = store
        self._schedule = schedule
        self._aurora_rule = aurora_rule
        self.clock = clock
        self._wall_clock = wall_clock
        self._spread = spread or evenly()
        self._observe = observe
        self._entries: dict[TaskKey, Entry] = {}
        # Tasks that were asked for with NeedTask, with what the driver said of them.
        self._awaited: dict[TaskKey, link_pb2.HelloTask] = {}
        self._sweeper: Timer | None = None
        self.changes: Broadcast[health_pb2.WatchChecksResponse] = Broadcast()

    def replay(self) -> None:
        """Reads the journals. Nobody is told anything.

        Raises:
            OSError: The state directory cannot be used.
        """
        now = self.clock()
        for log, task, histories in self._store.load():
            key, specs = log.header.key, log.header.specs
            checked = {spec.kind: Checked(spec, histories[spec.kind]) for spec in specs}
            restored = None if task is None else verdict.restored(task, now)
            self._entries[key] = Entry(key, log, restored, checked, alone_since=now)
        self._sweeper = self._schedule(_SWEEP_EVERY, self._sweep)

    def close(self) -> None:
        """Stops all timers and closes all journals."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for entry in self._entries.values():
            for checked in entry.checked.values():
                checked.unschedule()
            entry.log.close()
        self._entries.clear()

    def entries(self) -> Iterable[Entry]:
        """All tasks, in the order of their launches."""
        return self._entries.values()

    def shown(self) -> list[health_pb2.Check]:
        """All checks, in the order of their tasks' launches."""
        now = self.clock()
        return [shown.check_of(entry, kind, now) for entry in self._entries.values() for kind in entry.checked]

    def snooze(self, entry: Entry, seconds: float) -> health_pb2.Check:
        """Stops the probes of a task's health check for so long; 0: one is made now.

        Returns:
            The check as it is then.

        Raises:
            KeyError: The task has none.
        """
        now = self.clock()
        self._apply(entry, model.Snooze(now + seconds if seconds > 0 else None), model.Kind.HEALTH)
        return shown.check_of(entry, model.Kind.HEALTH, now)

    def on_hello(self, session: HealthSession, _hello: link_pb2.Hello, tasks: list[link_pb2.HelloTask]) -> None:
        """See `Handler`."""
        told = {TaskKey.of(task.key): task for task in tasks}
        for entry in list(self._entries.values()):
            if entry.key not in told and entry.superseded_by(session.executor):
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
                entry = self._entries.get(TaskKey.of(message.task_state.key))
                if entry is not None and event is not None:
                    self._apply(entry, event)
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
                entry.alone_since = self.clock()
                self._apply(entry, model.Detached(), always=True)
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
        specs = specs_of_info(info, session.hello, self._aurora_rule)
        log = self._store.new(Header(key, hashlib.sha256(info).digest(), self._store.boot_id, specs))
        task = verdict.Checks(0, {spec.kind: checks.new(spec.rule) for spec in specs}) if specs else None
        entry = Entry(key, log, task, {spec.kind: Checked(spec) for spec in specs}, alone_since=self.clock())
        self._entries[key] = entry
        log.save(task, entry.histories)
        self._meet(entry, session, self._awaited.pop(key, None))

    def _meet(self, entry: Entry, session: HealthSession, task: link_pb2.HelloTask | None) -> None:
        """Brings a task and its driver together; what the driver remembers comes first."""
        if entry.session is not None:
            self._step(entry, model.Detached())
        entry.session = session
        if entry.task is None:
            session.send(health_pb2.AttachResponse(verdict=entry.verdict()))
            return
        for event in () if task is None else hearsay.events_of(task):
            self._step(entry, event)
        self._apply(entry, model.Attached(self._spread()), always=True)

    def _result(self, result: health_pb2.ProbeResult) -> None:
        entry, kind = self._entries.get(TaskKey.of(result.key)), shown.kind_of(result.check)
        if entry is None or kind not in entry.checked:
            return
        spec = entry.checked[kind].spec
        reading = interpret.read(spec.target, spec.expected, spec.timeout, result, kind)
        self._apply(entry, model.Result(result.id, reading, result.latency_secs), kind)

    def _apply(self, entry: Entry, event: model.Event, kind: Kind | None = None, *, always: bool = False) -> None:
        """Lets one event act, and tells operators if anything has changed (`always`: in any case)."""
        changed = self._step(entry, event, kind)
        if (changed or always) and self.changes.watched:
            for each in entry.checked if kind is None else (kind,):
                self._publish(entry, each)

    def _publish(self, entry: Entry, kind: Kind, *, gone: bool = False) -> None:
        check = shown.check_of(entry, kind, self.clock())
        self.changes.publish(health_pb2.WatchChecksResponse(check=check, gone=gone))

    def _tick(self, entry: Entry, kind: Kind) -> None:
        checked = entry.checked[kind]
        checked.timer = checked.wake = None
        self._apply(entry, model.Tick(), kind)

    def _step(self, entry: Entry, event: model.Event | verdict.Heard, kind: Kind | None = None) -> bool:
        """Lets one event act on the checks of a task, or on one of them; whether anything changed."""
        before = entry.task
        if before is None:
            return False
        now = self.clock()
        entry.task, actions = verdict.step(before, entry.plans, event, now, kind)
        for of, action in actions:
            self._do(entry, of, action)
        for each in entry.checked if kind is None else (kind,):
            checked, wake = entry.checked[each], checks.wake_at(entry.task.of[each])
            if wake != checked.wake:
                checked.unschedule()
                checked.wake = wake
                if wake is not None:
                    tick = functools.partial(self._tick, entry, each)
                    checked.timer = self._schedule(max(wake - now, 0.0), tick)
        return entry.task is not before

    def _do(self, entry: Entry, kind: Kind, action: model.Action) -> None:
        match action:
            case model.Save(noted):
                self._save(entry, kind, noted)
            case model.SendProbe(probe_id) if entry.session is not None:
                probe = entry.checked[kind].spec.probe(entry.key, probe_id)
                entry.session.send(health_pb2.AttachResponse(probe=probe))
                if self._observe is not None:
                    self._observe.probed(entry.checked[kind].spec)
            case model.SendVerdict() if entry.session is not None:
                told = entry.verdict()
                opinion = told.passed, told.healthy if told.HasField("healthy") else None, told.dead
                # One more failure, or another result of a check, is told and counted: a log of each would never end.
                level = logging.DEBUG if opinion == entry.logged else logging.INFO
                entry.logged = opinion
                _LOG.log(level, "verdict", extra=_about(entry.key, passed=told.passed, message=told.message))
                entry.session.send(health_pb2.AttachResponse(verdict=told))

    def _save(self, entry: Entry, kind: Kind, noted: model.Noted | None) -> None:
        checked, recorded = entry.checked[kind], None
        if noted is not None:
            reading = noted.reading
            recorded = Recorded(self._wall_clock(), reading.meaning, reading.detail, noted.latency)
            checked.history.append(recorded)
            if self._observe is not None:
                self._observe.noted(checked.spec, noted)
        entry.log.save(entry.task, entry.histories, kind, recorded)

    def _drop(self, entry: Entry) -> None:
        self._step(entry, model.Ending())
        if self.changes.watched:
            for kind in entry.checked:
                self._publish(entry, kind, gone=True)
        del self._entries[entry.key]
        entry.log.delete()

    def _sweep(self) -> None:
        now = self.clock()
        for entry in list(self._entries.values()):
            wait = FORGET_STOPPED_AFTER if choice.over(entry) else FORGET_AFTER
            if entry.session is None and now - entry.alone_since > wait:
                _LOG.info("the driver has not come back; its task is dropped", extra=_about(entry.key))
                self._drop(entry)
        self._sweeper = self._schedule(_SWEEP_EVERY, self._sweep)


def _about(who: TaskKey | Executor, **more: object) -> dict[str, dict[str, object]]:
    return {"fields": {"task" if isinstance(who, TaskKey) else "executor": str(who), **more}}
