"""The recording of 31 idle minutes, played on the machine: bytes are the real ones, the clock is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesos.v1.executor import executor_pb2
from services.local_agent.containers import resources
from services.local_agent.core import actions
from services.local_agent.core.machine import Machine
from services.local_agent.core.model import AgentState, Framework
from services.local_agent.core.step import Config, Moment
from services.local_agent.wire import dialect_writer
from services.local_agent.wire.http import RequestParser
from tests.conformance import recording
from tests.conformance.recording import Event

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2

if not recording.directory().is_dir():
    pytest.skip(f"NO RECORDINGS at {recording.directory()} (set TRIVET_TRACES)", allow_module_level=True)

NAME = "heartbeat"
_EVENT = executor_pb2.Event


class _Played:
    """The machine with its timers, and what it wrote to the stream, with the time."""

    def __init__(self, subscribed: executor_pb2.Event, task: mesos_pb2.TaskInfo) -> None:
        body = subscribed.subscribed
        config = Config(
            ip="127.0.0.1",
            hostname=body.agent_info.hostname,
            resources=resources.parse("cpus:4;mem:4096;disk:4096;ports:[31000-32000]"),
            executor_registration_timeout=60 * 10**9,
            executor_reregistration_timeout=2 * 10**9,
            executor_shutdown_grace_period=5 * 10**9,
        )
        self.machine = Machine(AgentState(), config, lambda: bytes(16))
        self.timers: dict[actions.Timer, float] = {}
        self.written: list[tuple[float, bytes]] = []
        self.statuses = 0
        self.take(0.0, self.machine.start(body.agent_info.id.value, "boot", body.agent_info.port, _at(0)).actions)
        self.take(0.0, self.machine.containers_recovered(_at(0)).actions)
        framework = Framework(body.framework_info.id.value, body.framework_info)
        outcome = self.machine.launch(framework, [task], body.container_id.value, "/sandbox", _at(0))
        self.take(0.0, outcome.actions)

    def take(self, now: float, wanted: tuple[actions.Action, ...]) -> None:
        for action in wanted:
            match action:
                case actions.SendEvent(_, event):
                    self.written.append((now, dialect_writer.encode(event)))
                case actions.StartTimer(timer, seconds):
                    self.timers[timer] = now + seconds
                case actions.CancelTimer(timer):
                    self.timers.pop(timer, None)
                case actions.Notify():
                    self.statuses += 1

    def pass_time(self, now: float) -> None:
        """Everything that is due until `now`, in order."""
        while self.timers:
            timer = min(self.timers, key=lambda known: self.timers[known])
            at = self.timers[timer]
            if at > now:
                return
            del self.timers[timer]
            self.take(at, self.machine.timer_fired(timer, _at(at)).actions)


def test_heartbeat_comes_when_and_as_it_was_recorded() -> None:
    flow = recording.load(NAME)
    events = [
        (flow.rows[index].at, unit) for index, units in flow.units.items() for unit in units if isinstance(unit, Event)
    ]
    messages = [unit.message() for _, unit in events]
    launch = next(message for message in messages if message.type == _EVENT.LAUNCH)
    played = _Played(messages[0], launch.launch.task)
    parsers: dict[str, RequestParser] = {}
    for row in flow.rows:
        played.pass_time(row.at)
        if row.kind == "executor->agent":
            for request in parsers.setdefault(row.connection, RequestParser()).feed(row.data):
                played.take(row.at, played.machine.request(request, 1, _at(row.at)).actions)
    heartbeat = next(index for index, message in enumerate(messages) if message.type == _EVENT.HEARTBEAT)
    assert [payload for _, payload in played.written] == [unit.payload for _, unit in events[: heartbeat + 1]]
    recorded, ours = events[heartbeat][0], played.written[heartbeat][0]
    assert recorded == pytest.approx(ours, abs=0.1)
    assert ours - played.written[0][0] == 1800.0, "counted from SUBSCRIBE"
    assert played.statuses == 1


def _at(seconds: float) -> Moment:
    return Moment(1.7e9 + seconds, seconds)
