"""The faults in force in one agent: between its sockets and its machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from services.local_agent.faults.incoming import Accepted, Calls
from services.local_agent.faults.outgoing import Events
from services.local_agent.faults.rules import RuleBook, Traffic, add_all
from services.local_agent.wire import call_validation
from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesos.v1.executor import executor_pb2
    from services.local_agent.faults.rules import Rule
    from services.local_agent.faults.waiting import Caller, Waiting
    from services.local_agent.wire.http import Request

_LOG = logging.getLogger(__name__)


class Faults:
    """Belongs to one event loop. `active` is all that the sockets look at while nothing is in force."""

    def __init__(self, seed: int = 0, initial: Iterable[faults_pb2.Fault] = ()) -> None:
        """`initial`: in force from the start.

        Raises:
            FaultRefused: One of them makes no sense.
        """
        self._book = RuleBook(seed)
        self.waiting: set[Waiting[Any]] = set()
        add_all(self._book, initial)
        self.active = bool(self._book.rules)

    @property
    def refuses_connections(self) -> bool:
        """Nobody may listen."""
        return self._book.refuses_connections

    def add(self, fault: faults_pb2.Fault) -> str:
        """Puts a fault into force; returns its id.

        Raises:
            FaultRefused: It makes no sense, or its id is in use.
        """
        new = self._book.add(fault)
        self.active = True
        _LOG.info("fault in force", extra={"fields": {"fault": new}})
        return new

    def remove(self, fault_id: str = "") -> list[str]:
        """Takes one away, or all; what it holds back goes out. Returns the ids.

        Raises:
            KeyError: There is no such fault.
        """
        ids = self._book.remove(fault_id)
        self.active = bool(self._book.rules)
        for gone in ids:
            for waiting in list(self.waiting):
                waiting.free(gone)
        _LOG.info("faults removed", extra={"fields": {"faults": ids}})
        return ids

    def in_force(self) -> list[faults_pb2.FaultInForce]:
        """All, in order."""
        return [
            faults_pb2.FaultInForce(
                fault=rule.fault,
                matches=rule.matches,
                strikes=rule.strikes,
                held=sum(waiting.held(fault_id) for waiting in self.waiting),
                used_up=rule.used_up,
            )
            for fault_id, rule in self._book.rules.items()
        ]

    def close(self) -> None:
        """What waits is lost."""
        for waiting in list(self.waiting):
            waiting.close()

    # The sockets' side.

    def call(self, request: Request) -> Rule | None:
        """The fault that strikes a call which has been read in whole."""
        return self._strike(_call_traffic(request)) if self.active else None

    def event(self, event: executor_pb2.Event, executor_id: str) -> Rule | None:
        """The fault that strikes an event which is about to be written."""
        return self._strike(_event_traffic(event, executor_id)) if self.active else None

    def accepted(self, connection: Caller) -> None:
        """A new connection."""
        rule = self._strike(Traffic("connection"))
        if rule is None:
            return
        if rule.fault.HasField("cut"):
            connection.cut(reset=rule.fault.cut.reset)
        else:
            Accepted(self, connection).accept(rule)

    def calls(self, connection: Caller) -> Calls:
        """The line of a connection's calls."""
        return Calls(self, connection)

    def events(self, connection: Caller, content_type: str) -> Events:
        """The line of a stream's events."""
        return Events(self, connection, content_type)

    def lost(self, connection: Caller) -> None:
        """A connection is gone."""
        for waiting in [waiting for waiting in self.waiting if waiting.connection is connection]:
            waiting.lost()

    def _strike(self, traffic: Traffic) -> Rule | None:
        rule = self._book.strike(traffic)
        if rule is not None:
            fields = {"fault": rule.fault.id, "target": traffic.target, "executor": traffic.executor_id}
            _LOG.info("fault strikes", extra={"fields": fields})
        return rule


def _call_traffic(request: Request) -> Traffic:
    """Type 0 when it cannot be read: only a fault for every call strikes it then."""
    try:
        call = call_validation.decode(request.headers.get("content-type"), request.body)
    except call_validation.Refused:
        return Traffic("call")
    tasks = [task.task_id.value for task in call.subscribe.unacknowledged_tasks]
    tasks += [update.status.task_id.value for update in call.subscribe.unacknowledged_updates]
    if call.HasField("update"):
        tasks.append(call.update.status.task_id.value)
    return Traffic("call", call.type, call.executor_id.value, tuple(tasks))


def _event_traffic(event: executor_pb2.Event, executor_id: str) -> Traffic:
    tasks = [task.task_id.value for task in event.launch_group.task_group.tasks]
    for field in ("launch", "kill", "acknowledged"):
        if event.HasField(field):
            body = getattr(event, field)
            tasks.append((body.task if field == "launch" else body).task_id.value)
    return Traffic("event", event.type, executor_id, tuple(tasks))
