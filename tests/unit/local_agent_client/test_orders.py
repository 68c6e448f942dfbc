"""What a scheduler sends, made from a few words."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent.client import orders
from services.local_agent.client.orders import InvalidOrder, Order

if TYPE_CHECKING:
    from pathlib import Path

    from mesos.v1 import mesos_pb2


def variables(info: mesos_pb2.TaskInfo) -> dict[str, str]:
    return {entry.name: entry.value for entry in info.executor.command.environment.variables}


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_whom_nobody_knows_by_name_is_called_by_number(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """As in a container of `docker run --user 4711`; KeyError up to Python 3.12, OSError later."""

    def nobody() -> str:
        raise error("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert orders.framework_info().user == str(os.getuid())


def test_a_text_is_split_as_a_shell_does_and_no_shell_is_involved() -> None:
    command = orders.task_info(Order(executor="prog --flag 'two words'")).executor.command
    assert (command.shell, command.value, list(command.arguments)) == (
        False,
        "prog",
        ["prog", "--flag", "two words"],
    )


def test_words_that_name_files_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "tool").touch()
    (tmp_path / "python3").touch()
    order = Order(executor="python3 mine.py --in=mine.py sub /etc/passwd -", directories=[str(tmp_path)])
    assert list(orders.task_info(order).executor.command.arguments) == [
        "python3",  # a program without a slash is found in PATH
        f"{tmp_path}/mine.py",
        "--in=mine.py",
        "sub",
        "/etc/passwd",
        "-",
    ]
    command = orders.task_info(Order(executor="./sub/tool", directories=["/nowhere", str(tmp_path)])).executor.command
    assert command.value == f"{tmp_path}/sub/tool"


def test_a_shells_text_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    order = Order(executor="exec ./mine.py | cat", shell=True, directories=[str(tmp_path)])
    command = orders.task_info(order).executor.command
    assert (command.shell, command.value, list(command.arguments)) == (True, "exec ./mine.py | cat", [])


def test_the_executor_gets_the_authors_path_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/mine/bin")
    assert variables(orders.task_info(Order(executor="x"))) == {"PATH": "/mine/bin"}
    told = Order(executor="x", environment={"PATH": "/bin", "A": "1"})
    assert variables(orders.task_info(told)) == {"PATH": "/bin", "A": "1"}


def test_made_up_ids_differ_and_say_what_they_are_for() -> None:
    infos = [orders.task_info(Order(executor="python3 my_executor.py -v")) for _ in range(2)]
    assert infos[0].task_id != infos[1].task_id
    assert infos[0].executor.executor_id != infos[1].executor.executor_id
    assert infos[0].task_id.value.startswith("my-executor-py-")
    named = orders.task_info(Order(executor="x", name="web/1 ü", task_id="t", executor_id="e"))
    assert (named.name, named.task_id.value, named.executor.executor_id.value) == ("web/1 ü", "t", "e")


@given(st.text(max_size=300), st.text(min_size=1, max_size=300))
def test_made_up_ids_are_ids_whatever_the_name(name: str, program: str) -> None:
    task_id = orders.task_info(Order(executor=[program], name=name)).task_id.value
    assert 0 < len(task_id.encode()) <= 255
    assert "/" not in task_id
    assert task_id.isprintable()


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        (Order(executor=""), "executor: nothing to execute"),
        (Order(executor=[]), "executor: nothing to execute"),
        (Order(executor="'"), 'executor: "\'": No closing quotation'),
        (Order(executor=["a", "b"], shell=True), "one string is needed for a shell"),
        (Order(executor="x", resources="cpus"), "resources: 'cpus': expected name:value"),
        (Order(executor="x", executor_resources="cpus:many"), "executor resources: 'cpus:many': expected a number"),
        (Order(executor="x", kill_grace=-1), "kill grace: -1 is not a time"),
        (Order(executor="x", shutdown_grace=float("nan")), "shutdown grace: nan is not a time"),
    ],
)
def test_what_is_wrong_is_named(order: Order, complaint: str) -> None:
    with pytest.raises(InvalidOrder) as caught:
        orders.task_info(order)
    assert complaint in str(caught.value)


def test_frameworks_that_differ_have_different_names() -> None:
    infos = [
        orders.framework_info(),
        orders.framework_info(checkpoint=False),
        orders.framework_info(capabilities=["PARTITION_AWARE"]),
        orders.framework_info(capabilities=[]),
        orders.framework_info(capabilities=[], checkpoint=False),
    ]
    assert len({info.name for info in infos}) == len(infos)
    assert orders.framework_info(capabilities=["PARTITION_AWARE", "MULTI_ROLE", "TASK_KILLING_STATE"]) == infos[0]
    with pytest.raises(InvalidOrder, match="capability 'UNKNOWN': there is no such thing; Mesos has GPU_RESOURCES"):
        orders.framework_info(capabilities=["UNKNOWN"])


def test_a_task_info_as_mesos_writes_it_is_read() -> None:
    info = orders.parse_task_info(
        json.loads('{"task_id": {"value": "t"}, "data": "aGk=", "kill_policy": {"grace_period": {"nanoseconds": 5}}}')
    )
    assert (info.name, info.data, info.kill_policy.grace_period.nanoseconds) == ("t", b"hi", 5)
    assert info.IsInitialized()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"task_id": {"value": "t"}, "taskName": 1}', "taskName"),
        ('{"task_id": {}}', "task_id.value: missing"),
        ('{"task_id": {"value": "t"}, "executor": {"executor_id": {}}}', "executor.executor_id.value: missing"),
        ('{"task_id": {"value": "t"}, "data": 7}', "data"),
    ],
)
def test_a_task_info_that_is_none_is_refused_by_field(text: str, complaint: str) -> None:
    with pytest.raises(InvalidOrder, match=complaint):
        orders.parse_task_info(json.loads(text))


def test_tasks_of_thermos_and_aurora_are_not_taken_for_task_infos() -> None:
    assert orders.is_task_info({"task_id": {"value": "x"}})
    others: list[object] = [[], "x", {"processes": [], "task_id": 1}, {"task": {}, "task_id": 1}, {"name": "x"}]
    for other in others:
        assert not orders.is_task_info(other)


def test_json_that_is_none_is_refused() -> None:
    for text in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(InvalidOrder, match="not JSON"):
            orders.read_json(text)
    assert orders.read_json(b"[1]") == [1]


def test_without_a_path_of_ones_own_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert "PATH" not in os.environ
    assert variables(orders.task_info(Order(executor="x"))) == {}
