"""Where a script or command runs, and how what it leaves there reaches the job's output.

The chief runs in the job's storage, in a copy of the source that lasts as long as the job: what
the program writes beside itself survives the loss of its pod and is there again after a restart.
Every other worker runs in a copy of its pod's own, so that what N workers write alike is kept
once. When the chief's program has ended, each file that is new or changed is linked into the
output folder. Stdlib only.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trainer.storage import NO_DOCUMENT, JobPaths, read_small

# What Python leaves beside the modules that it imports is no result.
_NO_RESULTS = frozenset({"__pycache__"})


@dataclass
class _Index:
    """Size and time of change (ns) of each file of the source, and the paths of the files that
    were brought into the output folder; all relative to the working folder."""

    source: dict[str, list[int]] = field(default_factory=dict)
    collected: list[str] = field(default_factory=list)


def prepare_chief(paths: JobPaths, source: Path | None) -> Path:
    """Return the chief's working folder; made of `source` once a job. Raises OSError.

    Without a source it begins empty.
    """
    if paths.work_index.exists():
        return paths.work
    fresh = paths.work.with_name("work.new")
    for folder in (fresh, paths.work):
        shutil.rmtree(folder, ignore_errors=True)
    paths.folder.mkdir(parents=True, exist_ok=True)
    if source is None:
        fresh.mkdir()
    else:
        shutil.copytree(source, fresh)
    index = _Index(source={name: _state(fresh / name) for name in _files(fresh)})
    fresh.rename(paths.work)
    _write(paths, index)
    return paths.work


def collect(paths: JobPaths) -> None:
    """Bring what the program wrote in the chief's working folder into the output folder.

    Files that were brought before and are gone now go from there too; files that the program
    wrote into the output folder itself are never touched. Raises OSError.
    """
    index = _read(paths)
    before, after = set(index.collected), []
    for name in _files(paths.work):
        if index.source.get(name) == _state(paths.work / name):
            continue
        target = paths.output / name
        if name not in before and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        _bring(paths.work / name, target)
        after.append(name)
    for name in before.difference(after):
        (paths.output / name).unlink(missing_ok=True)
    _write(paths, _Index(index.source, sorted(after)))


def _files(folder: Path) -> Iterator[str]:
    """Yield the regular files below a folder, by relative path. Links are left out: they might
    lead anywhere."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _NO_RESULTS)
        for file in sorted(files):
            path = Path(parent, file)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _state(path: Path) -> list[int]:
    seen = path.stat()
    return [seen.st_size, seen.st_mtime_ns]


def _bring(file: Path, target: Path) -> None:
    """Put a file into place in one step: a second name of the same bytes where the file system
    has that, else a copy."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(file, part)
    except OSError:
        shutil.copy2(file, part)
    with suppress(FileNotFoundError):
        # A rename onto another name of the same file does nothing, and would leave the part.
        if target.samefile(part):
            part.unlink()
            return
    part.replace(target)


def _read(paths: JobPaths) -> _Index:
    """Read the index, which the program could have written anything into. Raises OSError."""
    try:
        raw = json.loads(read_small(paths.work_index))
        return _Index(dict(raw["source"]), [_path(str(name)) for name in raw["collected"]])
    except (ValueError, *NO_DOCUMENT) as error:
        raise OSError(f"{paths.work_index} is not as the service wrote it: {error}") from error


def _path(name: str) -> str:
    """Return a path. Raises ValueError for what no file can be called."""
    if b"\0" in os.fsencode(name):
        raise ValueError(f"{name!r} is no path")
    return name


def _write(paths: JobPaths, index: _Index) -> None:
    part = paths.work_index.with_name(f"{paths.work_index.name}.tmp")
    part.unlink(missing_ok=True)  # a pipe, for one, would be waited for
    part.write_text(json.dumps(asdict(index)))
    part.replace(paths.work_index)
