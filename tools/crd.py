"""Writes deploy/base/crd.yaml from the protos, or says that it is stale.

python -m tools.crd            write it
python -m tools.crd --check    exit 1 unless it is what would be written
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from controller.crd import crd

_ROOT = Path(__file__).resolve().parents[1]
TARGET = _ROOT / "deploy" / "base" / "crd.yaml"
_HEAD = "# Generated from protos/ and controller/crd_rules.py by `make crd`.\n"


def descriptors() -> FileDescriptorSet:
    """Return the protos with their comments. Raises CalledProcessError when buf refuses them."""
    # The generated Python code has no comments.
    buf = Path(sys.executable).parent / "buf"
    command = [buf, "build", "--output", "-#format=binpb"]
    built = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    return FileDescriptorSet.FromString(built.stdout)


def text() -> str:
    """Return what the file must hold. Raises CalledProcessError when buf refuses the protos."""
    return _HEAD + yaml.dump(crd(descriptors()), Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    """Spells equal parts out: the API server reads anchors, people would rather not."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    wanted = text()
    if not parser.parse_args().check:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(wanted)
        return 0
    if not TARGET.is_file() or TARGET.read_text() != wanted:
        print(f"{TARGET.relative_to(_ROOT)} is stale: run make crd", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
