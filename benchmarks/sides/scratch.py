"""The folders of a comparison, and the environment in which its sides are started."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.sides.pinning import HOOK

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples/mnist_lenet5"


@contextmanager
def prepared(files: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    """Yield a source folder with MNIST and these files under new names, and a scratch folder;
    pin what is started meanwhile."""
    with tempfile.TemporaryDirectory(prefix="taas-bench-") as folder:
        scratch, source = Path(folder), Path(folder) / "source"
        shutil.copytree(DEMO / "data", source / "data")
        for name, file in files.items():
            shutil.copy(file, source / name)
        (scratch / "hook").mkdir()
        (scratch / "hook/sitecustomize.py").write_text(HOOK)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{scratch / 'hook'}{os.pathsep}{ROOT}"
        try:
            yield source, scratch
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
