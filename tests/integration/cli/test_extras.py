"""`trivet` without what `trivet[cli]` installs."""

from __future__ import annotations

import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

from services.cli.__main__ import OPTIONAL

ROOT = pathlib.Path(__file__).parents[3]
# Packages as they are imported.
MODULES = {
    "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection",
    "prometheus-client": "prometheus_client",
}


@pytest.mark.parametrize(
    "argv",
    [
        ["agent", "--work-dir", "w"],
        ["run", "--", "true"],
        ["up", "--dir", "u"],
        ["launch", "--agent", "a.sock", "--executor", "true"],
        ["watch", "--agent", "a.sock", "t1"],
    ],
)
def test_what_is_missing_is_named_with_its_remedy(tmp_path: pathlib.Path, argv: list[str]) -> None:
    program = f"""
import socket, sys
sys.modules.update(dict.fromkeys({sorted(OPTIONAL)!r}))
with socket.socket(socket.AF_UNIX) as agent:
    agent.bind("a.sock")
    agent.listen()
    from services.cli.__main__ import main
    sys.exit(main({argv!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT}/build/generated"},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(
        rf"trivet: `trivet {argv[0]}` needs more than is installed \(\w+\): pip install 'trivet\[cli\]'\n", done.stderr
    )


def test_every_package_of_the_extras_is_known() -> None:
    found = set()
    for text in importlib.metadata.requires("trivet") or []:
        match = re.match(r"([\w-]+)[^;]*; extra == '(services|agent|cli)'", text.replace('"', "'"))
        if match is not None and match[1] != "trivet":
            found.add(MODULES.get(match[1], match[1]))
    assert found == OPTIONAL
