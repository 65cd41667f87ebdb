"""Finds versions on the disk: BASE/NAME/N, a folder for each model, one in it for each version.

N is a whole number, greater is newer. Put a version there by renaming it into place: a folder
that is still being copied may be tried too early, and is then tried again.
"""

from __future__ import annotations

from pathlib import Path

from trainer import exported


def scan(base: Path) -> dict[str, dict[int, Path]]:
    """Return the folder of each version of each model. Raises OSError if BASE cannot be read.

    What holds no SavedModel, is hidden, or is not named by a number is no version.
    """
    return {
        folder.name: _versions(folder)
        for folder in base.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    }


def _versions(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    try:
        for place in folder.iterdir():
            if place.name.isascii() and place.name.isdecimal() and exported.saved_model(place):
                found[int(place.name)] = place
    except OSError:
        # The model was removed while it was looked at.
        return {}
    return found
