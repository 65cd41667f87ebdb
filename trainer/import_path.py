"""Where a program's modules are found, in a process that holds the service's own as well.

The service's packages have common names, `trainer` above all: Google's and Kubeflow's examples use
it for the user's own code. So whatever the program can import comes before them. Stdlib only.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

# Where the service's packages lie.
ROOT = Path(__file__).resolve().parents[1]
_OURS = ("controller", "protos", "serving", "taas", "trainer")


def begin_with(folder: str) -> None:
    """Order the import path as `python folder/program.py` has it, with the service's packages
    last, and keep those from the processes that the program starts."""
    variable = [e for e in os.environ.get("PYTHONPATH", "").split(os.pathsep) if not _is_root(e)]
    os.environ["PYTHONPATH"] = os.pathsep.join(variable)
    if not any(variable):
        del os.environ["PYTHONPATH"]
    # Python has made them absolute already, from the folder that this process began in.
    first = [folder, *(os.path.abspath(e) for e in variable if e)]
    rest = [e for e in sys.path if e not in first and not _is_root(e)]
    sys.path[:] = [*first, *rest, str(ROOT)]


def _is_root(entry: str) -> bool:
    return bool(entry) and Path(entry).resolve() == ROOT


@contextlib.contextmanager
def services_first() -> Iterator[None]:
    """Within, the service's packages are found whatever the program has."""
    sys.path.insert(0, str(ROOT))
    try:
        yield
    finally:
        sys.path.remove(str(ROOT))


def make_way(folders: Sequence[str]) -> None:
    """Let the program have modules of its own in these folders that are called as packages of the
    service. Call it when all of the service that this process needs has been imported.

    What the program's package of such a name lacks is still the service's, so that a task with a
    folder `trainer` can import `trainer.task`.
    """
    others = [folder for folder in folders if not _is_root(folder)]
    found = {name: spec for name in _OURS if (spec := PathFinder.find_spec(name, others))}
    if not found:
        return
    for name, spec in found.items():
        theirs = list(spec.submodule_search_locations or ())
        sys.modules.pop(name, None)
        for loaded in [m for m in sys.modules if m.startswith(f"{name}.")]:
            child = ".".join(loaded.split(".")[:2])
            if PathFinder.find_spec(child, theirs):
                del sys.modules[loaded]
        spec.submodule_search_locations = [*theirs, str(ROOT / name)]
    sys.meta_path.insert(0, _Theirs(found))


class _Theirs(MetaPathFinder):
    """Knows the program's modules that are called as packages of the service."""

    def __init__(self, found: Mapping[str, ModuleSpec]) -> None:
        self._found = found

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return self._found.get(fullname)
