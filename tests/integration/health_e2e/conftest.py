"""The stack of tests/integration/faults, and a server that its tasks' checks probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.faults import conftest as faults

pytest.register_assert_rewrite("tests.integration.health_e2e.rig")

from tests.integration.health_e2e.rig import Target  # noqa: E402 - its assertions are to be rewritten first

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_runtest_makereport = faults.pytest_runtest_makereport
stack = faults.stack


@pytest.fixture
def target() -> Iterator[Target]:
    """An HTTP server on 127.0.0.1 that answers what the test says."""
    target = Target()
    yield target
    target.close()
