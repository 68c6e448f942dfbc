"""Only an executor can read its logs: when it is away or gone, that is said, and where the files are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from services.runner import logs
from services.runner.errors import ExecutorAway
from services.runner.logs import LogDesk
from tests.unit.runner.rig import EXECUTOR, Rig, in_loop
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path


def attach(rig: Rig, *, sandbox: str = "", host_sandbox: str = "", hostname: str = "") -> Any:
    session = rig.attach()
    hello = link_pb2.Hello(
        executor=EXECUTOR.to_pb(), boot_id="boot-1", sandbox=sandbox, host_sandbox=host_sandbox, hostname=hostname
    )
    rig.runner.on_hello(session, hello, [])
    return session


def text_of_gone(rig: Rig, process: str = "") -> str:
    return str(logs.gone(rig.queries.get("t1"), process))


def test_of_an_executor_that_is_gone_it_says_so_and_where_the_files_are(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = attach(rig, sandbox="/mnt/mesos/sandbox", host_sandbox="/var/lib/mesos/runs/7", hostname="host1")
        key = rig.launch(session)
        rig.exit(session, key)
        rig.forget(session, key)
        assert text_of_gone(rig, "p") == (
            "task_id: 't1' is over and its executor gone, so nobody can read its logs; until Mesos collects its "
            "garbage they are on host1 in /var/lib/mesos/runs/7/sandbox/.logs/p"
        )
        assert text_of_gone(rig).endswith("on host1 in /var/lib/mesos/runs/7/sandbox/.logs")

    in_loop(scenario)


def test_of_an_executor_that_never_came_back_too(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = attach(rig, sandbox="/box", hostname="host1")
        rig.launch(session)
        rig.runner.on_detach(session)
        rig.now += 61
        rig.runner._alarms._fire()
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_LOST
        assert text_of_gone(rig, "p").endswith("they are on host1 in /box/sandbox/.logs/p")

    in_loop(scenario)


def test_what_the_executor_never_said_is_not_made_up(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = attach(rig)
        key = rig.launch(session)
        rig.exit(session, key)
        rig.forget(session, key)
        assert text_of_gone(rig, "p").endswith("they are on its host in (sandbox unknown)/sandbox/.logs/p")

    in_loop(scenario)


def test_while_an_executor_is_only_away_it_says_so_and_where_the_files_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk = LogDesk(rig.runner)
        rig.runner.listeners.append(desk)
        session = attach(rig, sandbox="/mnt", host_sandbox="/runs/7", hostname="host1")
        book = rig.runner.books[rig.launch(session)]
        request = runner_pb2.ReadLogRequest(task_id="t1", process="p")
        waiting = asyncio.ensure_future(anext(desk.read(book, request)))
        await asyncio.sleep(0)
        rig.runner.on_detach(session)
        # One that was reading, and one that comes now.
        for reader in (waiting, anext(desk.read(book, request))):
            with pytest.raises(ExecutorAway) as caught:
                await reader
            assert str(caught.value) == (
                "t1: its executor is not attached at the moment: ask again from where you were, or look on host1 in "
                "/runs/7/sandbox/.logs/p/0"
            )

    asyncio.run(scenario())
