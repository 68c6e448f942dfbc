"""Our agent answers the recorded executors as the real one did."""

from __future__ import annotations

import pytest

from services.local_agent import dialect_writer
from tests.conformance import recording
from tests.conformance.replay import Flow, Player

COVERED: dict[str, Flow] = {
    "adoption": Flow(),
    "agent-restart": Flow(),
    "agent-signals": Flow(),
    "basic-json": Flow(),
    "basic-protobuf": Flow(),
    "big-data": Flow(),
    "container-status-mix": Flow(),
    "drop-before-update": Flow(),
    "env-agent-variables": Flow(),
    "env-timeouts": Flow(),
    "executor-killed": Flow(),
    "foreign-task": Flow(),
    "gap-shutdown": Flow(),
    "handover": Flow(),
    "http-errors": Flow(),
    "json-dialect": Flow(),
    "kill-json": Flow(),
    "kill-protobuf": Flow(),
    "list-no-source": Flow(),
    "list-no-uuid": Flow(),
    "list-staging": Flow(),
    "list-unknown-task": Flow(),
    "list-bad-uuid": Flow(),
    "message": Flow(),
    "multi-task": Flow(),
    "odd-ids": Flow(),
    "queued-task-update": Flow(),
    "registration-timeout": Flow(),
    "restart-before-subscribe": Flow(),
    "restart-idle": Flow(),
    "restart-late": Flow(),
    "restart-lists": Flow(),
    "restart-nocheckpoint": Flow(),
    "restart-not-partition-aware": Flow(),
    "restart-resend": Flow(),
    "restart-twice": Flow(),
    "rich-task-json": Flow(),
    "rich-task-protobuf": Flow(),
    "second-subscribe": Flow(),
    "shutdown": Flow(),
    "shutdown-silent": Flow(),
    "stream-away-long": Flow(),
    "stream-drop-checkpoint": Flow(),
    "stream-drop-nocheckpoint": Flow(),
    "stream-endings": Flow(),
    "terminal-then-death": Flow(),
    "teardown": Flow(),
    "update-errors": Flow(),
    "update-before-launch": Flow(),
}


@pytest.mark.parametrize("name", COVERED)
def test_agent_answers_as_recorded(name, tmp_path):
    Player(recording.load(name), COVERED[name], tmp_path).play()
