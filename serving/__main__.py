"""Serves the models of a folder: python -m serving BASE, where BASE/NAME/N is version N of NAME.

The first line on standard output says as JSON where it listens. SIGTERM and SIGINT end it: what
has been asked is answered first. A second one does not wait for --drain-s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from serving import models
from serving.ending import Ending
from serving.lane import Limits
from serving.server import Settings, serving

EXIT_CANNOT_START = 2


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the words of a command line."""
    settings = Settings(Path())
    limits = settings.limits
    parser = argparse.ArgumentParser(prog="serving", description="Serves SavedModels.")
    parser.add_argument("base", type=Path, help="folder of models: BASE/NAME/N is version N")
    parser.add_argument("--host", default=settings.host, help="address to listen at (%(default)s)")
    for door in ("http", "grpc"):
        port = getattr(settings, f"{door}_port")
        parser.add_argument(f"--{door}-port", type=int, default=port, help="port (%(default)s)")
    parser.add_argument(
        "--keep",
        type=_positive,
        default=settings.keep,
        metavar="N",
        help="newest versions of each model that are served (%(default)s)",
    )
    parser.add_argument(
        "--poll-s", type=float, default=settings.poll_s, help="seconds between looks at BASE"
    )
    parser.add_argument(
        "--drain-s",
        type=float,
        default=settings.drain_s,
        help="seconds of answering while not ready, before the end (%(default)s)",
    )
    parser.add_argument(
        "--grace-s",
        type=float,
        default=settings.grace_s,
        help="seconds for what was asked before the end (%(default)s)",
    )
    parser.add_argument(
        "--max-bytes",
        type=_positive,
        default=settings.max_bytes,
        help="most bytes of a request (%(default)s)",
    )
    parser.add_argument(
        "--max-batch",
        type=_positive,
        default=limits.most_rows,
        metavar="ROWS",
        help="most examples asked about at once (%(default)s)",
    )
    parser.add_argument(
        "--parallel",
        type=_positive,
        default=limits.parallel,
        help="calls of a model at the same time (%(default)s)",
    )
    parser.add_argument(
        "--max-waiting",
        type=_positive,
        default=limits.most_waiting,
        help="most requests that wait for a model (%(default)s)",
    )
    parser.add_argument(
        "--attached", action="store_true", help="end when standard input does, with who started it"
    )
    return parser.parse_args(argv)


def settings_of(read: argparse.Namespace) -> Settings:
    """Return the settings that the words of a command line ask for."""
    return Settings(
        base=read.base,
        host=read.host,
        http_port=read.http_port,
        grpc_port=read.grpc_port,
        keep=read.keep,
        poll_s=read.poll_s,
        drain_s=read.drain_s,
        grace_s=read.grace_s,
        max_bytes=read.max_bytes,
        limits=Limits(read.max_batch, read.parallel, read.max_waiting),
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


async def _run(settings: Settings, *, attached: bool) -> None:
    ending = Ending()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.signalled)
    if attached:
        loop.add_reader(sys.stdin, lambda: None if sys.stdin.readline() else ending.left())
    async with serving(settings, models.load, ending.hurried) as addresses:
        sys.stdout.write(f"{json.dumps(asdict(addresses))}\n")
        sys.stdout.flush()
        await ending.begun.wait()


def main(argv: Sequence[str]) -> int:
    """Serve until a signal."""
    read = parse(argv)
    settings = settings_of(read)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not settings.base.is_dir():
        sys.stderr.write(f"{settings.base} is no folder; name one with models: BASE/NAME/N\n")
        return EXIT_CANNOT_START
    try:
        asyncio.run(_run(settings, attached=read.attached))
    except OSError as error:
        sys.stderr.write(f"{error}; free the port, or choose others\n")
        return EXIT_CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
