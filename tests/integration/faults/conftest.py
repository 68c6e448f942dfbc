from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Agent and all services, running; nothing of it is left after the test, save the logs of one that failed."""
    stack = Stack()
    yield stack
    failed = request.node.stash.get(_FAILED, False)
    if failed:
        sys.stdout.write(f"logs are kept in {stack.dir}\n")
    stack.close(keep=failed)
