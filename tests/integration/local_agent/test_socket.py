"""The executors' unix socket."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.raw_http import LONG, PROTOBUF, SHORT, RawConnection, ask, json_call, subscribed
from tests.integration.local_agent.rig import AgentUnderTest, task_info
from tests.integration.local_agent.test_auth import environment

if TYPE_CHECKING:
    from pathlib import Path

Call = executor_pb2.Call
Event = executor_pb2.Event
FLAG = "--http-executor-domain-sockets"
HEARTBEAT = json_call("HEARTBEAT", "f", "e")


def path_of(agent: AgentUnderTest) -> str:
    return f"{agent.run_dir}/executors.sock"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        (LONG, 202, ""),
        (SHORT, 403, "403 Forbidden."),
        ("/slave%281%29/api/v1/executor", 403, "403 Forbidden."),
        ("/slave(1)/health", 403, "403 Forbidden."),
        ("/slave(1)/api/v1", 400, "Failed to validate agent::Call: Expecting 'type' to be present"),
        ("/health", 403, "403 Forbidden."),
        ("/slave(2)/api/v1/executor", 403, "403 Forbidden."),
        (f"{LONG}/", 403, "403 Forbidden."),
    ],
)
def test_row_17_only_two_paths_are_served(tmp_path: Path, path: str, status: int, body: str) -> None:
    with AgentUnderTest(tmp_path, FLAG) as agent:
        answer = ask(path_of(agent), HEARTBEAT, path=path)
        assert (answer.status, answer.body) == (status, body)
        length = ("Content-Length", str(len(body)))
        assert answer.headers == ([("Content-Type", "text/plain; charset=utf-8"), length] if body else [length])


def test_executor_is_told_of_a_socket_that_anybody_may_use(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, FLAG) as agent:
        agent.launch(task_info("t", executor_id="e"))
        told = environment(agent.executor("e").pid)["MESOS_DOMAIN_SOCKET"]
        assert told == path_of(agent)
        assert os.stat(told).st_mode == stat.S_IFSOCK | 0o666
    (tmp_path / "without").mkdir()
    with AgentUnderTest(tmp_path / "without") as agent:
        agent.launch(task_info("t", executor_id="e"))
        assert "MESOS_DOMAIN_SOCKET" not in environment(agent.executor("e").pid)
        assert not os.path.exists(path_of(agent))


def test_tcp_and_socket_can_be_mixed(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, FLAG) as agent, subscribed(agent, "e") as executor:
        subscribe = json_call("SUBSCRIBE", executor.framework_id, "e")
        assert executor.update(executor.status("e", mesos_pb2.TASK_STARTING))[0] == 202
        executor.event(Event.ACKNOWLEDGED)
        with RawConnection(path_of(agent)) as unix, RawConnection(agent.port) as tcp:
            assert unix.ask(subscribe).status == 200
            assert executor.stream is not None
            assert executor.stream.event() is None
            call = executor.call(Call.UPDATE)
            call.update.status.CopyFrom(executor.status("e", mesos_pb2.TASK_RUNNING))
            assert ask(path_of(agent), call.SerializeToString(), kind=PROTOBUF).status == 202
            events = [unix.json_event() for _ in range(2)]
            assert [event and event["type"] for event in events] == ["SUBSCRIBED", "ACKNOWLEDGED"]
            assert tcp.ask(subscribe).status == 200
            assert unix.json_event() is None
            # Like a TCP connection, it goes on after the stream.
            assert unix.ask(HEARTBEAT).status == 202


def test_socket_is_replaced_at_the_start_and_stays_at_the_end(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, FLAG) as agent:
        path = path_of(agent)
        made = [os.stat(path).st_ctime_ns]
        held = RawConnection(path)
        for number in (signal.SIGKILL, signal.SIGTERM):
            agent.end(number)
            assert held.ended()
            held.socket.close()
            # Executors that live on shall try again, not take it for a container without the socket.
            with pytest.raises(ConnectionRefusedError):
                RawConnection(path)
            agent.start()
            held = RawConnection(path)
            assert held.ask(HEARTBEAT).status == 202
            # A new file, though it may get the number of the old one.
            made.append(os.stat(path).st_ctime_ns)
        held.socket.close()
        agent.end(signal.SIGINT)
        assert not os.path.exists(path)
    assert made == sorted(set(made))


def refused_start(agent: AgentUnderTest) -> str:
    ended = subprocess.run(agent.command(), capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode in {1, 2}
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def test_what_is_no_socket_or_in_use_is_left_alone(tmp_path: Path) -> None:
    for name in ("w", "r"):
        (tmp_path / name).mkdir()
    location = str(tmp_path / "here")
    agent = AgentUnderTest(tmp_path, FLAG, "--domain-socket-location", location)
    with agent:
        agent.end(signal.SIGINT)
        with open(location, "w") as file:
            file.write("precious")
        assert location in refused_start(agent)
        with open(location) as file:
            assert file.read() == "precious"
        os.unlink(location)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(location)
            other.listen()
            said = refused_start(agent)
            assert location in said
            assert "another process listens" in said
        # Nobody listens any more: it makes room.
        agent.start()
        assert ask(location, HEARTBEAT).status == 202


def test_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    location = str(tmp_path / "no" / "such")
    agent = AgentUnderTest(tmp_path, FLAG, "--domain-socket-location", location)
    agent.channel.close()
    assert location in refused_start(agent)


def test_longest_path_works_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    longest = str(tmp_path / "x")
    longest += "x" * (107 - len(longest))
    with AgentUnderTest(tmp_path, FLAG, "--domain-socket-location", longest) as agent:
        assert ask(longest, HEARTBEAT).status == 202
        agent.end(signal.SIGINT)
        agent.flags[-1] += "x"
        assert "--domain-socket-location" in refused_start(agent)
        agent.flags[-1] = longest
        agent.start()
