"""Our agent answers the recorded executors as the real one did."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from services.local_agent.wire import dialect_writer
from tests.conformance import recording
from tests.conformance.flows import PLAYED
from tests.conformance.recording import Event
from tests.conformance.replay import Player

if TYPE_CHECKING:
    from pathlib import Path

if not recording.directory().is_dir():
    message = f"NO RECORDINGS at {recording.directory()} (set TRIVET_TRACES): nothing is compared with the real Mesos"
    warnings.warn(message, stacklevel=1)
    pytest.skip(message, allow_module_level=True)


# Played in another way.
ELSEWHERE = {
    "heartbeat": "takes 30 minutes: test_heartbeat.py plays it on the machine, with the clock as an argument",
    "launch-group-refused": "no executor ever speaks in it: test_launch_group_refused.py compares the texts",
}


@pytest.mark.parametrize("name", PLAYED)
def test_agent_answers_as_recorded(name: str, tmp_path: Path) -> None:
    Player(recording.load(name), PLAYED[name], tmp_path).play()


def test_every_recorded_event_is_written_byte_by_byte_as_mesos_writes_it() -> None:
    compared = 0
    for path in sorted(recording.directory().glob("*.jsonl")):
        for units in recording.load(path.stem).units.values():
            for unit in units:
                if not isinstance(unit, Event):
                    continue
                message = unit.message()
                json = unit.content_type == "application/json"
                assert (dialect_writer.encode(message) if json else message.SerializeToString()) == unit.payload
                assert unit.single, "Mesos sends one record a chunk"
                compared += 1
    assert compared > 400


def test_every_recording_is_played() -> None:
    assert not set(PLAYED) & set(ELSEWHERE)
    assert {path.stem for path in recording.directory().glob("*.jsonl")} == set(PLAYED) | set(ELSEWHERE)
    assert len(PLAYED) + len(ELSEWHERE) == 64
