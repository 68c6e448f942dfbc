"""What a task that says nothing has: the defaults of Thermos and Aurora, field by field."""

from __future__ import annotations

import json

from services.common.task import parse_json
from trivet.task.v1 import task_pb2


def test_the_defaults_of_every_struct_of_thermos() -> None:
    document = {"processes": [{"name": "a", "cmdline": "x", "logger": {"rotate": {}}}]}
    task = parse_json(json.dumps(document))[0].task
    (process,) = task.processes
    assert (process.max_failures, process.daemon, process.ephemeral, process.final) == (1, False, False, False)
    assert process.min_duration == 5
    assert (process.logger.destination, process.logger.mode) == ("file", "standard")
    assert (process.logger.rotate.log_size, process.logger.rotate.backups) == (100 << 20, 5)
    assert (task.max_failures, task.max_concurrency, task.finalization_wait) == (1, 0, 30)
    assert (len(task.constraints), task.HasField("user"), task.HasField("resources")) == (0, False, False)
    assert task_pb2.Resources().gpu == 0


def test_the_defaults_of_every_struct_of_aurora_that_an_executor_acts_on() -> None:
    health = task_pb2.HealthCheckConfig()
    assert (health.initial_interval_secs, health.interval_secs, health.timeout_secs) == (15.0, 10.0, 1.0)
    assert (health.max_consecutive_failures, health.min_consecutive_successes) == (0, 1)
    http = task_pb2.HttpHealthChecker()
    assert (http.endpoint, http.expected_response, http.expected_response_code) == ("/health", "ok", 0)
    lifecycle = task_pb2.HttpLifecycleConfig()
    assert lifecycle.port == "health"
    assert lifecycle.graceful_shutdown_endpoint == "/quitquitquit"
    assert lifecycle.shutdown_endpoint == "/abortabortabort"
    assert (lifecycle.graceful_shutdown_wait_secs, lifecycle.shutdown_wait_secs) == (5, 5)
    assert task_pb2.Announcer().primary_port == "http"
