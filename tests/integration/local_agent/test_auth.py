"""Executors' tokens on real sockets: from the executor's environment back to the agent."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.wire import auth
from tests.integration.local_agent.executor_double import ExecutorDouble
from tests.integration.local_agent.raw_http import Answer, ask, json_call, json_update
from tests.integration.local_agent.rig import AgentUnderTest, task_info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
KEY = "a-key-that-must-not-be-seen\n"
VARIABLE = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"
REALM = 'Bearer realm="mesos-agent-executor"'


def key_file(directory: Path) -> str:
    file = directory / "key"
    file.write_text(KEY)
    return str(file)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentUnderTest]:
    flags = ["--jwt-secret-key", key_file(tmp_path), "--authenticate-http-executors", "--log-level", "debug"]
    with AgentUnderTest(tmp_path, *flags, "--http-executor-domain-sockets") as running:
        yield running


class Executor:
    """A launched executor that sleeps, and the token in its environment."""

    def __init__(self, agent: AgentUnderTest, executor_id: str) -> None:
        self.agent = agent
        launched = agent.launch(task_info(executor_id, executor_id=executor_id))
        self.double = ExecutorDouble(agent.port, launched.framework_id, executor_id)
        self.run = agent.executor(executor_id)
        self.token = environment(self.run.pid)[VARIABLE]

    def call(
        self, kind: str = "SUBSCRIBE", token: str | None = None, where: str | int = 0, scheme: str = "Bearer"
    ) -> Answer:
        """`token`: the value of an Authorization header; none: no header."""
        headers = [] if token is None else [f"Authorization: {scheme} {token}"]
        if kind == "UPDATE":
            status = self.double.status(self.double.executor_id, mesos_pb2.TASK_RUNNING)
            body = json_update(self.double, status)
        else:
            body = json_call(kind, self.double.framework_id, self.double.executor_id)
        return ask(where or self.agent.port, body, *headers)


def environment(pid: int) -> dict[str, str]:
    data = b""
    while not data:
        # A few microseconds long it is still empty: the kernel lets the parent go on in the middle of exec.
        with open(f"/proc/{pid}/environ", "rb") as file:
            data = file.read()
    return dict(entry.decode().split("=", 1) for entry in data.split(b"\0") if entry)


def challenge(answer: Answer) -> str | None:
    assert (answer.status, answer.body) == (401, "401 Unauthorized.")
    assert [name for name, _ in answer.headers] == ["WWW-Authenticate", "Content-Type", "Content-Length"]
    return answer.header("WWW-Authenticate")


def test_token_in_the_environment_opens_the_api(agent: AgentUnderTest) -> None:
    executor = Executor(agent, "e")
    assert executor.token == auth.mint(
        KEY.encode(), container_id=executor.run.container_id, executor_id="e", framework_id=executor.run.framework_id
    )
    for where in (agent.port, f"{agent.run_dir}/executors.sock"):
        assert executor.call("SUBSCRIBE", executor.token, where).status == 200
        assert executor.call("UPDATE", executor.token, where).status == 202
        assert executor.call("HEARTBEAT", executor.token, where).status == 202


@pytest.mark.parametrize("kind", ["SUBSCRIBE", "UPDATE", "HEARTBEAT"])
def test_without_a_valid_token_every_call_is_401(agent: AgentUnderTest, kind: str) -> None:
    executor = Executor(agent, "e")
    invalid = REALM + ', error="invalid_token", error_description='
    for where in (agent.port, f"{agent.run_dir}/executors.sock"):
        assert challenge(executor.call(kind, None, where)) == REALM
        assert challenge(executor.call(kind, "abc", where)) == (
            invalid + '"Invalid JWT: Expected 3 components in token, got 1"'
        )
        bad = executor.token[:-2] + ("AA" if executor.token[-2:] != "AA" else "BB")
        assert challenge(executor.call(kind, bad, where)) == invalid + '"Invalid JWT: Token signature does not match"'
        assert challenge(executor.call(kind, executor.token, where, scheme="Basic")) == (
            invalid + "\"Scheme 'Basic' unsupported\""
        )


def test_row_12_another_executors_token_is_403_with_its_claims(agent: AgentUnderTest) -> None:
    executor, other = Executor(agent, "shim"), Executor(agent, "shim2")
    claims = f'{{"claims":{{"fid":"{other.run.framework_id}","eid":"shim2","cid":"{other.run.container_id}"}}}}'
    text = (
        f"Authenticated principal '{claims}' does not contain an 'eid' claim with the executor ID shim, "
        "which is set in the call"
    )
    for kind in ("SUBSCRIBE", "UPDATE"):
        answer = executor.call(kind, other.token)
        assert (answer.status, answer.body, answer.header("WWW-Authenticate")) == (403, text, None)
    # HEARTBEAT is answered before anybody looks at ids.
    assert executor.call("HEARTBEAT", other.token).status == 202


def test_row_12_unknown_ids_come_before_claims_and_claims_before_the_subscription(agent: AgentUnderTest) -> None:
    executor, other = Executor(agent, "shim"), Executor(agent, "shim2")
    body = json_call("SUBSCRIBE", "unknown", "shim")
    assert ask(agent.port, body, f"Authorization: Bearer {executor.token}").body == "Framework cannot be found"
    assert "claim" in executor.call("UPDATE", other.token).body
    assert executor.call("UPDATE", executor.token).body == "Executor is not subscribed"


def test_row_12_token_of_an_earlier_run_is_403(agent: AgentUnderTest) -> None:
    first = Executor(agent, "e")
    os.kill(first.run.pid, signal.SIGKILL)
    agent.wait_ended("e")
    agent.launch(task_info("second", executor_id="e"))
    answer = first.call("SUBSCRIBE", first.token)
    assert answer.status == 403
    assert answer.body.endswith("does not contain a 'cid' claim with the correct active ContainerID")


def test_token_is_good_after_a_restart_and_missing_ones_come_before_recovery(agent: AgentUnderTest) -> None:
    executor = Executor(agent, "e")
    with executor.double as double:
        assert executor.call("SUBSCRIBE", executor.token).status == 200
        agent.end(signal.SIGKILL)
        agent.flags += ["--port", str(agent.port)]
        agent.start()
        assert challenge(executor.call("SUBSCRIBE")) == REALM
        answer = executor.call("SUBSCRIBE", executor.token)
        while answer.status == 503:
            answer = executor.call("SUBSCRIBE", executor.token)
        assert answer.status == 200
        assert challenge(executor.call("UPDATE")) == REALM
        assert double.framework_id == executor.run.framework_id


def test_not_enforced_any_token_or_none_will_do(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, "--jwt-secret-key", key_file(tmp_path)) as agent:
        executor = Executor(agent, "e")
        for token in (None, "abc", executor.token):
            assert executor.call("SUBSCRIBE", token).status == 200
            assert executor.call("UPDATE", token).status == 202


def test_no_key_no_token_and_the_frameworks_variable_wins(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        agent.launch(task_info("plain", executor_id="plain"))
        assert VARIABLE not in environment(agent.executor("plain").pid)
    (tmp_path / "keyed").mkdir()
    with AgentUnderTest(tmp_path / "keyed", "--jwt-secret-key", key_file(tmp_path)) as agent:
        task = task_info("own", executor_id="own")
        task.executor.command.environment.variables.add(name=VARIABLE, value="mine")
        agent.launch(task)
        assert environment(agent.executor("own").pid)[VARIABLE] == "mine"


def test_key_and_tokens_are_nowhere_but_in_environments(agent: AgentUnderTest) -> None:
    executor, other = Executor(agent, "e"), Executor(agent, "e2")
    for token in (executor.token, other.token, executor.token[:-2] + "AA", "abc"):
        executor.call("SUBSCRIBE", token)
        executor.call("UPDATE", token)
    signature = executor.token.rpartition(".")[2]
    agent.end(signal.SIGTERM)
    agent.start()
    agent.end(signal.SIGINT)
    texts = {str(agent.errors): agent.errors.read_bytes()}
    for top in (agent.work_dir, agent.run_dir):
        for directory, _, names in os.walk(top):
            for name in names:
                path = os.path.join(directory, name)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        texts[path] = file.read()
    assert len(texts) > 2
    assert executor.run.container_id.encode() in b"".join(texts.values())
    for secret in (KEY.strip(), signature):
        assert not [path for path, text in texts.items() if secret.encode() in text]
