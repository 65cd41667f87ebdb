"""What tests with real trainer processes share."""

from __future__ import annotations

import pytest

from tools import native


@pytest.fixture(scope="session", autouse=True)
def ring() -> None:
    """Have workers reduce as they do where the service is installed."""
    if native.stale():
        assert native.main() == 0
