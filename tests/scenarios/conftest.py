"""The --rewrite option: regenerate the expected output of the scenarios."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --rewrite. Commit what it changes only if the change is understood and wanted."""
    parser.addoption("--rewrite", action="store_true", help="regenerate tests/scenarios/*.txt")
