"""Keeps what a benchmark found as JSON, with where and when it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def dated(name: str) -> str:
    """Return a name for the results of this run, which replace no earlier ones."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def keep(
    name: str, arguments: Mapping[str, Any], about: Mapping[str, Any], figures: Mapping[str, Any]
) -> Path:
    """Write a benchmark's figures to results/NAME.json and return the file. about: the machine as
    `machine.describe` found it before."""
    document = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": arguments,
        "machine": {**about, "load_average_at_end": os.getloadavg()},
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")
    return path
