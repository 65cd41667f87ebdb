"""Commands about what jobs made: checkpoints, download."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from taas import names, tables, units
from taas.cli.context import Context, ExitCode, Out
from taas.client import Client
from taas.errors import NotFound

_NAME_HELP = "job, as NAME or NAMESPACE/NAME"


def register(commands: Any, common: Any) -> None:
    """Add the commands to the parser."""
    checkpoints = commands.add_parser(
        "checkpoints", parents=[common], help="list a job's checkpoints, newest first"
    )
    checkpoints.add_argument("name", metavar="NAME", help=_NAME_HELP)
    checkpoints.set_defaults(run=run_checkpoints)

    download = commands.add_parser(
        "download",
        parents=[common],
        help="fetch a job's output or a checkpoint",
        description="Fetches a job's output folder (models, TensorBoard events, what the program "
        "wrote), or one of its checkpoints. A download that was broken off goes on where it was.",
        epilog="example: taas download mnist -o ./mnist",
    )
    download.add_argument("name", metavar="NAME", help=_NAME_HELP)
    download.add_argument(
        "-o", "--to", type=Path, metavar="DIR", help="into this folder; by default ./NAME"
    )
    download.add_argument(
        "--checkpoint", default="", metavar="ID", help='a checkpoint instead; "latest" works'
    )
    download.set_defaults(run=run_download)


def run_checkpoints(ctx: Context) -> ExitCode:
    """List checkpoints."""
    with ctx.client() as client:
        found = client.checkpoints(ctx.args.name)
    if ctx.out.as_json:
        ctx.out.document({"checkpoints": [json_format.MessageToDict(c) for c in found]})
    elif found:
        rows = [tables.checkpoint_row(c, now=ctx.now()) for c in found]
        ctx.out.table(tables.CHECKPOINT_COLUMNS, rows)
    else:
        ctx.out.note("no checkpoints yet")
    return ExitCode.OK


def run_download(ctx: Context) -> ExitCode:
    """Fetch files."""
    args = ctx.args
    with ctx.client() as client:
        checkpoint = args.checkpoint
        if checkpoint == "latest":
            found = client.checkpoints(args.name)
            if not found:
                raise NotFound(f"{args.name} has no checkpoints yet")
            checkpoint = found[0].id
        _, job = names.split_name(names.resource_name(args.name, args.namespace))
        folder = args.to or Path((checkpoint and f"{job}-{checkpoint}") or job)
        files = fetch(ctx.out, client, args.name, folder, checkpoint=checkpoint)
    if ctx.out.as_json:
        ctx.out.document({"folder": str(folder), "files": [str(file) for file in files]})
    else:
        total = sum(file.stat().st_size for file in files)
        ctx.out.line(f"{units.plural(len(files), 'file')} ({units.size(total)}) in {folder}")
    return ExitCode.OK


def fetch(
    out: Out,
    client: Client,
    name: str,
    folder: Path,
    *,
    checkpoint: str = "",
    only: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Download with a progress bar on a terminal."""
    with transfer(out) as progress:
        return client.download(
            name,
            folder,
            checkpoint=checkpoint,
            only=only,
            progress=lambda done, total: progress("downloading", done, total),
        )


@contextlib.contextmanager
def transfer(out: Out) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback (what, bytes done, bytes in all) that shows a bar on a terminal."""
    if not out.error_console.is_terminal:
        yield lambda what, done, total: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=out.error_console,
        transient=True,
    )
    with bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show
