"""The runner's orders: what the driver does first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from executor_shim.driver.links.runner import RunnerPeer
from trivet.runner.v1 import runner_pb2


@pytest.mark.parametrize(
    ("kind", "content", "order"),
    [
        ("terminate", runner_pb2.Terminate(kill_at=7.0), "hands.terminate"),
        ("lifecycle", runner_pb2.Lifecycle(step=0, port=80), "lifecycles.ask"),
    ],
)
def test_probes_end_before_the_task_hears_of_its_end(kind: str, content: Any, order: str) -> None:
    # The runner's state, which says that the task ends, comes only after the order.
    hub, task = Mock(), SimpleNamespace(key="1:t")
    RunnerPeer.handle(SimpleNamespace(_hub=hub), kind, content, task)  # type: ignore[arg-type]  # no link is needed
    names = [name for name, _, _ in hub.mock_calls]
    assert names.index("prober.task_ends") < names.index(order)
    hub.prober.task_ends.assert_called_once_with(task)


def test_the_end_of_one_run_ends_no_probes() -> None:
    hub = Mock()
    order: Any = runner_pb2.StopRun(process="p", run=1)
    RunnerPeer.handle(SimpleNamespace(_hub=hub), "stop_run", order, SimpleNamespace(key="1:t"))  # type: ignore[arg-type]
    assert [name for name, _, _ in hub.mock_calls] == ["hands.stop_run"]
