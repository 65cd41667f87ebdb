"""Commands that make jobs: submit, and run, which does everything on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format

from protos.taas.v1.job_pb2 import PHASE_SUSPENDED, TrainingJob
from taas import models, names, tables
from taas.cli import files, follow, wanted
from taas.cli.context import Context, ExitCode
from taas.client import Client
from taas.errors import InvalidRequest, ServiceUnavailable, TaasError
from taas.picture import Picture

_Result = TypeVar("_Result")

# A service that is killed more often than this while one call is made has another problem.
_TRIES_IN_A_ROW = 5


_USAGE = "taas {command} [options] {source} [-- arguments of a script, or a command]"


def register(commands: Any, common: Any) -> None:
    """Add the commands to the parser."""
    run = commands.add_parser(
        "run",
        parents=[common],
        help="train on this machine: start, submit, watch, fetch the model",
        usage=_USAGE.format(command="run", source="DIR|SCRIPT|SPEC.yaml"),
        description="Does everything on this machine: starts a service if none runs, submits the "
        "folder, shows its progress and fetches what it made.",
        epilog="examples: taas run examples/mnist_lenet5 --workers 2 -p epochs=5\n"
        "          taas run train.py --workers 2 --distribute -- --epochs 5",
    )
    run.add_argument(
        "source",
        metavar="DIR",
        help="folder with a task.py, or a script, or a job document (YAML, JSON)",
    )
    run.add_argument(
        "-o", "--to", type=Path, metavar="DIR", help="where the output goes; by default ./NAME"
    )
    wanted.add_job_options(run)
    run.set_defaults(run=run_run)

    submit = commands.add_parser(
        "submit",
        parents=[common],
        help="submit a job",
        description="Packs and uploads a folder (or one script) and creates a job that runs it. "
        "What .taasignore (else .gitignore) lists is left out.",
        usage=_USAGE.format(command="submit", source="DIR|SCRIPT|SPEC.yaml"),
        epilog="examples: taas submit ./mnist --workers 2 -p epochs=5 --watch\n"
        "          taas submit job.yaml\n"
        "          taas submit train.py --workers 4 --distribute -- --epochs 5\n"
        "          taas submit ./project --workers 2 -- python -m my.module",
    )
    submit.add_argument("source", metavar="DIR|SCRIPT|SPEC.yaml")
    submit.add_argument("--watch", action="store_true", help="show its progress until it ends")
    submit.add_argument("--dry-run", action="store_true", help="check everything, create nothing")
    submit.add_argument(
        "--request-id", default="", help="the same in a repeated try: the job is created once"
    )
    wanted.add_job_options(submit)
    submit.set_defaults(run=run_submit)


def run_submit(ctx: Context) -> ExitCode:
    """Submit a job."""
    args, out = ctx.args, ctx.out
    job_wanted = wanted.wanted(ctx)
    job = None
    with ctx.client() as client:
        try:
            with files.transfer(out) as progress:
                job = wanted.create(
                    client,
                    job_wanted,
                    request_id=args.request_id,
                    validate_only=args.dry_run,
                    progress=progress,
                )
            _say_created(ctx, job)
            if args.dry_run or not args.watch:
                return ExitCode.OK
            seen, code = follow.follow(ctx, client, job)
        except KeyboardInterrupt:
            if job is None or args.dry_run:
                raise
            return follow.left(ctx, job)
        if seen is None:
            return code
        with follow.watched(ctx, job):
            job = client.get(job.name)
        return follow.end_of(ctx, job)


def _say_created(ctx: Context, job: TrainingJob) -> None:
    """Say what a submit has done, before it watches."""
    args, out = ctx.args, ctx.out
    name = ctx.short(job.name)
    if out.as_json:
        if args.watch and not args.dry_run:
            out.item(job=job)
        else:
            out.document(job)
    elif args.dry_run:
        out.line(f"{name} could be created")
    else:
        out.line(f"created {name}")
        if not args.watch:
            out.note(f"to watch it: {ctx.command(f'watch {name}')}")


def run_run(ctx: Context) -> ExitCode:
    """Do everything on this machine."""
    if ctx.args.target:
        raise InvalidRequest.of(
            "--target", "run works on this machine; for a service elsewhere: taas submit --watch"
        )
    job_wanted = wanted.wanted(ctx)
    code = None
    try:
        with ctx.local.in_use_by_run():
            ctx.local.start(lasting=False, on_wait=ctx.out.note)
            with ctx.local_client() as client:
                code = _run(ctx, client, job_wanted)
    finally:
        # Ctrl-C once the job is there leaves job and service; anything else leaves no service
        # behind that nobody asked for.
        if code is not ExitCode.INTERRUPTED:
            _stop_if_idle(ctx)
    return code


def _run(ctx: Context, client: Client, job_wanted: wanted.Wanted) -> ExitCode:
    out = ctx.out
    job = None
    try:
        with files.transfer(out) as progress:
            job = wanted.create(
                client,
                job_wanted,
                progress=progress,
                surviving=lambda call: _surviving(ctx, call),
            )
        if out.as_json:
            out.item(job=job)
        else:
            out.line(f"created {ctx.short(job.name)}")
        reviver = _Reviver(ctx)
        seen, code = follow.follow(ctx, client, job, on_lost=lambda _: reviver.start_again())
    except KeyboardInterrupt:
        if job is None:
            raise
        return follow.left(ctx, job)
    if seen is None:
        return code
    name = job.name
    with follow.watched(ctx, job):
        job = _surviving(ctx, lambda: client.get(name))
    code = follow.end_of(ctx, job)
    if code is not ExitCode.OK:
        out.text(f"what its workers printed: taas up; taas logs {ctx.short(job.name)}")
        return code
    _fetch_output(ctx, client, job, seen)
    return code


def _fetch_output(ctx: Context, client: Client, job: TrainingJob, seen: Picture) -> None:
    out = ctx.out
    folder = ctx.args.to or _free_folder(names.split_name(job.name)[1])
    if not _surviving(ctx, lambda: client.files(job.name)):
        out.text("the job left no output")
        return
    _surviving(ctx, lambda: files.fetch(out, client, job.name, folder))
    model = folder / models.MODEL
    if out.as_json:
        test = json_format.MessageToDict(seen.test).get("metrics", {}) if seen.test else {}
        where = str(model) if model.is_dir() else ""
        out.item(result={"output": str(folder), "model": where, "test": test})
        return
    if seen.test is not None:
        count = f"  over {seen.test.examples:,} examples" if seen.test.examples else ""
        out.line(f"test    {tables.metrics_text(seen.test.metrics)}{count}")
    out.line(f"output  {_path_text(folder)}")
    if model.is_dir():
        out.line(f"model   {_path_text(model)}")
        out.line(f"try it: taas predict {_path_text(model)} FILE...")


def _surviving(ctx: Context, call: Callable[[], _Result]) -> _Result:
    """Call; if the service has gone meanwhile, start it again and call once more."""
    reviver = _Reviver(ctx)
    for _ in range(_TRIES_IN_A_ROW):
        try:
            return call()
        except ServiceUnavailable as error:
            # A service that answers is not helped by another start; the client has waited.
            if error.answered:
                raise
            reviver.start_again()
    return call()


class _Reviver:
    """Starts the service again for one call or stream of a run. A start that fails is one more
    failed try; only when it fails time after time is that the end."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._failures = 0

    def start_again(self) -> None:
        """Start the service unless it runs."""
        local, out = self._ctx.local, self._ctx.out
        try:
            if local.start(on_wait=out.note):
                out.note("the service was gone; started it again")
            self._failures = 0
        except ServiceUnavailable:
            self._failures += 1
            if self._failures >= _TRIES_IN_A_ROW:
                raise


