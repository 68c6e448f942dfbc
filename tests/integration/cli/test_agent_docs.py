"""docs/local-agent.md says what there is: flags, commands, faults, calls."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from services.cli.orders import arguments as orders
from services.local_agent.faults import spec
from services.local_agent.testing import MesosAgent
from trivet.agent.v1 import agent_pb2, faults_pb2

DOCS = pathlib.Path(__file__).parents[3] / "docs" / "local-agent.md"
TEXT = DOCS.read_text()


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert match is not None
    return match[1]


def cells(text: str, column: int = 0) -> list[str]:
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row[column].strip("| ") for row in rows]


def help_of(*argv: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *argv, "--help"], capture_output=True, text=True, check=True
    ).stdout


def test_every_flag_is_in_the_docs_and_every_flag_of_the_docs_is_there() -> None:
    flags = set(re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+)", help_of("agent")))
    flags |= set(re.findall(r"(?m)^  --[a-z-]+, (--[a-z-]+)", help_of("agent")))
    documented = {flag for cell in cells(section("Flags of the agent")) for flag in re.findall(r"--[a-z-]+", cell)}
    assert documented == flags


def test_the_documented_choices_are_those_of_the_flags() -> None:
    choices = dict(re.findall(r"(--[a-z-]+) \{([\w,]+)\}", help_of("agent")))
    documented = dict(re.findall(r"`(--[a-z-]+) ([\w]+(?:\\\|\w+)+)`", section("Flags of the agent")))
    assert {flag: text.replace("\\|", ",") for flag, text in documented.items()} == choices


def test_every_command_is_in_the_docs() -> None:
    verbs = set(re.findall(r"(?m)^    ([a-z][a-z-]+)(?: |$)", help_of()))
    documented = {match for cell in cells(section("Commands")) for match in re.findall(r"`trivet ([a-z-]+)", cell)}
    # The others are about Trivet's own tasks and services.
    assert documented == orders.VERBS | {"agent", "kill"}
    assert documented <= verbs


def test_the_flags_of_commands_in_the_docs_exist() -> None:
    texts = {verb: help_of(verb) for verb in ("launch", "kill", "watch", "executors", "fault", "agent-restart")}
    everything = " ".join(texts.values()) + help_of("agent")
    rest = TEXT.replace(section("Flags of the agent"), "").replace(section("The pytest plugin"), "")
    for line in rest.splitlines():
        if "curl" in line or line.startswith("    -d"):
            continue
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
            assert flag in everything, flag


def test_every_fault_in_the_docs_is_one() -> None:
    found = [*re.findall(r"trivet fault add '([^']+)'", section("Faults")), "update refuse=503 times=3"]
    assert len(found) > 5
    for text in found:
        spec.parse(text)


def test_every_effect_target_and_name_is_in_the_docs() -> None:
    text = section("Faults")
    effects = {re.split(r"[=.` ]", cell.strip("`"))[0] for cell in cells(text)}
    fields = faults_pb2.Fault.DESCRIPTOR.oneofs_by_name["effect"].fields
    assert {field.name for field in fields} <= effects
    for name in ("executor", "task", "skip", "times", "probability", "id", "body", "reset", "after_bytes"):
        assert f"{name}=" in text or f"`{name}`" in text


def test_every_call_of_the_control_api_is_in_the_docs() -> None:
    services = (agent_pb2.DESCRIPTOR.services_by_name, faults_pb2.DESCRIPTOR.services_by_name)
    calls = {method.name for found in services for service in found.values() for method in service.methods}
    documented = {name for cell in cells(section("Control API")) for name in re.findall(r"`(\w+)`", cell)}
    assert documented == calls


def test_the_methods_of_the_plugin_in_the_docs_exist() -> None:
    names = set(re.findall(r"mesos_agent\.(\w+)", TEXT)) | {"launch_group", "acknowledge", "wait_message", "executors"}
    assert names <= set(dir(MesosAgent))


def test_the_buf_examples_work() -> None:
    buf = shutil.which("buf", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    if buf is None:
        pytest.skip("*** THE EXAMPLES WITH buf WERE NOT TRIED: there is no buf ***")
    commands = re.findall(r"(?m)^    (buf curl (?:.*\\\n)*.*)$", section("Control API"))
    assert len(commands) == 2
    with MesosAgent.start() as agent:
        agent.launch("true", task_id="t1").wait()
        for command in commands:
            words = shlex.split(command.replace("\\\n", " ").replace("/tmp/agent/", agent.work_dir + "/"))
            process = subprocess.Popen([buf, *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert process.stdout is not None
            line = process.stdout.readline()
            process.kill()
            _, errors = process.communicate()
            assert line.startswith("{"), errors
