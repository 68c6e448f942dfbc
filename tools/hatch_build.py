"""Build hook: generates the Python code of `protos/`, so that none of it is committed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GenerateProtos(BuildHookInterface):  # type: ignore[misc, type-arg, unused-ignore]
    """Runs before wheels and editable installs; sdists carry `protos/` itself."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Writes `build/generated`; raises SystemExit with protoc's status when a proto is wrong."""
        if self.target_name == "sdist":
            return
        sys.path.insert(0, str(Path(self.root) / "tools"))
        import generate_protos  # type: ignore[import-not-found, unused-ignore]

        generate_protos.generate(Path(self.root))
        if version == "standard":
            # An editable install must not get copies: they would hide what is generated afterwards.
            for package in ("mesos", "trivet"):
                build_data["force_include"][f"build/generated/{package}"] = package