def _stop_if_idle(ctx: Context) -> None:
    """Stop the service if it is there for runs only and this was the last one, unless a job is
    going on; jobs held by their users need no service."""
    try:
        if not ctx.local.stop_after_runs(lambda: _is_idle(ctx), on_wait=ctx.out.note):
            ctx.out.note(
                "the service goes on for the jobs that are not final: `taas list` shows them, "
                "`taas down` stops it"
            )
    except TaasError as error:
        ctx.out.note(f"the service was left running: {error}")


def _is_idle(ctx: Context) -> bool:
    with ctx.local_client() as client:
        return all(
            names.is_final(job.status.phase) or job.status.phase == PHASE_SUSPENDED
            for job in client.list(namespace="-")
        )


def _free_folder(name: str) -> Path:
    """Return the first of ./NAME, ./NAME-output, ./NAME-output-2, ... that is not in use."""
    for path in _candidates(name):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return path
    raise AssertionError("the candidates never end")


def _candidates(name: str) -> Iterator[Path]:
    yield Path(name)
    yield Path(f"{name}-output")
    for number in itertools.count(2):
        yield Path(f"{name}-output-{number}")


def _path_text(path: Path) -> str:
    """Return a path as a shell shows it, so that it cannot be taken for a job's name."""
    return str(path) if path.is_absolute() or str(path).startswith("..") else f"./{path}"
