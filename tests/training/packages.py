"""Packages in other versions than the installed ones, each in a folder of its own.

They are fetched when a test first needs them and kept in the user's cache, outside of the tree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def folder_of(requirement: str) -> Path:
    """Return a folder to put first on the path for `name==version`, without its dependencies."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "taas-tests")
    folder = cache / f"{requirement}-{sys.implementation.cache_tag}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole, so that tests side by side, or killed ones, leave no half.
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        target = Path(scratch, "target")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--target", str(target), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        try:
            target.rename(folder)
        except OSError:
            assert folder.exists()  # Another test was quicker.
    return folder
