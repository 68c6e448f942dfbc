"""Faults on calls, with real sockets."""

from __future__ import annotations

import gzip
import itertools
import time
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.local_agent.executor_double import Connection
from tests.integration.local_agent.faults_control import FaultControl, RunningTask, until
from tests.integration.local_agent.rig import AgentUnderTest
from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

Event = executor_pb2.Event
Call = executor_pb2.Call
NOT_RECOVERED = "Agent has not finished recovery"
_IDS = itertools.count()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    with AgentUnderTest(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def faults(agent: AgentUnderTest) -> Iterator[FaultControl]:
    control = FaultControl(agent)
    yield control
    control.remove()


@pytest.fixture
def task(agent: AgentUnderTest, faults: FaultControl) -> Iterator[RunningTask]:
    running = RunningTask(agent, f"t{next(_IDS)}")
    yield running
    faults.remove()
    running.close()


def test_refused_calls_are_not_seen_by_the_agent(task: RunningTask, faults: FaultControl) -> None:
    faults.add("update refuse=503 times=2")
    status = task.status("refused, refused, taken")
    answers = [task.executor.update(status) for _ in range(3)]
    assert answers == [(503, NOT_RECOVERED), (503, NOT_RECOVERED), (202, "")]
    assert task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == status.uuid
    assert [seen.uuid for seen in task.seen()] == [status.uuid]
    [fault] = faults.list()
    assert (fault.matches, fault.strikes, fault.used_up) == (2, 2, True)


@pytest.mark.parametrize(("status", "text"), [(418, "418 I'm a Teapot."), (599, "599."), (404, "404 Not Found.")])
def test_any_error_status_has_a_text(task: RunningTask, faults: FaultControl, status: int, text: str) -> None:
    faults.add(f"update refuse={status} times=1")
    assert task.executor.update(task.status()) == (status, text)
    faults.add(f"update refuse={status} body='own words'")
    assert task.executor.update(task.status()) == (status, "own words")


def test_refusal_honours_connection_close(task: RunningTask, faults: FaultControl) -> None:
    faults.add("update refuse=503")
    connection = Connection(task.agent.port)
    connection.post(task.update_call(), "Connection: close")
    assert connection.head() == (503, NOT_RECOVERED)
    assert connection.ended()
    connection.socket.close()


def test_delayed_call_holds_up_what_follows_on_its_connection_only(task: RunningTask, faults: FaultControl) -> None:
    faults.add("update delay=250ms times=1")
    begin = time.monotonic()
    slow = task.post(task.update_call("slow"))
    slow.post(task.executor.call(Call.HEARTBEAT))
    # The second may wait unread: nothing more is taken from a connection that is held up.
    faults.wait_held(1)
    assert task.executor.ask(task.executor.call(Call.HEARTBEAT)) == (202, "")
    assert slow.head() == (202, "")
    assert time.monotonic() - begin >= 0.25
    assert slow.head() == (202, "")
    slow.socket.close()
    assert [status.message for status in task.seen()] == ["slow"]


def test_held_call_is_handled_when_the_fault_goes(task: RunningTask, faults: FaultControl) -> None:
    held = faults.add(f"update hold task={task.task_id} times=1")
    waiting = task.post(task.update_call("held"))
    waiting.post(task.executor.call(Call.HEARTBEAT))
    faults.wait_held(1)
    assert not readable(waiting.socket, 0)
    assert task.executor.update(task.status("not held"))[0] == 202
    assert faults.remove(held) == [held]
    assert [waiting.head(), waiting.head()] == [(202, ""), (202, "")]
    assert [status.message for status in task.seen()] == ["not held", "held"]
    waiting.socket.close()


def test_held_call_is_handled_even_if_its_sender_has_given_up(task: RunningTask, faults: FaultControl) -> None:
    faults.add("update hold times=1")
    waiting = task.post(task.update_call("late"))
    faults.wait_held(1)
    waiting.socket.close()
    assert [status.message for status in task.seen()] == []
    faults.remove()
    until(lambda: [status.message for status in task.seen()] == ["late"])


def test_held_call_is_handled_even_if_its_connection_is_known_to_be_lost(
    task: RunningTask, faults: FaultControl
) -> None:
    faults.add("update hold times=1")
    task.stream.post(task.update_call("late"))
    faults.wait_held(1)
    task.stream.socket.close()
    # The agent, which does not read there, learns of it by writing.
    until(lambda: not task.agent.kill(task.task_id).sent)
    faults.remove()
    assert [status.message for status in task.seen()] == ["late"]


def test_subscribe_that_is_held_until_its_sender_has_gone_leaves_no_stream(
    task: RunningTask, faults: FaultControl
) -> None:
    task.executor.disconnect()
    faults.add("subscribe hold")
    call = task.executor.call(Call.SUBSCRIBE)
    call.subscribe.unacknowledged_tasks.add().task_id.value = task.task_id
    call.subscribe.unacknowledged_tasks[0].name = "t"
    call.subscribe.unacknowledged_tasks[0].agent_id.value = "a"
    waiting = task.post(call)
    faults.wait_held(1)
    waiting.socket.close()
    faults.remove()
    # Subscribed or not by then, in the end nothing is written to a connection that is gone.
    until(lambda: not task.agent.kill(task.task_id).sent)


def test_lost_answer_means_the_call_was_handled(task: RunningTask, faults: FaultControl) -> None:
    faults.add("update lose times=1")
    call = task.update_call("handled")
    connection = task.post(call)
    assert connection.rest() == (b"", False)
    connection.socket.close()
    assert task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == call.update.status.uuid
    # What executors do: the same again.
    assert task.executor.ask(call) == (202, "")
    assert task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid == call.update.status.uuid
    assert [status.message for status in task.seen()] == ["handled"]


def test_lost_answer_to_subscribe_leaves_no_stream(task: RunningTask, faults: FaultControl) -> None:
    faults.add("subscribe lose times=1")
    with pytest.raises(ConnectionResetError):
        task.resubscribe()
    assert not task.agent.kill(task.task_id).sent
    assert task.resubscribe() == (200, "")
    task.executor.event(Event.SUBSCRIBED)
    assert task.agent.kill(task.task_id).sent
    task.executor.event(Event.KILL)


def test_duplicate_is_handled_twice_and_answered_once(task: RunningTask, faults: FaultControl) -> None:
    faults.add("update duplicate times=1")
    status = task.status("twice")
    assert task.executor.update(status) == (202, "")
    uuids = [task.executor.event(Event.ACKNOWLEDGED).acknowledged.uuid for _ in range(2)]
    assert uuids == [status.uuid] * 2
    refusal = task.executor.call(Call.MESSAGE)
    assert task.executor.ask(refusal)[0] == 400, "an answer too many would stand here"
    assert [seen.uuid for seen in task.seen()] == [status.uuid]


def test_duplicate_subscribe_ends_the_stream_that_it_was_given(task: RunningTask, faults: FaultControl) -> None:
    faults.add("subscribe duplicate times=1")
    assert task.resubscribe() == (200, "")
    task.executor.event(Event.SUBSCRIBED)
    assert task.stream.event() is None
    assert not task.agent.kill(task.task_id).sent
    assert task.resubscribe() == (200, "")
    task.executor.event(Event.SUBSCRIBED)


@pytest.mark.parametrize("reset", [False, True])
def test_cut_call_is_not_handled(task: RunningTask, faults: FaultControl, reset: bool) -> None:
    faults.add(f"update cut reset={str(reset).lower()} times=1")
    connection = task.post(task.update_call("cut"))
    assert connection.rest() == (b"", reset)
    connection.socket.close()
    assert task.seen() == []


def test_faults_for_others_do_not_strike(task: RunningTask, faults: FaultControl) -> None:
    for text in (
        "call=any refuse=500 executor=x",
        "update refuse=500 task=x",
        "subscribe refuse=500",
        "event=any lose task=x",
    ):
        faults.add(text)
    assert task.executor.update(task.status()) == (202, "")
    task.executor.event(Event.ACKNOWLEDGED)
    faults.add(f"call=any refuse=500 executor={task.executor.executor_id} task={task.task_id}")
    assert task.executor.ask(task.executor.call(Call.HEARTBEAT)) == (202, "")
    assert task.executor.update(task.status())[0] == 500


def test_calls_are_recognised_in_gzip_and_json(task: RunningTask, faults: FaultControl) -> None:
    faults.add(f"update refuse=500 executor={task.executor.executor_id}")
    packed = Connection(task.agent.port)
    packed.post_bytes(gzip.compress(task.update_call().SerializeToString()), "Content-Encoding: gzip")
    assert packed.head()[0] == 500
    packed.socket.close()
    json = (
        f'{{"type":"UPDATE","executor_id":{{"value":"{task.executor.executor_id}"}},"framework_id":{{"value":"f"}},'
        f'"update":{{"status":{{"task_id":{{"value":"t"}},"state":"TASK_RUNNING"}}}}}}'
    ).encode()
    plain = Connection(task.agent.port)
    head = f"POST /api/v1/executor HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(json)}\r\n\r\n"
    plain.socket.sendall(head.encode() + json)
    assert plain.head()[0] == 500
    plain.socket.close()


def test_call_that_cannot_be_read_is_struck_by_faults_for_all_calls_only(
    task: RunningTask, faults: FaultControl
) -> None:
    connection = Connection(task.agent.port)
    for text, status in (
        ("update refuse=500", 400),
        ("call=any refuse=501 task=t", 400),
        ("call=any refuse=502", 502),
    ):
        faults.add(text)
        connection.post_bytes(b"\xff\xff")
        assert connection.head()[0] == status
    connection.socket.sendall(b"GET /nowhere HTTP/1.1\r\n\r\n")
    assert connection.head() == (404, "404 Not Found."), "other paths are no calls"
    connection.socket.close()


def test_scheduler_sees_terminal_states_through_refusals(task: RunningTask, faults: FaultControl) -> None:
    faults.add("update refuse=503 times=1")
    finished = task.executor.status(task.task_id, mesos_pb2.TASK_FINISHED)
    assert [task.executor.update(finished)[0] for _ in range(2)] == [503, 202]
    assert task.agent.statuses(task.task_id, 1)[0].state == mesos_pb2.TASK_FINISHED
