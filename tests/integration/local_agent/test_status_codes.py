"""Status codes of the executor API on real sockets: one test for each row of the reference's table, in its order."""

from __future__ import annotations

import itertools
import re
import signal
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.wire import auth
from tests.integration.local_agent.executor_double import Connection, ExecutorDouble
from tests.integration.local_agent.raw_http import JSON, LONG, PROTOBUF, SHORT, ask, json_call, subscribed
from tests.integration.local_agent.rig import AgentUnderTest, task_info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = executor_pb2.Event
Call = executor_pb2.Call
TEXT = ("Content-Type", "text/plain; charset=utf-8")
HEARTBEAT = json_call("HEARTBEAT", "unused", "unused")
NUMBERS = itertools.count()
NOT_RECOVERED = "Agent has not finished recovery"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    directory: Path = tmp_path_factory.mktemp("agent")
    with AgentUnderTest(directory) as running:
        yield running


@pytest.fixture
def executor(agent: AgentUnderTest) -> Iterator[ExecutorDouble]:
    with subscribed(agent, f"e{next(NUMBERS)}") as double:
        yield double


def test_row_00_nobody_listens_after_the_agents_end(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path) as agent:
        agent.end(signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            Connection(agent.port)


@pytest.mark.parametrize("path", ["/slave(2)/api/v1/executor", "/executor", "/", "/slave(1)"])
def test_row_01_unknown_path_is_404(agent: AgentUnderTest, path: str) -> None:
    answer = ask(agent.port, HEARTBEAT, path=path)
    assert (answer.status, answer.headers, answer.body) == (404, [TEXT, ("Content-Length", "14")], "404 Not Found.")


def test_row_01_before_the_routes_are_installed_all_is_404(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    flags = ["--not-found-for", "1hrs", "--jwt-secret-key", str(key), "--authenticate-http-executors"]
    with AgentUnderTest(tmp_path, *flags) as agent:
        for method in ("POST", "GET"):
            answer = ask(agent.port, HEARTBEAT, method=method)
            assert (answer.status, answer.body) == (404, "404 Not Found.")


def test_row_02_03_token_comes_before_recovery_and_recovery_before_the_method(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    flags = ["--unavailable-for", "1hrs", "--jwt-secret-key", str(key), "--authenticate-http-executors"]
    bearer = f"Authorization: Bearer {auth.mint(b'k', container_id='c', executor_id='e', framework_id='f')}"
    with AgentUnderTest(tmp_path, *flags) as agent:
        without = ask(agent.port, HEARTBEAT)
        assert (without.status, without.body) == (401, "401 Unauthorized.")
        assert without.header("WWW-Authenticate") == 'Bearer realm="mesos-agent-executor"'
        for body, method in ((HEARTBEAT, "POST"), (b"", "POST"), (json_call("SUBSCRIBE", "f", "e"), "GET")):
            answer = ask(agent.port, body, bearer, method=method)
            assert (answer.status, answer.body) == (503, NOT_RECOVERED)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "post"])
def test_row_04_any_method_but_post_is_405(agent: AgentUnderTest, method: str) -> None:
    answer = ask(agent.port, HEARTBEAT, method=method)
    text = f"405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'."
    assert (answer.status, answer.body) == (405, text)
    assert answer.headers == [("Allow", "POST"), TEXT, ("Content-Length", str(len(text)))]


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("", HEARTBEAT, "Expecting 'Content-Type' to be present"),
        (JSON, b"", "Failed to parse body into JSON: syntax error at line 1 near: "),
        (JSON, b'{"type":"SUBSCRIBE",', "Failed to parse body into JSON: syntax error at line 1 near: "),
        (JSON, b"[]", "Failed to convert JSON into Call protobuf: Expecting a JSON object"),
        (
            JSON,
            b'{"executorId":{"value":"e"}}',
            "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id",
        ),
        (JSON, b'\xff{"\xfe', 'Failed to parse body into JSON: syntax error at line 1 near: \udcff{"\udcfe'),
        (PROTOBUF, HEARTBEAT, "Failed to parse body into Call protobuf"),
        (PROTOBUF, b"\n\x06\n\x04shim\x18\x01", "Failed to parse body into Call protobuf"),
    ],
)
def test_row_05_no_type_or_no_message_is_400(agent: AgentUnderTest, kind: str, body: bytes, text: str) -> None:
    answer = ask(agent.port, body, kind=kind)
    assert (answer.status, answer.body) == (400, text)


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "application/JSON", "text/plain", "application/x-protobuf ;v=1", "*/*"],
)
def test_row_06_any_other_content_type_is_415(agent: AgentUnderTest, kind: str) -> None:
    answer = ask(agent.port, b"garbage", kind=kind)
    text = "Expecting 'Content-Type' of application/json or application/x-protobuf"
    assert (answer.status, answer.body) == (415, text)


def test_row_07_invalid_call_is_400_with_the_reason(agent: AgentUnderTest) -> None:
    for members, text in (
        ({"type": "SUBSCRIBE"}, "Expecting 'subscribe' to be present"),
        ({"type": "UPDATE"}, "Expecting 'update' to be present"),
        ({"type": "MESSAGE"}, "Expecting 'message' to be present"),
        ({"type": "DANCE"}, "Expecting 'type' to be present"),
    ):
        body = json_call("", "no-such-framework", "e", **members)
        answer = ask(agent.port, body)
        assert (answer.status, answer.body) == (400, f"Failed to validate Executor::Call: {text}")


