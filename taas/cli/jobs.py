"""Commands about jobs: list, get, scale, suspend, resume, cancel, delete."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format

from protos.taas.v1.job_pb2 import Phase, TrainingJob
from taas import tables, units
from taas.cli.context import Context, ExitCode
from taas.client import Client
from taas.errors import InvalidRequest

_NAME_HELP = "job, as NAME or NAMESPACE/NAME"
# What a person can read; more must be asked for.
_LIST_LIMIT = 1000


def register(commands: Any, common: Any) -> None:
    """Add the commands to the parser."""
    listing = commands.add_parser(
        "list",
        parents=[common],
        help="list jobs, newest first",
        epilog="example: taas list --phase RUNNING -l team=vision",
    )
    listing.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    listing.add_argument("--phase", help="only jobs in this phase, for example RUNNING")
    listing.add_argument(
        "-l", "--label", action="append", default=[], metavar="KEY=VALUE", help="repeatable"
    )
    listing.add_argument("--limit", type=int, default=_LIST_LIMIT, metavar="N", help="at most N")
    listing.set_defaults(run=run_list)

    get = commands.add_parser("get", parents=[common], help="show one job in detail")
    get.add_argument("name", metavar="NAME", help=_NAME_HELP)
    get.set_defaults(run=run_get)

    scale = commands.add_parser(
        "scale",
        parents=[common],
        help="change the number of workers",
        description="Changes the number of workers. A running group saves, and goes on with the "
        "new number.",
        epilog="example: taas scale mnist 4",
    )
    scale.add_argument("name", metavar="NAME", help=_NAME_HELP)
    scale.add_argument("workers", type=int, metavar="WORKERS")
    scale.set_defaults(run=run_scale)

    for word, what in (
        ("suspend", "save, stop the workers and hold a job"),
        ("resume", "let a suspended job go on"),
        ("cancel", "stop a job for good, keeping what it made"),
        ("delete", "stop a job and remove it with all its files"),
    ):
        command = commands.add_parser(word, parents=[common], help=what)
        command.add_argument("names", nargs="+", metavar="NAME", help=_NAME_HELP)
        command.set_defaults(run=globals()[f"run_{word}"])
        if word == "resume":
            command.add_argument(
                "--from-step",
                type=int,
                default=0,
                metavar="STEP",
                help="go back to the checkpoint of this step (see `taas checkpoints`); what came "
                "after it is made anew",
            )
        if word == "delete":
            command.add_argument(
                "--ignore-not-found", action="store_true", help="succeed if it does not exist"
            )


def run_list(ctx: Context) -> ExitCode:
    """List jobs."""
    args = ctx.args
    terms = [f"labels.{label}" for label in args.label]
    if args.phase:
        terms.append(f"phase={_phase(args.phase)}")
    namespace = "-" if args.all_namespaces else args.namespace
    with ctx.client() as client:
        found = client.list(namespace=namespace, filter=" AND ".join(terms))
        jobs = list(itertools.islice(found, args.limit))
    if ctx.out.as_json:
        ctx.out.document({"trainingJobs": [json_format.MessageToDict(job) for job in jobs]})
        return ExitCode.OK
    if not jobs:
        ctx.out.note("no jobs")
        return ExitCode.OK
    shown_in = "" if args.all_namespaces else args.namespace
    rows = [tables.job_row(job, namespace=shown_in, now=ctx.now()) for job in jobs]
    ctx.out.table(tables.JOB_COLUMNS, rows)
    return ExitCode.OK


def run_get(ctx: Context) -> ExitCode:
    """Show one job."""
    with ctx.client() as client:
        job = client.get(ctx.args.name)
    if ctx.out.as_json:
        ctx.out.document(job)
    else:
        for line in tables.job_details(job, now=ctx.now()):
            ctx.out.line(line)
    return ExitCode.OK


def run_scale(ctx: Context) -> ExitCode:
    """Change the number of workers."""
    with ctx.client() as client:
        job = client.scale(ctx.args.name, ctx.args.workers)
    if ctx.out.as_json:
        ctx.out.document(job)
    else:
        ctx.out.line(f"{ctx.short(job.name)} wants {units.plural(job.spec.workers, 'worker')}")
    return ExitCode.OK


def run_suspend(ctx: Context) -> ExitCode:
    """Hold jobs."""
    return _each(ctx, Client.suspend, "is being suspended")


def run_resume(ctx: Context) -> ExitCode:
    """Let held jobs go on, if asked to from an earlier step."""
    step = ctx.args.from_step

    def resume(client: Client, name: str) -> TrainingJob:
        return client.resume(name, from_step=step)

    return _each(ctx, resume, f"goes back to step {step}" if step else "goes on")


def run_cancel(ctx: Context) -> ExitCode:
    """Stop jobs for good."""
    return _each(ctx, Client.cancel, "is being cancelled")


def run_delete(ctx: Context) -> ExitCode:
    """Remove jobs."""
    missing_ok = ctx.args.ignore_not_found

    def delete(client: Client, name: str) -> TrainingJob:
        return client.delete(name, allow_missing=missing_ok)

    return _each(ctx, delete, "is being deleted")


def _each(ctx: Context, act: Callable[[Client, str], TrainingJob], done: str) -> ExitCode:
    """Do something to each job named; the first that cannot be done ends it."""
    with ctx.client() as client:
        for name in ctx.args.names:
            job = act(client, name)
            if ctx.out.as_json:
                ctx.out.item(job=job)
            else:
                ctx.out.line(
                    f"{ctx.short(job.name)} {done}" if job.name else f"{name} is not there"
                )
    return ExitCode.OK


def _phase(text: str) -> str:
    known = [name.removeprefix("PHASE_") for name in Phase.keys()[1:]]
    word = text.upper()
    if word not in known:
        raise InvalidRequest.of("--phase", f"{text!r} is not one of {', '.join(known)}")
    return word
