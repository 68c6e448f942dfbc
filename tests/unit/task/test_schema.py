"""JSON into the contract: coercion, null, unknown fields, hostile documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesos.v1 import mesos_pb2
from services.common.task import InvalidTask, load, parse_json, referenced_ports
from services.common.task.offline import examine

if TYPE_CHECKING:
    from collections.abc import Callable

A: dict[str, Any] = {"name": "a", "cmdline": "true"}


def refusal(data: bytes | str) -> str:
    with pytest.raises(InvalidTask) as caught:
        parse_json(data)
    return str(caught.value)


def test_numbers_and_booleans_may_be_strings() -> None:
    document = {"processes": [A | {"max_failures": " 5", "daemon": "True", "min_duration": 7.0, "final": 0}]}
    process = parse_json(json.dumps(document))[0].task.processes[0]
    assert (process.max_failures, process.daemon, process.min_duration, process.final) == (5, True, 7, False)
    config = {"task": {"processes": [A]}, "health_check_config": {"interval_secs": "2.5"}}
    assert parse_json(json.dumps(config))[0].health_check_config.interval_secs == 2.5


def test_null_is_unset_and_defaults_are_the_contracts() -> None:
    document = {"processes": [A | {"max_failures": None, "logger": None}], "user": None, "constraints": None}
    task = parse_json(json.dumps(document))[0].task
    assert not task.processes[0].HasField("max_failures")
    assert (task.processes[0].max_failures, task.processes[0].min_duration, task.finalization_wait) == (1, 5, 30)
    assert not task.processes[0].HasField("logger")


def test_an_initial_interval_of_null_is_told_from_an_absent_one() -> None:
    base: dict[str, Any] = {"task": {"processes": [A]}}
    null = parse_json(json.dumps(base | {"health_check_config": {"initial_interval_secs": None}}))[0]
    absent = parse_json(json.dumps(base | {"health_check_config": {}}))[0]
    assert null.health_check_config.initial_interval_null
    assert not absent.health_check_config.initial_interval_null
    assert absent.HasField("health_check_config")


def test_unknown_fields_are_accepted_everywhere_and_listed() -> None:
    document = {
        "task": {"processes": [A | {"logger": {"x": 1}, "y": {"deep": []}}], "constraints": [{"z": None}]},
        "service": True,
        "announce": {"zk_path": "/x", "z": 1},
        'we"ird\n': 1,
    }
    document["task"]["constraints"][0]["order"] = ["a"]  # type: ignore[index]
    assert parse_json(json.dumps(document))[1] == (
        "task.processes[0].logger.x: unknown field, ignored",
        "task.processes[0].y: unknown field, ignored",
        "task.constraints[0].z: unknown field, ignored",
        "announce.z: unknown field, ignored",
        '"we\\"ird\\n": unknown field, ignored',
    )


def test_a_bare_task_may_have_a_health_check_beside_it() -> None:
    task, warnings = parse_json(json.dumps({"processes": [A], "health_check_config": {"interval_secs": 1}}))
    assert task.health_check_config.interval_secs == 1
    assert warnings == ()


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ('{"processes": {}}', "processes: must be a list, not an object"),
        ('{"processes": [7]}', "processes[0]: must be an object, not a number"),
        ('{"processes": [null]}', "processes[0]: must be an object, not null"),
        ('{"processes": [{"name": 5, "cmdline": ""}]}', "processes[0].name: must be a string, not a number"),
        ('{"processes": [{"name": "a", "cmdline": true}]}', "processes[0].cmdline: must be a string, not true"),
        ('{"processes": [{"name": "a", "cmdline": "\\ud800"}]}', "must be valid Unicode"),
        ('{"processes": [{"name": "a", "cmdline": "", "daemon": 2}]}', "must be true or false, not a number"),
        ('{"processes": [{"name": "a", "cmdline": "", "max_failures": 1.5}]}', "without a fraction"),
        ('{"processes": [{"name": "a", "cmdline": "", "max_failures": true}]}', "must be a whole number, not true"),
        (
            '{"processes": [{"name": "a", "cmdline": "", "max_failures": "1_0"}]}',
            "must be a whole number, not a string",
        ),
        ('{"processes": [{"name": "a", "cmdline": "", "max_failures": NaN}]}', "must be a whole number from"),
        ('{"processes": [{"name": "a", "cmdline": "", "max_failures": 2147483648}]}', "must be a whole number from"),
        (
            '{"processes": [{"name": "a", "cmdline": "", "max_failures": 1' + "0" * 9000 + "}]}",
            "must be a whole number",
        ),
        ('{"processes": [{"name": "a", "cmdline": "", "resources": {"cpu": 1e999}}]}', "must be a finite number"),
        (
            '{"processes": [{"name": "a", "cmdline": "", "resources": {"cpu": "inf"}}]}',
            "must be a number, not a string",
        ),
        ('{"processes": [{"name": "a", "name": "b", "cmdline": ""}]}', "processes[0].name: is given twice"),
        ('{"processes": [{"name": "a", "cmdline": ""}], "processes": []}', "processes: is given twice"),
        (
            '{"task": {"processes": [{"name": "a", "cmdline": ""}]}, "announce": {"portmap": {"a": [1]}}}',
            "portmap.a: must be",
        ),
        ("[]", "the task must be a JSON object"),
        ("{}", "must have `processes` (a task) or `task` (a job)"),
        ("", "the task is empty"),
        ("{", "the task is not JSON: line 1 column 2"),
        ("[" * 100_000, "nested too deeply"),
        ('{"processes": [], "x": ' + '{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(text: str, violation: str) -> None:
    assert violation in refusal(text)


def test_bytes_that_are_not_utf8_are_refused() -> None:
    assert refusal(b'{"processes": "\xff"}') == "the task is not UTF-8: byte 15"


def test_a_document_that_is_too_large_is_refused_before_it_is_parsed() -> None:
    assert "at most 19922944 are accepted" in refusal(b" " * (19 << 20) + b"{}")


def test_a_consequence_of_a_violation_is_not_reported_again() -> None:
    text = '{"processes": [{"name": 1, "cmdline": 2}], "constraints": [{"order": ["a"]}]}'
    assert refusal(text).count(";") == 1


# How long an example takes says nothing where other tests run beside it.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["name", "cmdline", "order"]), inner),
    max_leaves=20,
)
# Documents that look like tasks, so that generated values get past the first rule.
KEYS = ["name", "cmdline", "max_failures", "daemon", "logger", "min_duration", "resources", "final", "ephemeral"]
# Texts with references to everything that there is, and to what there is not.
REFERENCES = ["{{name}}", "{{user}}", "{{role}}", "{{cmdline}}", "{{resources.cpu}}", "{{mesos.instance}}", "{{x", "}}"]
REFERRING = st.lists(st.sampled_from([*REFERENCES, "{{thermos.ports[a]}}", "{{{thermos.user}}}", "a"])).map("".join)
TEXT = st.text() | REFERRING
PROCESS = st.dictionaries(st.sampled_from(KEYS), JSON) | st.fixed_dictionaries({"name": TEXT, "cmdline": TEXT})
LIFECYCLE = JSON | st.fixed_dictionaries(
    {"http": JSON | st.fixed_dictionaries({"port": TEXT, "shutdown_endpoint": TEXT, "shutdown_wait_secs": JSON})}
)
TASK = st.fixed_dictionaries(
    {"processes": st.lists(PROCESS) | JSON},
    optional={
        "constraints": JSON | st.lists(st.fixed_dictionaries({"order": st.lists(st.text() | JSON)})),
        "max_failures": JSON,
        "user": JSON | TEXT,
        "health_check_config": JSON,
        "lifecycle": LIFECYCLE,
        "announce": JSON | st.fixed_dictionaries({"portmap": st.dictionaries(st.text(), st.text())}),
    },
)
JOB = st.fixed_dictionaries(
    {"task": TASK | JSON},
    optional={
        "instance": JSON,
        "role": JSON | TEXT,
        "name": TEXT,
        "environment": TEXT,
        "health_check_config": JSON,
        "lifecycle": LIFECYCLE,
    },
)


def attempted(attempt: Callable[[], object]) -> list[str] | None:
    """Violations of an attempt that was refused; any other error is a failed test."""
    try:
        attempt()
    except InvalidTask as invalid:
        return invalid.violations
    return None


@PATIENT
@given(JSON | TASK | JOB)
def test_any_json_is_a_task_or_an_invalid_task(document: object) -> None:
    data = json.dumps(document).encode()
    info = mesos_pb2.TaskInfo(name="n", data=data)
    for attempt in (lambda: referenced_ports(parse_json(data)[0]), lambda: load(info, hostname="h")):
        violations = attempted(attempt)
        assert violations is None or (violations and "; ".join(violations).encode())
    # Looked at without an agent, a task has no violation that it would not have with one.
    examined = examine(data, {})
    assert bool(examined.violations) is (examined.loaded is None)
    if examined.violations:
        assert attempted(lambda: load(info, hostname="h"))


@PATIENT
@given(st.binary())
def test_any_bytes_are_a_task_or_an_invalid_task(data: bytes) -> None:
    with pytest.raises(InvalidTask):
        load(mesos_pb2.TaskInfo(data=data), hostname="h")


NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9 _$-]{0,8}", fullmatch=True), min_size=1, max_size=6, unique=True)


@st.composite
def valid_tasks(draw: st.DrawFn) -> dict[str, Any]:
    """Valid by construction: orders follow the list, and nothing waits for a daemon or an ephemeral."""
    names = draw(NAMES)
    small = st.integers(0, 1000)
    processes = [
        {
            "name": name,
            "cmdline": draw(st.text(st.characters(codec="utf-8", exclude_characters="\0{}"), max_size=30)),
            "max_failures": draw(small),
            "min_duration": draw(small),
            "logger": {"destination": draw(st.sampled_from(["file", "both"])), "rotate": {"backups": 1 + draw(small)}},
        }
        for name in names
    ]
    orders = [sorted(order, key=names.index) for order in draw(st.lists(st.sets(st.sampled_from(names), min_size=1)))]
    return {
        "processes": processes,
        "constraints": [{"order": order} for order in orders],
        "max_concurrency": draw(small),
    }


@PATIENT
@given(valid_tasks())
def test_a_valid_task_comes_back_as_it_was_written(document: dict[str, Any]) -> None:
    task, warnings = parse_json(json.dumps(document))
    assert warnings == ()
    written = json_format.MessageToDict(task.task, preserving_proto_field_name=True)
    again, _ = parse_json(json.dumps(written))  # 64-bit numbers are strings in protobuf's JSON: coerced
    assert again == task
    assert [p["name"] for p in written["processes"]] == [p["name"] for p in document["processes"]]
    assert [p.get("cmdline", "") for p in written["processes"]] == [p["cmdline"] for p in document["processes"]]
    assert load(mesos_pb2.TaskInfo(data=json.dumps(document).encode()), hostname="h").task == task
