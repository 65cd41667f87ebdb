"""Puts the models that are to be served where the prediction service looks: BASE/NAME/VERSION.

A model comes from a folder on this machine, or is a job's: what it exported, or while it trains
its best checkpoint. The version of a job's model is the step that it was trained to, so it is
the same wherever it is served.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taas import models
from taas.client import Client
from taas.errors import InvalidRequest

# A model's own folder is often called so; the one that it lies in says more.
_COMMON = ("model", "output", "result")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to serve under a name. job: "" if it lies in a folder."""

    name: str
    folder: Path = Path()
    job: str = ""


def wanted(text: str) -> Wanted:
    """Return what a word of the command line means: [NAME=]JOB or [NAME=]FOLDER.

    A word is a folder if it is one that holds a model or versions of one, or is written as a
    path. Raises InvalidRequest.
    """
    name, separator, rest = text.partition("=")
    if not separator or Path(text).exists():
        name, rest = "", text
    folder = Path(rest)
    if models.saved_model(folder) or _versions(folder):
        return Wanted(_checked(name or _called(folder.absolute())), folder.absolute())
    if folder.is_dir() and rest.startswith((".", "/")):
        raise InvalidRequest.of("MODEL_DIR", f"{folder} holds no model ({models.SAVED_MODEL})")
    return Wanted(_checked(name or rest.rpartition("/")[2]), job=rest)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise InvalidRequest.of(
            "NAME", f"{name!r} cannot be a model's name; give another one: NAME=FOLDER"
        )
    return name


def _called(folder: Path) -> str:
    return folder.parent.name if folder.name in _COMMON and folder.parent.name else folder.name


def _versions(folder: Path) -> list[Path]:
    """Return the folders of versions in a folder, as TensorFlow Serving has them."""
    with contextlib.suppress(OSError):
        return [f for f in folder.iterdir() if f.name.isdecimal() and models.saved_model(f)]
    return []


def put_folder(base: Path, model: Wanted) -> None:
    """Let a folder's model be served; of a folder of versions, those that come later as well."""
    place = base / model.name
    if _versions(model.folder):
        place.symlink_to(model.folder)
        return
    saved = models.saved_model(model.folder)
    assert saved is not None
    # What describes a model lies beside it.
    whole = saved.parent if (saved.parent / models.DESCRIPTION).is_file() else saved
    _link(place / str(_step(whole)), whole)


def _step(folder: Path) -> int:
    """Return the step of a model that a job exported, 1 of any other."""
    try:
        return max(1, int(json.loads((folder / models.DESCRIPTION).read_text())["step"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 1


def put_newest(
    client: Client, base: Path, model: Wanted, cache: Path, progress: models.Progress
) -> models.Version:
    """Let the newest version of a job's model be served, and older ones no more.

    They go on answering until the new one is loaded. Raises NotFound if there is none yet, and
    what the client raises.
    """
    version, folder = models.bring(client, model.job, cache, progress)
    place = base / model.name / str(max(1, version.step))
    # A checkpoint and the model exported at its step hold the same values.
    if not place.exists():
        _link(place, folder)
        _leave_only(place)
    return version


def _link(place: Path, target: Path) -> None:
    """Put a link in its place in one step."""
    place.parent.mkdir(exist_ok=True)
    new = place.with_name(f".{place.name}")
    new.symlink_to(target)
    os.replace(new, place)


def _leave_only(place: Path) -> None:
    for other in place.parent.iterdir():
        if other != place:
            other.unlink()


def names_are_unique(wanted: Sequence[Wanted]) -> None:
    """Raise InvalidRequest if two models would be served under one name."""
    names = [model.name for model in wanted]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest.of(
                "NAME", f"{name!r} names two models; give one of them another name: NAME=MODEL"
            )
