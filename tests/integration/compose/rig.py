"""What docker-compose.yml runs, read without a YAML library: the forms that it uses, and an error for others."""

from __future__ import annotations

import json
import pathlib
import re
import textwrap

CHECKOUT = pathlib.Path(__file__).parents[3]
FILE = CHECKOUT / "docker-compose.yml"
SERVICES = ("runner", "health", "reporter")
SOCKETS = "/run/trivet"
STATE = "/var/lib/trivet"


def text() -> str:
    """The file without its comments."""
    return re.sub(r"(?m)^ *#.*\n", "", FILE.read_text())


def command(service: str) -> list[str]:
    """Argument list of the service's container."""
    return _list(_section(service), "command")


def probe(service: str) -> list[str]:
    """Argument list of the service's health check, without CMD."""
    kind, *argv = _list(_section(service), "test")
    assert kind == "CMD", kind
    return argv


def entrypoint(service: str) -> list[str]:
    """What the arguments of `docker compose run` are given to."""
    return _list(_section(service), "entrypoint")


def _section(service: str) -> str:
    found = re.search(rf"(?m)^  {service}:\n((?:    .*\n|\n)+)", text())
    assert found, f"{FILE}: no service {service}"
    return found[1]


def _list(section: str, key: str) -> list[str]:
    found = re.search(rf"(?m)^ +{key}: (\[.*\])$", section)
    assert found, f"{FILE}: {key} is not a list on one line"
    blocks = re.findall(r"(?m)^x-\w+: &(\w+) \|\n((?:  .*\n)+)", text())
    line = found[1]
    for name, block in blocks:
        line = line.replace(f"*{name}", json.dumps(textwrap.dedent(block)))
    words: list[str] = json.loads(line)
    return words
