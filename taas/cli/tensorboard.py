"""The command that shows curves of jobs side by side: taas tensorboard."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taas import eventfiles, names
from taas.cli.context import Context, ExitCode
from taas.client import Client
from taas.errors import NotFound, ServiceUnavailable, TaasError
from taas.service import module_command, module_environment

_URL = re.compile(r" at (http://\S+)")


def register(commands: Any, common: Any) -> None:
    """Add the command to the parser."""
    tensorboard = commands.add_parser(
        "tensorboard",
        parents=[common],
        help="show curves of jobs side by side",
        description="Opens TensorBoard on jobs, also while they train, until it is interrupted. "
        "What they write is fetched from the service, wherever that is. Needs TensorBoard on this "
        "machine.",
        epilog="example: taas tensorboard mnist mnist-2",
    )
    tensorboard.add_argument("jobs", nargs="+", metavar="NAME", help="jobs to show")
    tensorboard.add_argument("--host", default="127.0.0.1", help="address to listen at")
    tensorboard.add_argument("--port", type=int, default=0, help="port (any free one)")
    tensorboard.add_argument(
        "--refresh-s",
        type=float,
        default=5.0,
        metavar="S",
        help="seconds between looks at what the jobs have written (%(default)g)",
    )
    tensorboard.set_defaults(run=run_tensorboard)


def run_tensorboard(ctx: Context) -> ExitCode:
    """Show jobs until a signal."""
    if importlib.util.find_spec("tensorboard") is None:
        raise TaasError(
            'tensorboard is not installed here; install it with: pip install "taas[tensorboard]"'
        )
    jobs = [names.resource_name(name, ctx.args.namespace) for name in ctx.args.jobs]
    with tempfile.TemporaryDirectory(prefix="taas-tensorboard-") as folder, ctx.client() as client:
        files = _Files(ctx, client, jobs, Path(folder))
        files.look(first=True)
        with _opened(ctx, folder) as process:
            url = _url(ctx, process)
            if not url:
                return ExitCode.SERVICE
            ctx.out.line(json.dumps({"url": url}) if ctx.out.as_json else url)
            while process.poll() is None:
                try:
                    process.wait(ctx.args.refresh_s)
                except subprocess.TimeoutExpired:
                    files.look()
    return ExitCode.SERVICE


class _Files:
    """What the jobs have written, in a folder each."""

    def __init__(self, ctx: Context, client: Client, jobs: list[str], folder: Path) -> None:
        self._ctx = ctx
        self._client = client
        self._jobs = jobs
        self._folder = folder
        self._said: dict[str, str] = {}

    def look(self, *, first: bool = False) -> None:
        """Fetch what is new. What cannot be had now is told once, and tried again."""
        for job in self._jobs:
            short = self._ctx.short(job)
            said = ""
            try:
                if not eventfiles.refresh(self._client, job, self._folder / short) and first:
                    said = f"{short} has written no curves yet"
            except (NotFound, ServiceUnavailable) as error:
                if first:
                    raise
                said = str(error)
            if said and said != self._said.get(job):
                self._ctx.out.note(said)
            self._said[job] = said


@contextmanager
def _opened(ctx: Context, folder: str) -> Iterator[subprocess.Popen[str]]:
    """Run TensorBoard, and end it when the block is left."""
    command = [*module_command("tensorboard.main"), "--logdir", folder]
    command += ["--host", ctx.args.host, "--port", str(ctx.args.port)]
    command += ["--reload_interval", str(max(1, round(ctx.args.refresh_s)))]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **module_environment()}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C in this terminal is for this program
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _url(ctx: Context, process: subprocess.Popen[str]) -> str:
    """Return where TensorBoard is; "" if it ended, with what it said on standard error."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        found = _URL.search(line)
        if found:
            # It may say more, which nobody needs and nothing must wait for.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[1]
        said.append(line)
    ctx.out.note("".join(said[-12:]).rstrip())
    return ""
