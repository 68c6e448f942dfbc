"""Items 9, 33, 34: the token, and the unix socket."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.integration.checklist.bench import SUBSCRIBE
from tests.integration.checklist.test_shutdowns import exit_status
from tests.integration.checklist.wiretap import Wiretap
from tests.integration.faults.processes import children_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.checklist.bench import Bench

LONG_PATH = "/slave(1)/api/v1/executor"
# Nobody listens there.
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def guarded(make_bench: Callable[..., Bench], tmp_path: Path) -> Bench:
    """An agent that wants to see tokens."""
    key = tmp_path / "key"
    key.write_bytes(b"a key of a test")
    return make_bench("--jwt-secret-key", str(key), "--authenticate-http-executors")


@pytest.fixture
def with_socket(make_bench: Callable[..., Bench]) -> Bench:
    """An agent with a unix socket for executors."""
    return make_bench("--http-executor-domain-sockets")


def test_33_the_token_is_in_every_call_and_nowhere_else(guarded: Bench) -> None:
    bench, probed = guarded, f"{guarded.stack.dir}/probe-env"
    definition = {
        "health_check_config": {
            "health_checker": {"shell": {"shell_command": f"env > {probed}"}},
            "interval_secs": 0.1,
            "initial_interval_secs": 60,
            "timeout_secs": 5,
        }
    }
    gate = bench.gate()
    command = f"env > own-env; echo $$ > {gate.path}; exec sleep 600"
    task = bench.launch({"task": {"processes": [{"name": "p", "cmdline": command}]}, **definition})
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    # Every driver has it, not only the first.
    bench.tap.cut_stream()
    bench.tap.wait_subscribes(2)
    tokens = {header for call in bench.tap.calls for header in call.headers("Authorization")}
    assert len(tokens) == 1
    assert all(len(call.headers("Authorization")) == 1 for call in bench.tap.calls)
    scheme, _, token = tokens.pop().partition(" ")
    assert (scheme, token.count(".")) == ("Bearer", 2)
    signature = token.rpartition(".")[2].encode()
    coordinator = task.coordinator()
    for process in (coordinator, *children_of(coordinator), pid):
        for name in ("environ", "cmdline"):
            with open(f"/proc/{process}/{name}", "rb") as file:
                assert signature not in file.read(), (process, name)
    assert task.kill()
    assert task.wait_end() == "TASK_KILLED"
    read = 0
    for directory, _, files in os.walk(bench.stack.dir):
        for name in filter(lambda name: os.path.isfile(f"{directory}/{name}"), files):
            with open(f"{directory}/{name}", "rb") as file:
                assert signature not in file.read(), f"{directory}/{name}"
            read += 1
    # Logs, journals, what the processes have written.
    assert read > 10
    assert os.path.getsize(probed)


def test_09_a_wrong_token_ends_the_executor_and_is_not_logged(guarded: Bench) -> None:
    wrong = "wrong.token.of-a-test"
    environ = {"MESOS_EXECUTOR_AUTHENTICATION_TOKEN": wrong, "MESOS_AGENT_ENDPOINT": guarded.tap.endpoint}
    task = guarded.launch({"processes": [{"name": "p", "cmdline": "true"}]}, environ=environ)
    assert exit_status(task) == 1
    assert guarded.tap.answer_head(guarded.tap.subscribes[0]).startswith("HTTP/1.1 401 ")
    assert len(guarded.tap.subscribes) == 1
    log = guarded.log_of(task)
    assert "401" in log
    assert wrong not in log


def domain_socket(bench: Bench) -> str:
    return f"{bench.stack.run_dir}/executors.sock"


def test_34_the_unix_socket_is_used_with_the_long_path(with_socket: Bench) -> None:
    bench = with_socket
    tap = Wiretap(lambda: domain_socket(bench), f"{bench.stack.dir}/tap.sock")
    environ = {"MESOS_DOMAIN_SOCKET": tap.endpoint, "MESOS_AGENT_ENDPOINT": bench.tap.endpoint}
    sleeper = bench.sleeper(environ=environ)
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    # Not %28: the socket knows no other form.
    assert {call.path for call in tap.calls} == {LONG_PATH}
    assert {call.message.type for call in tap.calls} == {1, 2}
    assert not bench.tap.connected_at
    tap.close()


def test_34_the_agents_own_variable_leads_to_the_socket_and_to_a_new_one_after_a_restart(with_socket: Bench) -> None:
    # TCP would lead nowhere.
    sleeper = with_socket.sleeper(environ={"MESOS_AGENT_ENDPOINT": NOWHERE})
    with_socket.stack.restart("agent")
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert sleeper.task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_34_a_path_that_is_too_long_for_a_socket_address(with_socket: Bench) -> None:
    deep = f"{with_socket.stack.dir}/{'d' * 100}/{'e' * 100}"
    os.makedirs(deep)
    os.symlink(domain_socket(with_socket), f"{deep}/executors.sock")
    environ = {"MESOS_DOMAIN_SOCKET": f"{deep}/executors.sock", "MESOS_AGENT_ENDPOINT": NOWHERE}
    sleeper = with_socket.sleeper(environ=environ)
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"


@pytest.mark.parametrize("kind", ["no file", "nobody listens"])
def test_34_tcp_is_the_way_when_the_socket_leads_nowhere(with_socket: Bench, kind: str) -> None:
    # As in a container with a root filesystem of its own, or after the agent's death.
    path = f"{with_socket.stack.dir}/other.sock"
    if kind == "nobody listens":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
    sleeper = with_socket.sleeper(
        environ={"MESOS_DOMAIN_SOCKET": path, "MESOS_AGENT_ENDPOINT": with_socket.tap.endpoint}
    )
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert {call.path for call in with_socket.tap.calls} == {LONG_PATH}
    assert SUBSCRIBE in {call.message.type for call in with_socket.tap.calls}
