"""The containers themselves: built, started, looked at and used. Needs a Docker daemon, skipped where none answers."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.compose import rig as compose

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILD_SECS = 900.0
SECS = 120.0
# Its own project and image: containers and image of a stack that is in use are left alone.
PROJECT = f"trivet-test-{os.getpid()}"
IMAGE = f"{PROJECT}:latest"
COMPOSE = ["docker", "compose", "--project-name", PROJECT, "--file", str(compose.FILE)]
ENVIRONMENT = os.environ | {"TRIVET_IMAGE": IMAGE}

# The task waits at a gate, the test opens it.
WAITING = "mkfifo /tmp/gate && cat /tmp/gate"
OPEN = "until [ -p /tmp/gate ]; do sleep 0.05; done; echo go > /tmp/gate"


def _missing(argv: list[str]) -> str | None:
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=SECS, check=False)
    except FileNotFoundError:
        return f"{argv[0]}: not found"
    return None if answer.returncode == 0 else (answer.stderr.strip().splitlines() or ["no reason given"])[0]


def call(*argv: str, secs: float = SECS) -> str:
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=secs, env=ENVIRONMENT, check=False)
    assert answer.returncode == 0, f"{argv}: {answer.stdout}\n{answer.stderr}"
    return answer.stdout


@pytest.fixture(scope="module")
def client() -> None:
    """`docker compose`; no daemon is needed to read a file."""
    if why := _missing(["docker", "compose", "version"]):
        pytest.skip(f"*** docker-compose.yml NOT READ: no `docker compose`: {why} ***")


@pytest.fixture(scope="module")
def stack(client: None) -> Iterator[None]:
    """The services of the compose file, healthy."""
    if why := _missing(["docker", "info"]):
        pytest.skip(f"*** docker-compose.yml NOT RUN: no Docker daemon: {why} ***")
    try:
        call(*COMPOSE, "up", "--detach", "--build", "--wait", secs=BUILD_SECS)
        yield
    finally:
        # With its profile: the command's network and volume go as well.
        call(*COMPOSE, "--profile", "run", "down", "--volumes", "--remove-orphans", "--rmi", "all", "--timeout", "5")


def inspected(service: str) -> dict[str, Any]:
    container = call(*COMPOSE, "ps", "--quiet", service).strip()
    answer: list[dict[str, Any]] = json.loads(call("docker", "inspect", container))
    return answer[0]


def test_compose_understands_the_file_as_these_tests_do(client: None) -> None:
    read = json.loads(call(*COMPOSE, "--profile", "run", "config", "--format", "json"))["services"]
    assert read.keys() == {*compose.SERVICES, "trivet"}
    for service in compose.SERVICES:
        assert read[service]["command"] == compose.command(service)
        assert read[service]["healthcheck"]["test"] == ["CMD", *compose.probe(service)]
    assert read["trivet"]["entrypoint"] == compose.entrypoint("trivet")


@pytest.mark.parametrize("service", compose.SERVICES)
def test_a_service_has_its_own_container_and_no_privileges(stack: None, service: str) -> None:
    found = inspected(service)
    host = found["HostConfig"]
    assert found["State"]["Health"]["Status"] == "healthy"
    assert (host["Privileged"], host["PidMode"], host["CapAdd"], host["CapDrop"]) == (False, "", None, ["ALL"])
    assert (host["ReadonlyRootfs"], host["NetworkMode"]) == (True, "none")
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    states = "grep -hE '^(Uid|CapEff|NoNewPrivs):' /proc/1/status"
    assert call(*COMPOSE, "exec", "-T", service, "sh", "-c", states).split() == [
        *("Uid:", "10001", "10001", "10001", "10001"),
        *("CapEff:", "0000000000000000"),
        *("NoNewPrivs:", "1"),
    ]
    mounts = {mount["Destination"]: mount["Name"] for mount in found["Mounts"]}
    assert mounts == {compose.SOCKETS: f"{PROJECT}_sockets", compose.STATE: f"{PROJECT}_{service}-state"}


def test_an_example_runs_to_its_end(stack: None) -> None:
    argv = ["run", "--rm", "-T", "trivet", "run", "--services", compose.SOCKETS, "--output", "json"]
    lines = call(*COMPOSE, *argv, "examples/pipeline.json").splitlines()
    assert json.loads(lines[-1])["state"] == "TASK_FINISHED"


def test_a_running_task_is_not_disturbed_by_a_restart_of_the_runners_container(stack: None) -> None:
    name = f"{PROJECT}-task"
    argv = ["run", "--rm", "-T", "--name", name, "trivet", "run", "--services", compose.SOCKETS, "--output", "json"]
    task = subprocess.Popen(
        [*COMPOSE, *argv, "--", "sh", "-c", WAITING], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        assert task.stdout is not None
        events = []
        for line in task.stdout:
            events.append(json.loads(line))
            if events[-1]["type"] == "process" and events[-1]["state"] == "RUNNING":
                break
        start = ["docker", "exec", name, "cut", "-d ", "-f1,22", f"/proc/{events[-1]['pid']}/stat"]
        before = (call(*start), inspected("runner")["State"]["StartedAt"])
        call(*COMPOSE, "restart", "runner")
        call(*COMPOSE, "up", "--detach", "--wait", "--no-build", "--no-recreate")
        after = (call(*start), inspected("runner")["State"]["StartedAt"])
        assert after[0] == before[0]
        assert after[1] != before[1]
        call("docker", "exec", name, "sh", "-c", OPEN)
        out, _ = task.communicate(timeout=SECS)
        events += [json.loads(line) for line in out.splitlines()]
    finally:
        if task.poll() is None:
            call("docker", "rm", "--force", name)
            task.communicate(timeout=SECS)
    assert [event["state"] for event in events if event["type"] == "status"] == [
        "TASK_STARTING",
        "TASK_RUNNING",
        "TASK_FINISHED",
    ]
    assert {event["run"] for event in events if event["type"] == "process"} == {0}
    assert task.returncode == 0
