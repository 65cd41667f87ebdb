"""The command that asks a model: taas predict."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from taas import models
from taas.cli.context import Context, ExitCode, Out
from taas.cli.files import transfer
from taas.errors import InvalidRequest, NotFound, ServiceUnavailable, TaasError
from taas.service import module_command, module_environment


def register(commands: Any, common: Any) -> None:
    """Add the command to the parser."""
    predict = commands.add_parser(
        "predict",
        parents=[common],
        help="apply a trained model to files",
        description="Applies a model to pictures (or tables): class and probability for each. "
        "The model is a job's: what it exported, or while it trains its best checkpoint, else the "
        "newest; or one in a local folder. Files that cannot be answered are named, the others "
        "are answered, and the exit code is 2. Needs TensorFlow on this machine.",
        epilog="example: taas predict mnist digit.png\n         taas predict ./mnist/model photos/",
    )
    predict.add_argument("model", metavar="NAME|MODEL_DIR", help="a job, or a model's folder")
    predict.add_argument(
        "files", nargs="+", metavar="FILE|FOLDER", help="pictures or tables, or folders of them"
    )
    predict.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to show")
    predict.set_defaults(run=run_predict)


def run_predict(ctx: Context) -> ExitCode:
    """Apply a model to files, in a process of its own that has TensorFlow."""
    args = ctx.args
    need_tensorflow("predict")
    folder = local_model(Path(args.model)) or fetched_model(ctx, args.model)
    command = [*module_command("trainer.predict"), str(folder), *args.files]
    command += ["--top", str(args.top), "--output", "lines"]
    # TensorFlow greets with lines about the processor that nobody asked for.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **module_environment()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as answering:
        assert answering.stdout is not None
        try:
            _show(ctx.out, answering.stdout)
        except BaseException:
            answering.terminate()
            raise
    if answering.returncode == 0:
        return ExitCode.OK
    # It named the files that it could not answer, or what is wrong with the model.
    return ExitCode.USAGE if answering.returncode in (1, 2) else ExitCode.SERVICE


def need_tensorflow(command: str) -> None:
    """Raise TaasError if models cannot be loaded here."""
    if importlib.util.find_spec("tensorflow") is None:
        raise TaasError(
            f"{command} needs TensorFlow, which is not installed here; install it with: "
            'pip install "taas[trainer]"'
        )


def _show(out: Out, lines: Iterable[str]) -> None:
    """Show answers as they come, under a bar on a terminal."""
    with _bar(out) as bar:
        seen = ""
        for line in lines:
            said = json.loads(line)
            if "files" in said:
                bar(said["files"], "")
                continue
            if said["file"] != seen:
                seen = said["file"]
                bar(0, seen)
            text = said.pop("text")
            if out.as_json:
                out.line(json.dumps(said))
            elif "error" in said:
                out.note(text)
            else:
                out.line(text)


@contextlib.contextmanager
def _bar(out: Out) -> Iterator[Callable[[int, str], None]]:
    """Yield a callback (files in all or 0, file reached) that shows a bar on a terminal."""
    if not out.error_console.is_terminal:
        yield lambda total, file: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out.error_console,
        transient=True,
        # Lines on the same terminal go above the bar; those for a pipe or file are not ours.
        redirect_stdout=out.terminal,
    )
    with bar:
        task = bar.add_task("loading the model", total=None)

        def show(total: int, file: str) -> None:
            if total:
                bar.update(task, description="asking", total=total)
            else:
                bar.advance(task)

        yield show


def local_model(path: Path) -> Path | None:
    """Return the folder of the SavedModel if the path is one or a job's output with one."""
    found = models.saved_model(path)
    if found is not None:
        return found
    if path.is_dir() and ("/" in str(path) or str(path) in (".", "..")):
        raise _no_model(path)
    return None


def _no_model(path: Path) -> InvalidRequest:
    return InvalidRequest.of("MODEL_DIR", f"{path} holds no model ({models.SAVED_MODEL})")


def fetched_model(ctx: Context, name: str) -> Path:
    """Return the folder of a job's model as it is now; each version is fetched once."""
    cache = ctx.local.home / "cache" / "models"
    try:
        with ctx.client() as client, transfer(ctx.out) as progress:
            version, folder = models.bring(client, name, cache, progress)
    except (NotFound, ServiceUnavailable) as error:
        if Path(name).is_dir():
            raise _no_model(Path(name)) from error
        raise
    if version.checkpoint:
        ctx.out.note(f"{name} is not done: asking the {version.title}")
    return folder
