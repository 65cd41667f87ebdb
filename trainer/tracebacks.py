"""A program's own traceback: without the frames of this service around it. Stdlib only."""

from __future__ import annotations

import traceback
from pathlib import Path


def of_program(error: BaseException, source_dir: str, *, plain: bool = False) -> str:
    """Return the traceback of `error` from the first frame that lies in the program's folder.

    A traceback that never touches the folder is returned whole, or only the error's text if that
    says all (`plain`); then it also ends with the program's last frame. Of the exceptions that
    led to this one, those that never touch the folder are the service's own affair and left out.
    """
    root = Path(source_dir).resolve()
    summary = traceback.TracebackException.from_exception(error)
    if _trim(summary, root, tail=plain):
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


def _trim(link: traceback.TracebackException, root: Path, *, tail: bool = False) -> bool:
    """Drop the frames above the program's first, and with `tail` those below its last. Returns
    False if there is none."""
    frames = list(link.stack)
    own = [i for i, f in enumerate(frames) if Path(f.filename).resolve().is_relative_to(root)]
    if not own:
        return False
    end = own[-1] + 1 if tail else len(frames)
    link.stack = traceback.StackSummary.from_list(frames[own[0] : end])
    return True


def headline(error: BaseException) -> str:
    """Return the error's type and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
