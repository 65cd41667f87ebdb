"""Makes ready what a trainer finds when it begins: its source and its folders. Stdlib only."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from trainer import requirements, sources, workfolder
from trainer.contract import Assignment, permitted_env
from trainer.storage import JobPaths


def prepare(assignment: Assignment, cancelled: threading.Event) -> Assignment:
    """Unpack the source, make the folders, and return the assignment that names them. Blocks,
    but not for long once `cancelled` is set.

    Raises sources.InvalidSource and requirements.Unsatisfiable for what the user must mend,
    requirements.Cancelled, and OSError for the disks.
    """
    source = None
    if assignment.source_digest:
        root, scratch = Path(assignment.storage_root), Path(assignment.scratch_dir)
        source = sources.unpack_source(root, assignment.source_digest, scratch)
        packages = requirements.install(
            paths_of(assignment),
            source,
            is_chief=assignment.is_chief,
            env=permitted_env(assignment.env),
            cancelled=cancelled,
        )
        assignment = replace(assignment, packages_dir=str(packages or ""))
    elif assignment.module:
        _find_in_image(assignment)
    if assignment.script is None and not assignment.command:
        return _for_task(assignment, source)
    return for_program(assignment, source)


def _find_in_image(assignment: Assignment) -> None:
    if not Path(assignment.module).is_file():
        field = "script.path" if assignment.script else "task.module"
        raise sources.InvalidSource(
            f"there is no file {assignment.module} in the image; correct {field} or the image"
        )


def _for_task(assignment: Assignment, source: Path | None) -> Assignment:
    if source is not None:
        return replace(assignment, source_dir=str(source))
    module = Path(assignment.module)
    return replace(assignment, module=module.name, source_dir=str(module.parent))


def for_program(assignment: Assignment, source: Path | None) -> Assignment:
    """Scripts and commands write beside themselves and into an output folder."""
    paths, scratch = paths_of(assignment), Path(assignment.scratch_dir)
    if assignment.is_chief:
        folder, output = workfolder.prepare_chief(paths, source), paths.output
    else:
        folder, output = source or scratch / "work", scratch / "output"
    folder.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    return replace(assignment, source_dir=str(folder), output_dir=str(output))


def conclude(assignment: Assignment) -> None:
    """Bring what the program wrote beside itself to the job's output. Raises OSError."""
    if assignment.output_dir and assignment.is_chief:
        workfolder.collect(paths_of(assignment))


def paths_of(assignment: Assignment) -> JobPaths:
    """Return where the job keeps its files."""
    return JobPaths(
        Path(assignment.storage_root), assignment.namespace, assignment.job, assignment.job_uid
    )
