from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.checklist.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

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
def make_bench(request: pytest.FixtureRequest) -> Iterator[Callable[..., Bench]]:
    """Benches with agent flags; nothing of them is left after the test, save the logs of one that failed."""
    made: list[Bench] = []

    def make(*flags: str, **how: object) -> Bench:
        made.append(Bench(*flags, **how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    failed = request.node.stash.get(_FAILED, False)
    for bench in made:
        if failed:
            sys.stdout.write(f"logs are kept in {bench.stack.dir}\n")
        bench.close(keep=failed)


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A bench without special flags."""
    return make_bench()
