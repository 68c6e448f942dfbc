"""Where the agent is looked for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from services.local_agent.client.address import NoAgent, find
from tests.integration.conftest import tmp_path  # noqa: F401 - short enough for sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:  # noqa: F811
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "run" / "agent.sock"))
        server.listen()
        yield tmp_path


def test_a_socket_its_directory_and_the_one_above_are_taken(listening: Path) -> None:
    path = str(listening / "run" / "agent.sock")
    for name in (path, str(listening / "run"), str(listening), f"{listening}/run/../"):
        assert find(name, {}) == path
    assert find(None, {"TRIVET_AGENT": str(listening)}) == path


def test_what_is_given_wins_over_the_environment(listening: Path) -> None:
    with pytest.raises(NoAgent, match="/nowhere: there is no such directory"):
        find("/nowhere", {"TRIVET_AGENT": str(listening)})


def test_no_agent_is_guessed() -> None:
    for environment in ({}, {"TRIVET_AGENT": ""}):
        with pytest.raises(NoAgent, match=r"which agent\? (.|\n)*trivet agent --work-dir DIR"):
            find(None, environment)


def test_a_work_directory_whose_agent_is_elsewhere_or_away(tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "meta").mkdir()
    with pytest.raises(NoAgent, match=f"--run-dir(.|\n)*trivet agent --work-dir {tmp_path}"):
        find(str(tmp_path), {})


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:  # noqa: F811
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(tmp_path / "agent.sock"))
    server.close()
    with pytest.raises(NoAgent, match="nobody listens"):
        find(str(tmp_path), {})
