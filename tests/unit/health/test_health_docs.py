"""docs/health.md: its examples are played, its metrics and commands are those that there are."""

from __future__ import annotations

import argparse
import json
import pathlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format

from mesos.v1 import mesos_pb2
from services.cli.arguments import parse
from services.cli.tasks.checkwords import verdict_words
from services.health import prometheus
from services.health.metrics import Counters
from services.health.service import add_options
from tests.unit.health.tasks import task_info, with_checks
from tests.unit.health.world import CHECKED, DriverDouble
from trivet.health.v1 import health_pb2 as pb
from trivet.health.v1 import health_pb2_grpc

if TYPE_CHECKING:
    from tests.unit.health.world import World

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "health.md").read_text()
ANSWERS: dict[str, dict[str, Any]] = {
    "success": {},
    "failure": {"http_status": 503, "body": b""},
    "transient": {"outcome": pb.PROBE_OUTCOME_TRANSIENT},
    "timeout": {"outcome": pb.PROBE_OUTCOME_TIMEOUT},
    "exit 0": {"exit": {"code": 0}},
    "exit 3": {"exit": {"code": 3}},
}
Row = tuple[str, str, str]


def examples() -> list[tuple[str, str, list[Row]]]:
    """Rule, configuration, and rows of each example."""
    found: list[tuple[str, str, list[Row]]] = []
    rule = config = ""
    for line in PAGE.splitlines():
        if match := re.fullmatch(r"### `(.*)`", line):
            rule = match[1]
        elif line.startswith("{"):
            config = line
        elif line == "| s | result | STATE |":
            found.append((rule, config, []))
        elif match := re.fullmatch(r"\| (\d+) \| ([a-z0-9 ]+) \| (.+) \|", line):
            found[-1][2].append((match[1], match[2], match[3]))
    return found


def info_of(rule: str, config: str) -> bytes:
    """The task that the example is about."""
    if rule == "check":
        return with_checks(task_info(), check=json_format.Parse(config, mesos_pb2.CheckInfo()))
    if rule == "mesos":
        return with_checks(task_info(), health=json_format.Parse(config, mesos_pb2.HealthCheck()))
    return task_info(json.loads(config), {"health": 31001})


def test_every_rule_has_an_example() -> None:
    assert [rule for rule, _, _ in examples()] == ["aurora-time"] * 3 + ["aurora-attempts", "mesos", "check"]
    assert all(len(rows) >= 3 for _, _, rows in examples())


@pytest.mark.parametrize(("rule", "config", "rows"), examples())
def test_the_examples_are_true(world: World, rule: str, config: str, rows: list[Row]) -> None:
    driver = DriverDouble(world)
    driver.attach()
    heard = driver.launch(info_of(rule, config))
    began = world.now
    for at, result, state in rows:
        world.run(began + float(at) - world.now)
        heard += driver.listen()
        probes = [message.probe for message in heard if message.HasField("probe")]
        assert len(probes) == 1, (at, probes)
        heard = driver.answer(probes[0], **ANSWERS[result])
        (check,) = world.book.shown()
        assert (check.rule, verdict_words(check)) == (rule, state), at


def test_every_metric_is_in_the_docs(world: World) -> None:
    driver = DriverDouble(world)
    driver.attach()
    driver.launch(CHECKED)
    body, _ = prometheus.render(prometheus.snapshot(Counters(), world.book.entries(), world.now), "")
    told = set(re.findall(r"(?m)^# TYPE (\S+)", body.decode()))
    assert told == set(re.findall(r"(?m)^\| `(trivet_health_\w+)` \|", PAGE))
    for name, labels in re.findall(r"(?m)^\| `(trivet_health_\w+)` \| ([^|]*) \|", PAGE):
        (first,) = [line for line in body.decode().splitlines() if re.match(rf"{name}(_count)?{{", line)][:1]
        assert set(re.findall(r"(\w+)=", first)) == set(re.findall(r"`(\w+)`", labels)), name


def test_every_call_is_in_the_docs() -> None:
    calls = set(re.findall(r"(?m)^\| `([A-Z][a-zA-Z]+)` \|", PAGE))
    methods = {name for name in vars(health_pb2_grpc.HealthCheckServiceServicer) if name[0].isupper()}
    assert calls == methods - {"Attach"}


def test_commands_and_flags_in_the_docs_exist() -> None:
    commands = re.findall(r"(?m)^    trivet ((?:health|snooze)\b.*?)(?: *#.*)?$", PAGE)
    assert len(commands) == 5
    for command in commands:
        parse(command.split())
    parser = argparse.ArgumentParser()
    add_options(parser)
    flags = re.findall(r"`trivet-health (--[a-z-]+) ([^`]+)`", PAGE)
    assert {flag for flag, _ in flags} == {"--aurora-rule", "--metrics-address"}
    for flag, value in flags:
        for each in value.split("|"):
            parser.parse_args([flag, each])


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"(?m)^#+ (.*)$", PAGE)
    }
    links = re.findall(r"\]\(#([^)]*)\)", PAGE)
    assert links
    assert set(links) <= headings
