"""For the commands about tasks: a whole stack, and `trivet` against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.tasks_rig import Tool
from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack()
    yield stack
    stack.close()


@pytest.fixture
def trivet(stack: Stack) -> Tool:
    return Tool(stack)
