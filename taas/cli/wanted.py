"""From arguments to the job that the user wants: a folder, a script or a document, and options."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protos.taas.v1.job_pb2 import TrainingJob, TrainingJobSpec
from taas import documents, names, programs
from taas.cli.context import Context
from taas.client import Client, SubmitProgress
from taas.errors import AlreadyExists, InvalidRequest

# Nobody means to make that many jobs of one name.
_MAX_SUFFIX = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job to be created. `source` is the local folder or file, None if the document names an
    archive that was uploaded before, or a program in the image. `named` is False when the name
    may get a suffix."""

    name: str
    named: bool
    namespace: str
    source: Path | None
    spec: TrainingJobSpec
    labels: Mapping[str, str] = field(default_factory=dict)


def add_job_options(parser: Any) -> None:
    """Add the options that describe a job."""
    job = parser.add_argument_group("the job")
    job.add_argument("--name", help="name of the job; by default made from the folder's name")
    job.add_argument("--workers", type=int, metavar="N", help="number of workers (default 1)")
    job.add_argument("--min-workers", type=int, metavar="N", help="go on with as few as this")
    job.add_argument(
        "--evaluator",
        action="store_true",
        help="look at the validation set beside the training, by a worker of its own",
    )
    job.add_argument("--module", metavar="FILE", help="task module in the folder (task.py)")
    job.add_argument("--script", metavar="FILE", help="script in the folder, instead of a task")
    job.add_argument(
        "--distribute",
        action="store_true",
        help="spread the script's Keras fit over the workers; its batch size is the group's",
    )
    job.add_argument(
        "--own-checkpoints",
        action="store_true",
        help="the script saves and resumes by itself; the service does neither",
    )
    job.set_defaults(words=None)
    job.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="hyperparameter of the task; repeatable",
    )
    job.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="environment variable of the workers; repeatable",
    )
    job.add_argument(
        "-l", "--label", action="append", default=[], metavar="KEY=VALUE", help="repeatable"
    )
    job.add_argument("--checkpoint-every-steps", type=int, metavar="N")
    job.add_argument("--checkpoint-every-seconds", type=int, metavar="S")
    job.add_argument("--keep-checkpoints", type=int, metavar="N", help="how many of the newest")
    job.add_argument(
        "--max-restarts", type=int, metavar="N", help="crashes of the program that are survived"
    )


def wanted(ctx: Context) -> Wanted:
    """Return the job that the arguments describe; options go over what a document says."""
    args = ctx.args
    path = Path(args.source)
    if path.suffix in documents.SUFFIXES and not path.is_dir():
        found = _of_document(ctx, documents.load(path))
    else:
        # What the folder is called where it lies: "." has no name of its own.
        name = names.job_id_from(path.resolve().stem if path.is_file() else path.resolve().name)
        found = Wanted(name, False, args.namespace, path, TrainingJobSpec())
    if args.name:
        resource = names.resource_name(args.name, found.namespace)
        namespace, name = names.split_name(resource)
        found = Wanted(name, True, namespace, found.source, found.spec, found.labels)
    wish = programs.Wish(
        module=args.module or "",
        script=args.script or "",
        words=args.words,
        distribute=args.distribute,
        own_checkpoints=args.own_checkpoints,
    )
    programs.choose(found.spec, found.source, wish)
    _apply_options(found.spec, args)
    labels = {**found.labels, **_pairs(args.label, "--label")}
    return Wanted(found.name, found.named, found.namespace, found.source, found.spec, labels)


def create(
    client: Client,
    job: Wanted,
    *,
    request_id: str = "",
    validate_only: bool = False,
    progress: SubmitProgress | None = None,
    surviving: Callable[[Callable[[], Any]], Any] = lambda call: call(),
) -> TrainingJob:
    """Upload the source and create the job, under the next free name if it was not named.

    `surviving` runs each call that may meet a service that has gone.
    """
    spec = TrainingJobSpec()
    spec.CopyFrom(job.spec)
    if not spec.workers:
        spec.workers = 1
    source = job.source
    if source is not None:
        uploaded = surviving(
            lambda: client.upload(
                source,
                namespace=job.namespace,
                claim=spec.storage.claim_name,
                progress=progress,
            )
        )
        spec.source.CopyFrom(uploaded)
    for number in range(1, _MAX_SUFFIX + 1):
        name = names.numbered_id(job.name, number)
        # One id for all tries of this name, so that a try that got through is not made twice.
        request = request_id or uuid.uuid4().hex

        def attempt(name: str = name, request: str = request) -> TrainingJob:
            return client.create(
                f"{job.namespace}/{name}",
                spec,
                labels=job.labels,
                request_id=request,
                validate_only=validate_only,
            )

        try:
            created: TrainingJob = surviving(attempt)
            return created
        except AlreadyExists:
            if job.named:
                raise
    raise AlreadyExists(f"{job.name} and {_MAX_SUFFIX} variants exist; choose another --name")


def _of_document(ctx: Context, document: documents.Document) -> Wanted:
    has_source = document.source is not None or document.spec.HasField("source")
    spec = document.spec
    in_image = spec.HasField("command") or (spec.task.module or spec.script.path).startswith("/")
    if not has_source and not in_image:
        raise InvalidRequest.of(
            "spec.source",
            "is missing; write the path of the program's folder, or set task.module or "
            "script.path to the absolute path of a program in the image",
        )
    namespace = document.namespace or ctx.args.namespace
    name = document.name
    if not name and not ctx.args.name:
        raise InvalidRequest.of("metadata.name", "is missing; write one, or say --name")
    return Wanted(name, True, namespace, document.source, document.spec, document.labels)


def _apply_options(spec: TrainingJobSpec, args: Any) -> None:
    # 0 is not "unset" here: the service refuses it with the reason.
    if args.workers is not None:
        if args.workers < 1:
            raise InvalidRequest.of("--workers", f"{args.workers} is not at least 1")
        spec.workers = args.workers
    if args.evaluator:
        spec.evaluator = True
    if args.min_workers is not None:
        spec.min_workers = args.min_workers
    if args.max_restarts is not None:
        spec.max_restarts = args.max_restarts
    if args.checkpoint_every_steps is not None:
        spec.checkpoints.every_steps = args.checkpoint_every_steps
    if args.checkpoint_every_seconds is not None:
        spec.checkpoints.every_seconds = args.checkpoint_every_seconds
    if args.keep_checkpoints is not None:
        spec.checkpoints.keep_last = args.keep_checkpoints
    spec.parameters.update(_pairs(args.parameter, "-p"))
    spec.env.update(_pairs(args.env, "--env"))


def _pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidRequest.of(option, f"{text!r} is not KEY=VALUE")
        pairs[key] = value
    return pairs
