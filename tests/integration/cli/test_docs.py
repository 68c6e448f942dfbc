"""docs/cli.md names commands and options that there are."""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
import sys

from services.cli.tasks import arguments as tasks

TEXT = (pathlib.Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def test_every_command_about_tasks_is_in_the_docs() -> None:
    assert set(re.findall(r"(?m)^\| `trivet ([a-z-]+)", TEXT)) == tasks.VERBS | {"validate"}


def test_the_options_in_the_docs_exist() -> None:
    for verb, line in re.findall(r"(?m)^\| `trivet ([a-z-]+)(.*)$", TEXT):
        said = subprocess.run(
            [sys.executable, "-m", "services.cli", verb, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
            assert option in said, (verb, option)


def test_the_commands_that_the_readme_says_to_have_no_json_are_those_without() -> None:
    readme = (pathlib.Path(__file__).parents[3] / "README.md").read_text()
    said = re.search(r"With `--json`, all but\s`(\w+)` and `(\w+)` print objects", readme)
    assert said is not None
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers()
    tasks.add(verbs)
    assert {verb for verb, each in verbs.choices.items() if "--json" not in each.format_help()} == set(said.groups())
