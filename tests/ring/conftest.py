"""The native library, built for the tests of the session."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tools import native as building
from trainer.ring import native


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Return the library as these sources make it."""
    path: Path = tmp_path_factory.mktemp("ring") / native.LIBRARY.name
    building.build(path)
    return native.load(path)