@pytest.mark.parametrize("accept", ["text/html", "application/recordio", "", "application/x-protobufs"])
def test_row_08_subscribe_without_a_type_that_is_known_is_406(executor: ExecutorDouble, accept: str) -> None:
    body = json_call("SUBSCRIBE", executor.framework_id, executor.executor_id)
    answer = ask(executor.port, body, f"Accept: {accept}")
    text = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"
    assert (answer.status, answer.body) == (406, text)
    # Only SUBSCRIBE looks at it.
    assert ask(executor.port, HEARTBEAT, f"Accept: {accept}").status == 202


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (f"{PROTOBUF}, {JSON}", JSON),
        (f"{PROTOBUF};q=1.0", PROTOBUF),
        (PROTOBUF, PROTOBUF),
    ],
)
def test_row_08_json_wins_whenever_it_is_acceptable(
    executor: ExecutorDouble, accept: str | None, expected: str
) -> None:
    headers = [] if accept is None else [f"Accept: {accept}"]
    body = json_call("SUBSCRIBE", executor.framework_id, executor.executor_id)
    answer = ask(executor.port, body, *headers)
    assert answer.headers == [("Transfer-Encoding", "chunked"), ("Content-Type", expected)]


def test_row_09_heartbeat_is_202_whatever_the_ids(agent: AgentUnderTest) -> None:
    answer = ask(agent.port, HEARTBEAT)
    assert (answer.status, answer.headers, answer.body) == (202, [("Content-Length", "0")], "")


def test_row_10_while_executors_come_back_there_is_subscribe_and_heartbeat_only(tmp_path: Path) -> None:
    with AgentUnderTest(tmp_path, "--executor-reregistration-timeout", "15secs") as agent:
        executor = subscribed(agent, "e")
        with executor:
            update = executor.call(Call.UPDATE)
            update.update.status.CopyFrom(executor.status("e", mesos_pb2.TASK_RUNNING))
            message = executor.call(Call.MESSAGE)
            message.message.data = b"x"
            executor.disconnect()
            agent.end(signal.SIGKILL)
            agent.flags += ["--port", str(agent.port)]
            agent.start()
            # Listening and the end of the containers' recovery are milliseconds apart.
            status, body = executor.subscribe(tasks=(task_info("e"),))
            while (status, body) == (503, NOT_RECOVERED):
                status, body = executor.subscribe(tasks=(task_info("e"),))
            assert status == 200
            executor.event(Event.SUBSCRIBED)
            assert executor.ask(update) == (503, NOT_RECOVERED)
            assert executor.ask(message) == (503, NOT_RECOVERED)
            assert executor.ask(executor.call(Call.HEARTBEAT)) == (202, "")


def test_row_11_unknown_ids_are_400(executor: ExecutorDouble) -> None:
    for framework_id, executor_id, text in (
        ("no-such-framework", executor.executor_id, "Framework cannot be found"),
        (executor.framework_id, "none", "Executor cannot be found"),
    ):
        for kind, members in (("SUBSCRIBE", {}), ("MESSAGE", {"message": {"data": "aGk="}})):
            answer = ask(executor.port, json_call(kind, framework_id, executor_id, **members))
            assert (answer.status, answer.body) == (400, text)


def test_row_13_calls_before_subscribe_are_403(agent: AgentUnderTest) -> None:
    launched = agent.launch(task_info("early", executor_id="early"))
    double = ExecutorDouble(agent.port, launched.framework_id, "early")
    with double:
        assert double.update(double.status("early", mesos_pb2.TASK_RUNNING)) == (403, "Executor is not subscribed")
        message = double.call(Call.MESSAGE)
        message.message.data = b"x"
        assert double.ask(message) == (403, "Executor is not subscribed")


@pytest.mark.parametrize("path", [LONG, SHORT, "/slave%281%29/api/v1/executor", f"{LONG}/"])
def test_row_14_subscribe_is_200_and_a_stream_by_every_path(executor: ExecutorDouble, path: str) -> None:
    body = json_call("SUBSCRIBE", executor.framework_id, executor.executor_id)
    answer = ask(executor.port, body, path=path)
    assert (answer.status, answer.headers) == (200, [("Transfer-Encoding", "chunked"), ("Content-Type", JSON)])


def test_row_15_update_and_message_are_202_without_a_body(executor: ExecutorDouble) -> None:
    assert executor.update(executor.status(executor.executor_id, mesos_pb2.TASK_RUNNING)) == (202, "")
    message = executor.call(Call.MESSAGE)
    message.message.data = b"x"
    assert executor.ask(message) == (202, "")


def test_row_16_type_unknown_is_501(executor: ExecutorDouble) -> None:
    answer = ask(executor.port, json_call("UNKNOWN", executor.framework_id, executor.executor_id, subscribe={}))
    assert (answer.status, answer.body) == (501, "501 Not Implemented.")


def test_every_row_has_a_test() -> None:
    rows = set(re.findall(r"(?<=_)\d\d(?=_)", " ".join(name for name in globals() if name.startswith("test_row_"))))
    elsewhere = {"12": "test_local_agent_auth", "17": "test_local_agent_socket"}
    assert rows | set(elsewhere) == {f"{row:02}" for row in range(18)}
