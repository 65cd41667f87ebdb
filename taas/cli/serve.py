"""The command that lets programs ask models: taas serve."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taas import rollout
from taas.cli.context import Context, ExitCode
from taas.cli.files import transfer
from taas.cli.predict import need_tensorflow
from taas.errors import TaasError
from taas.rollout import Wanted
from taas.service import module_command, module_environment


def register(commands: Any, common: Any) -> None:
    """Add the command to the parser."""
    serve = commands.add_parser(
        "serve",
        parents=[common],
        help="answer questions to models over gRPC and HTTP",
        description="Answers questions to models as TensorFlow Serving does, over gRPC and over "
        "HTTP, until it is interrupted. A model is a job's: what it exported, or while it trains "
        "its best checkpoint, and each better one takes over without a pause; or one in a local "
        "folder, also one of versions. Needs TensorFlow on this machine.",
        epilog="example: taas serve mnist\n         taas serve mnist flowers=./flowers/model "
        "--port 8080",
    )
    serve.add_argument(
        "models",
        nargs="+",
        metavar="[NAME=]JOB|MODEL_DIR",
        help="a job, or a model's folder, and the name to serve it under",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    serve.add_argument("--port", type=int, default=8501, help="port for HTTP (%(default)s)")
    serve.add_argument("--grpc-port", type=int, default=8500, help="port for gRPC (%(default)s)")
    serve.add_argument(
        "--refresh-s",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds between questions whether a job has a better model (%(default)g)",
    )
    serve.add_argument(
        "--drain-s",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds of answering while not ready, before the end (%(default)g)",
    )
    serve.set_defaults(run=run_serve)


def run_serve(ctx: Context) -> ExitCode:
    """Serve models until a signal."""
    wanted = [rollout.wanted(text) for text in ctx.args.models]
    rollout.names_are_unique(wanted)
    need_tensorflow("serve")
    if importlib.util.find_spec("aiohttp") is None:
        raise TaasError('serve needs more packages; install them with: pip install "taas[serving]"')
    with tempfile.TemporaryDirectory(prefix="taas-serve-") as folder:
        base = Path(folder)
        for model in wanted:
            if not model.job:
                rollout.put_folder(base, model)
        jobs = _Jobs(ctx, base, [model for model in wanted if model.job])
        jobs.check()
        with _served(ctx, base) as server:
            if not _began(ctx, server):
                return ExitCode.USAGE
            while server.poll() is None:
                jobs.look()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(ctx.args.refresh_s)
    ctx.out.note(f"the prediction service has ended (exit code {server.returncode})")
    return ExitCode.SERVICE


class _Jobs:
    """The jobs whose newest models are to be served."""

    def __init__(self, ctx: Context, base: Path, models: list[Wanted]) -> None:
        self._ctx = ctx
        self._base = base
        self._followed = models
        # What was said last of a model, which need not be said again.
        self._said: dict[str, str] = {}

    def check(self) -> None:
        """Raise NotFound for a job that does not exist: it would be waited for in vain."""
        if self._followed:
            with self._ctx.client() as client:
                for model in self._followed:
                    client.get(model.job)

    def look(self) -> None:
        """Put newer models in place. What cannot be had now is tried again at the next look."""
        if not self._followed:
            return
        cache = self._ctx.local.home / "cache" / "models"
        with self._ctx.client() as client, transfer(self._ctx.out) as progress:
            for model in tuple(self._followed):
                try:
                    version = rollout.put_newest(client, self._base, model, cache, progress)
                except TaasError as error:
                    self._say(model, str(error))
                    continue
                self._say(model, f"{model.name}: the {version.title}")
                if not version.checkpoint:
                    # A finished job never changes again.
                    self._followed.remove(model)

    def _say(self, model: Wanted, text: str) -> None:
        if self._said.get(model.name) != text:
            self._said[model.name] = text
            self._ctx.out.note(text)


@contextlib.contextmanager
def _served(ctx: Context, base: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the prediction service; leaving lets it answer what it was asked, and ends it."""
    args = ctx.args
    command = [*module_command("serving"), str(base), "--attached", "--host", args.host]
    command += ["--http-port", str(args.port), "--grpc-port", str(args.grpc_port)]
    command += ["--drain-s", str(args.drain_s)]
    server = subprocess.Popen(
        command,
        env=module_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in this terminal ends it the orderly way
    )
    with server:
        try:
            yield server
        finally:
            server.terminate()


def _began(ctx: Context, server: subprocess.Popen[str]) -> bool:
    """Say where the service listens; return False if it could not start, of which it told why."""
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        return False
    if ctx.out.as_json:
        ctx.out.line(line.rstrip("\n"))
    else:
        addresses = json.loads(line)
        ctx.out.line(f"HTTP http://{addresses['http']}/v1/models/NAME:predict")
        ctx.out.line(f"gRPC {addresses['grpc']}")
    return True
