"""Pytest plugin for authors of Mesos executors: the fixture `mesos_agent`, a local Mesos agent for one test.

    def test_it(mesos_agent):
        task = mesos_agent.launch("python3 my_executor.py")
        assert task.wait().states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]

docs/local-agent.md describes it. A package of its own, because pytest loads it in every project of the environment:
until a test asks for the fixture it imports nothing, and it does not depend on what a project calls `services`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from services.local_agent.testing import MesosAgent

_MARKER = (
    "mesos_agent(flags=[...], leftovers='fail'): how the fixture `mesos_agent` starts its agent: flags of "
    "trivet-agent; "
    "leftovers='kill': processes of executors that are left at the end of the test are killed and no failure."
)
_AGENT = pytest.StashKey["MesosAgent"]()
_TAIL_BYTES = 20_000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --mesos-agent-keep."""
    parser.getgroup("mesos_agent", "local Mesos agent").addoption(
        "--mesos-agent-keep", action="store_true", help="keep directories of agents, with all sandboxes, in /tmp"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def mesos_agent(request: pytest.FixtureRequest) -> Iterator[MesosAgent]:
    """A running local Mesos agent, for this test alone; `@pytest.mark.mesos_agent(flags=[...])` gives it flags.

    At the end of the test all executors are told to shut down. An executor that does not, and processes that outlive
    their container, are killed and fail the test with their names.
    """
    try:
        from services.local_agent.testing import LeftoversFound, MesosAgent
    except ImportError as error:
        pytest.fail(_why_not(error), pytrace=False)
    options: dict[str, Any] = {}
    # The nearest marker wins, one option at a time: a module's flags, a test's own leftovers.
    for marker in request.node.iter_markers("mesos_agent"):
        if marker.args or set(marker.kwargs) - {"flags", "leftovers"}:
            raise pytest.UsageError(f"{request.node.nodeid}: the marker is {_MARKER}")
        options = {**marker.kwargs, **options}
    keep = bool(request.config.getoption("--mesos-agent-keep"))
    try:
        with MesosAgent.start(directories=[str(request.path.parent)], keep=keep, **options) as agent:
            request.node.stash[_AGENT] = agent
            yield agent
    except LeftoversFound as found:
        pytest.fail(str(found), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what the executors have written, and what their scheduler has received, to the report of a failure."""
    report = yield
    agent = item.stash.get(_AGENT, None)
    if agent is not None and report.when == "call" and report.failed:
        from services.local_agent.testing.process import tail
        from services.local_agent.testing.report import NO_SANDBOX

        for task in agent.tasks:
            report.sections.append((f"task {task.task_id}", task.describe(output=False)))
            for name in ("stdout", "stderr"):
                text = "" if task.sandbox == NO_SANDBOX else tail(str(task.sandbox / name), _TAIL_BYTES)
                if text:
                    report.sections.append((f"{name} of executor {task.executor_id}", text))
    return report


def _why_not(error: ImportError) -> str:
    import services

    where = getattr(services, "__file__", None) or list(services.__path__)
    return (
        f"mesos_agent: {error}\nIt needs what `pip install 'trivet[testing]'` installs. A package `services` of your "
        f"own hides Trivet's when it comes first in sys.path; here `services` is {where}."
    )
