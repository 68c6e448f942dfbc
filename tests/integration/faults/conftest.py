from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Agent and all services, running; nothing of it is left after the test."""
    stack = Stack()
    yield stack
    stack.close()
