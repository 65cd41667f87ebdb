"""A program's own traceback: without the frames of this service around it. Stdlib only."""

from __future__ import annotations

import traceback
from pathlib import Path


def of_program(error: BaseException, source_dir: str, *, plain: bool = False) -> str:
    """Return the traceback of `error` from the first frame that lies in the program's folder.

    A traceback that never touches the folder is returned whole, or only the error's text if that
    says all (`plain`). Of the exceptions that led to this one, those that never touch the folder
    are the service's own affair and left out.
    """
    root = Path(source_dir).resolve()
    summary = traceback.TracebackException.from_exception(error)
    if _trim(summary, root):
        link = summary
        while (before := _before(link)) is not None:
            if not _trim(before, root):
                link.__cause__ = link.__context__ = None
                break
            link = before
    elif plain:
        return f"{error}\n"
    return "".join(summary.format())


def _before(link: traceback.TracebackException) -> traceback.TracebackException | None:
    return link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _trim(link: traceback.TracebackException, root: Path) -> bool:
    """Drop the frames above the program's first. Returns False if there is none."""
    for index, frame in enumerate(link.stack):
        if Path(frame.filename).resolve().is_relative_to(root):
            link.stack = traceback.StackSummary.from_list(list(link.stack)[index:])
            return True
    return False


def headline(error: BaseException) -> str:
    """Return the error's type and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
