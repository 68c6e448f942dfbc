"""Before anything is started: the task, its ports, its TaskInfo, its directory."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile

import pytest

from mesos.v1 import mesos_pb2
from services.cli.arguments import parse
from services.cli.layout import Layout, LayoutError, find_services, temporary
from services.cli.ports import assign
from services.cli.prepare import CannotStart, Prepared, prepare
from services.cli.taskinfo import command_task, current_user, executor_argv, framework
from services.common.task import load

EXAMPLES = pathlib.Path(__file__).parents[3] / "examples"


def prepared(*argv: str) -> Prepared:
    return prepare(parse(["run", *argv]), "/run/trivet")


def refused(*argv: str) -> list[str]:
    with pytest.raises(CannotStart) as caught:
        prepared(*argv)
    return caught.value.lines


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_every_example_is_a_valid_task_without_a_warning(example: pathlib.Path) -> None:
    assert prepared(str(example)).warnings == ()


def test_a_command_becomes_a_task_of_one_process() -> None:
    loaded = load(prepared("--", "/bin/echo", "a b", "$HOME").info, hostname="h")
    (process,) = loaded.task.task.processes
    assert (loaded.name, process.name, process.cmdline) == ("echo", "echo", "/bin/echo 'a b' '$HOME'; exit $?")


@pytest.mark.parametrize("program", ["/", "..", ".hidden", "x" * 300, "é" * 200])
def test_a_command_whose_name_is_no_process_name_gets_one(program: str) -> None:
    info = mesos_pb2.TaskInfo(data=command_task([program]))
    assert load(info, hostname="h").name


def test_violations_come_one_a_line(tmp_path: pathlib.Path) -> None:
    task = tmp_path / "task.json"
    task.write_text(json.dumps({"processes": [{"name": "a"}, {"name": "b", "cmdline": "{{x}}"}], "max_failures": -1}))
    assert refused(str(task)) == ["processes[0].cmdline: is required", "max_failures: must not be negative, is -1"]
    task.write_text(json.dumps({"processes": [{"name": "b", "cmdline": "{{x}}"}]}))
    assert refused(str(task)) == ['processes[0].cmdline: "x" is not a variable']


def test_a_file_that_is_not_there_is_named_and_a_command_is_recognised(tmp_path: pathlib.Path) -> None:
    assert refused(str(tmp_path / "no")) == [f"{tmp_path}/no: No such file or directory"]
    assert refused("ls") == ["ls: No such file or directory (to run it as a command: trivet run -- ls)"]
    assert refused(str(tmp_path)) == [f"{tmp_path}: Is a directory"]


def test_referenced_ports_are_assigned_and_given_ones_kept(tmp_path: pathlib.Path) -> None:
    task = tmp_path / "task.json"
    cmdline = "{{thermos.ports[http]}} {{thermos.ports[admin]}}"
    task.write_text(json.dumps({"processes": [{"name": "a", "cmdline": cmdline}]}))
    ready = prepared(str(task), "--port", "http:8080", "--port", "extra:9")
    assert set(ready.ports) == {"http", "admin", "extra"}
    assert (ready.ports["http"], ready.ports["extra"]) == (8080, 9)
    assert load(ready.info, hostname="h").task.task.processes[0].cmdline == f"8080 {ready.ports['admin']}"
    (resource,) = ready.info.resources
    assert resource.name == "ports"
    assert sorted(r.begin for r in resource.ranges.range) == sorted(ready.ports.values())


def test_assigned_ports_differ_from_each_other() -> None:
    ports = assign([f"p{n}" for n in range(50)], {"given": 1})
    assert len(set(ports.values())) == 51


def test_the_task_info_is_what_a_framework_would_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/a:/b")
    first, second = prepared("--", "true"), prepared("--", "true")
    assert first.info.task_id.value != second.info.task_id.value
    info = mesos_pb2.TaskInfo.FromString(first.info.SerializeToString())
    assert not info.HasField("command")
    command = info.executor.command
    assert not command.shell
    assert list(command.arguments) == [*executor_argv(), "--services", "/run/trivet"]
    assert command.value == command.arguments[0]
    assert os.access(command.value, os.X_OK)
    assert command.user == current_user()
    assert [(v.name, v.value) for v in command.environment.variables] == [("PATH", "/a:/b")]
    assert framework().checkpoint
    assert [c.type for c in framework().capabilities] == [mesos_pb2.FrameworkInfo.Capability.PARTITION_AWARE]


@pytest.mark.parametrize("name", ["a b/c", "ü" * 100, "x" * 500, "..", "a\nb"])
def test_any_task_name_gives_a_task_id_that_mesos_takes(name: str, tmp_path: pathlib.Path) -> None:
    task = tmp_path / "task.json"
    task.write_text(json.dumps({"name": name, "processes": [{"name": "a", "cmdline": ""}]}))
    task_id = prepared(str(task)).info.task_id.value
    assert len(task_id) <= 100
    assert all(char.isascii() and (char.isalnum() or char in "-_") for char in task_id)


def test_a_directory_too_deep_for_sockets_is_refused_with_what_to_do(tmp_path: pathlib.Path) -> None:
    with pytest.raises(LayoutError, match="Use a directory with a shorter path"):
        Layout(str(tmp_path / ("d" * 100))).make()
    assert not list(tmp_path.iterdir())


def test_a_directory_that_just_fits_is_taken() -> None:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as short:
        # /run and the slash before the name, then the longest socket name of 28 bytes: 107 in all.
        root = os.path.join(short, "d" * (107 - 28 - 1 - len("/run") - len(short) - 1))
        Layout(root).make()
        with pytest.raises(LayoutError):
            Layout(root + "d").make()


def test_a_deep_tmpdir_is_replaced_by_tmp(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    layout = temporary()
    try:
        assert os.path.dirname(layout.root) == "/tmp"
    finally:
        layout.remove()


def test_running_services_are_found_in_their_run_directory_or_above_it(tmp_path: pathlib.Path) -> None:
    with pytest.raises(LayoutError, match=r"there is no runner\.sock here"):
        find_services(str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "runner.sock").touch()
    assert find_services(str(tmp_path)) == str(tmp_path / "run")
    assert find_services(str(tmp_path / "run")) == str(tmp_path / "run")


def test_what_is_removed_after_a_good_run_is_not_the_sandbox() -> None:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as root:
        layout = Layout(root)
        layout.make()
        layout.remove_all_but_sandboxes()
        assert os.listdir(root) == ["agent"]
