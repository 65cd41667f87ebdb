"""Commands about what jobs made: checkpoints, download, predict."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from taas import names, tables, units
from taas.cli.context import Context, ExitCode, Out
from taas.client import Client
from taas.errors import InvalidRequest, NotFound, ServiceUnavailable, TaasError
from taas.service import module_command, module_environment

_NAME_HELP = "job, as NAME or NAMESPACE/NAME"
# What the trainer exports, below the job's output folder: a SavedModel, and what its inputs and
# classes are.
MODEL = "model"
_DESCRIPTION = "model.json"
_SAVED_MODEL = "saved_model.pb"


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

    predict = commands.add_parser(
        "predict",
        parents=[common],
        help="apply a trained model to files",
        description="Applies a job's model, or one in a local folder, to pictures (or tables): "
        "class and probability for each. Needs TensorFlow on this machine.",
        epilog="example: taas predict mnist digit.png\n         taas predict ./mnist/model *.png",
    )
    predict.add_argument("model", metavar="NAME|MODEL_DIR", help="a job, or a SavedModel's folder")
    predict.add_argument("files", nargs="+", metavar="FILE")
    predict.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to show")
    predict.set_defaults(run=run_predict)


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


def run_predict(ctx: Context) -> ExitCode:
    """Apply a model to files, in a process of its own that has TensorFlow."""
    args = ctx.args
    for file in args.files:
        if not Path(file).exists():
            raise InvalidRequest.of("FILE", f"{file} does not exist")
    if importlib.util.find_spec("tensorflow") is None:
        raise TaasError(
            "predict needs TensorFlow, which is not installed here; install it with: "
            'pip install "taas[trainer]"'
        )
    folder = _local_model(Path(args.model)) or _fetched_model(ctx)
    output = "json" if ctx.out.as_json else "text"
    command = [*module_command("trainer.predict"), str(folder), *args.files]
    command += ["--top", str(args.top), "--output", output]
    # TensorFlow greets with lines about the processor that nobody asked for.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **module_environment()}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode == 0:
        return ExitCode.OK
    # It named the files that it could not answer, or what is wrong with the model.
    return ExitCode.USAGE if done.returncode in (1, 2) else ExitCode.SERVICE


def _local_model(path: Path) -> Path | None:
    """Return the folder if the path is an exported model, or a job's output that holds one."""
    for folder in (path, path / MODEL):
        if (folder / _SAVED_MODEL).is_file():
            return folder
    if path.is_dir() and ("/" in str(path) or str(path) in (".", "..")):
        raise _no_model(path)
    return None


def _no_model(path: Path) -> InvalidRequest:
    return InvalidRequest.of("MODEL_DIR", f"{path} holds no model ({_SAVED_MODEL})")


def _fetched_model(ctx: Context) -> Path:
    """Return the folder of a job's model, fetched once for each state of the job's training."""
    with ctx.client() as client:
        try:
            job = client.get(ctx.args.model)
        except (NotFound, ServiceUnavailable) as error:
            if Path(ctx.args.model).is_dir():
                raise _no_model(Path(ctx.args.model)) from error
            raise
        cache = ctx.local.home / "cache" / "models" / f"{job.uid}-{job.status.progress.step}"
        if not (cache / MODEL / _SAVED_MODEL).is_file():
            try:
                fetch(ctx.out, client, job.name, cache, only=(MODEL, _DESCRIPTION))
            except NotFound as error:
                phase = names.phase_name(job.status.phase)
                raise NotFound(
                    f"{ctx.args.model} has exported no model (it is {phase}); wait until it is done"
                ) from error
    return cache / MODEL
