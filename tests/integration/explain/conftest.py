"""The stack of tests/integration/faults, and a server that its tasks' checks probe."""

from __future__ import annotations

from tests.integration.health_e2e import conftest as health

pytest_runtest_makereport = health.pytest_runtest_makereport
stack = health.stack
target = health.target
