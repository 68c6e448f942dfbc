"""Generates Python code and stubs from `protos/` into `build/generated`.

The path of a proto is the import path of its code, so that nothing has to be rewritten afterwards.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def generate(root: Path) -> None:
    """Replaces `root/build/generated`.

    Args:
        root: The checkout.

    Raises:
        SystemExit: protoc refused a file; it has printed why.
    """
    from grpc_tools import protoc

    protos = root / "protos"
    out = root / "build" / "generated"
    staging = root / "build" / "generated.new"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    files = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    with_services = [name for name in files if "service " in (protos / name).read_text()]
    status = protoc.main(
        ["protoc", f"-I{protos}", f"--python_out={staging}", f"--pyi_out={staging}", *files]
    ) or protoc.main(["protoc", f"-I{protos}", f"--grpc_python_out={staging}", *with_services])
    if status:
        raise SystemExit(status)
    shutil.rmtree(out, ignore_errors=True)
    staging.rename(out)


if __name__ == "__main__":
    generate(Path(__file__).resolve().parent.parent)
    sys.stdout.write("build/generated is up to date\n")
