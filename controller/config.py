"""Settings of the controller, from the command line. Nothing else reads arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Config:
    """How this controller runs.

    home: folder of all state on the local backend. socket: unix socket it listens on.
    stop_workers: end the local workers that a former controller left, instead of serving.
    """

    home: Path
    socket: Path
    stop_workers: bool = False


def parse_arguments(arguments: list[str]) -> Config:
    """Parse the command line. Exits with a usage message on a mistake."""
    parser = argparse.ArgumentParser(prog="python -m controller", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder of all state")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on")
    parser.add_argument(
        "--stop-workers",
        action="store_true",
        help="let the local workers save and leave, then exit; for use when no controller runs",
    )
    options = parser.parse_args(arguments)
    return Config(options.home.absolute(), options.socket.absolute(), options.stop_workers)
