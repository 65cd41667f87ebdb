"""Commands that follow a job: watch and logs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from protos.taas.v1.history_pb2 import Event
from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED, TrainingJob
from taas import names, picture, plain, units
from taas.cli.context import Context, ExitCode, Out
from taas.client import Client
from taas.display import LiveDisplay
from taas.errors import NotFound, ServiceUnavailable
from taas.picture import Picture


class Display(Protocol):
    """Shows events of a job, in whatever form."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...

    def event(self, event: Event) -> None:
        """Show an event."""

    def lost(self, why: str) -> None:
        """Show that the service went away; called once an outage."""

    def back(self) -> None:
        """Show that the service answers again."""


class Outages:
    """Makes one piece of news of each outage, however many tries it takes to get over it."""

    def __init__(self, lost: Callable[[str], None], back: Callable[[], None]) -> None:
        self._say_lost = lost
        self._say_back = back
        self._away = False

    def lost(self, error: ServiceUnavailable) -> None:
        """Hear of a failed try."""
        if not self._away:
            self._away = True
            why = str(error) if error.answered else "the service does not answer"
            self._say_lost(f"{why}; reconnecting")

    def back(self) -> None:
        """Hear that answers come again."""
        if self._away:
            self._away = False
            self._say_back()


class JsonDisplay:
    """Writes each event as one JSON object."""

    def __init__(self, out: Out) -> None:
        self._out = out

    def __enter__(self) -> JsonDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        """Every line is out already."""

    def event(self, event: Event) -> None:
        """Show an event."""
        self._out.item(event=event)

    def lost(self, why: str) -> None:
        """Show that the service went away, where it is no part of the stream."""
        self._out.note(why)

    def back(self) -> None:
        """Show that the service answers again."""
        self._out.note("connected again")


def register(commands: Any, common: Any) -> None:
    """Add the commands to the parser."""
    watch = commands.add_parser(
        "watch",
        parents=[common],
        help="show a job's progress until it ends",
        description="Shows a job's history from its beginning, then what happens, until it ends. "
        "Ctrl-C leaves the job running.",
        epilog="example: taas watch mnist --output json | jq .event.record.progress.loss",
    )
    watch.add_argument("name", metavar="NAME", help="job, as NAME or NAMESPACE/NAME")
    watch.add_argument("--from-now", action="store_true", help="leave out what happened before")
    watch.add_argument("--cursor", default="", help="go on after the event with this cursor")
    watch.set_defaults(run=run_watch)

    logs = commands.add_parser(
        "logs",
        parents=[common],
        help="print what the workers printed",
        description="Prints what the workers printed, also after they are gone.",
        epilog="example: taas logs mnist --worker 1 --tail 50 -f",
    )
    logs.add_argument("name", metavar="NAME", help="job, as NAME or NAMESPACE/NAME")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    logs.add_argument("--worker", type=int, default=-1, metavar="INDEX", help="only this worker")
    logs.add_argument("--tail", type=int, default=0, metavar="N", help="only the last N lines each")
    logs.set_defaults(run=run_logs)


def run_watch(ctx: Context) -> ExitCode:
    """Watch a job."""
    args = ctx.args
    with ctx.client() as client:
        job = client.get(args.name)
        seen, code = follow(ctx, client, job, cursor=args.cursor, from_now=args.from_now)
        if seen is None:
            return code
        with watched(ctx, job):
            job = client.get(job.name)
        return end_of(ctx, job)


def follow(
    ctx: Context,
    client: Client,
    job: TrainingJob,
    *,
    cursor: str = "",
    from_now: bool = False,
    on_lost: Callable[[ServiceUnavailable], None] | None = None,
) -> tuple[Picture | None, ExitCode]:
    """Show a job until it is final; return what was seen of it, None if Ctrl-C ended it."""
    seen = picture.of_job(job) if cursor or from_now else Picture()
    display = _display(ctx, ctx.short(job.name), seen)
    outages = Outages(display.lost, display.back)

    def lost(error: ServiceUnavailable) -> None:
        outages.lost(error)
        if on_lost is not None:
            on_lost(error)

    try:
        with display, watched(ctx, job):
            for event in client.watch(
                job.name, cursor=cursor, from_now=from_now, on_lost=lost, on_back=outages.back
            ):
                seen = seen.after(event)
                display.event(event)
    except KeyboardInterrupt:
        return None, left(ctx, job)
    return seen, ExitCode.OK


def left(ctx: Context, job: TrainingJob) -> ExitCode:
    """Say that a job goes on although its watcher leaves, and how to come back."""
    name = ctx.short(job.name)
    back = ctx.command(f"watch {name}")
    ctx.out.note(f"\n{name} goes on running; to come back: {back}")
    return ExitCode.INTERRUPTED


@contextlib.contextmanager
def watched(ctx: Context, job: TrainingJob) -> Iterator[None]:
    """Within, a job that is not there was deleted: this command has seen it."""
    try:
        yield
    except NotFound as error:
        raise NotFound(f"{ctx.short(job.name)} was deleted", job.name) from error


def end_of(ctx: Context, job: TrainingJob) -> ExitCode:
    """Say how a job ended, and return the exit code for that."""
    if ctx.out.as_json:
        ctx.out.item(job=job)
    else:
        took = ""
        if job.status.start_time.seconds and job.status.completion_time.seconds:
            span = units.aware(job.status.completion_time) - units.aware(job.status.start_time)
            took = f" after {units.duration(span.total_seconds())}"
        name, phase = ctx.short(job.name), names.phase_name(job.status.phase).lower()
        ctx.out.line(f"{name} {phase}{took}")
    if job.status.phase == PHASE_SUCCEEDED:
        return ExitCode.OK
    if not names.is_final(job.status.phase):
        raise ServiceUnavailable("the service ended the stream before the job ended; watch again")
    return ExitCode.JOB_FAILED


def run_logs(ctx: Context) -> ExitCode:
    """Print logs."""
    args, out = ctx.args, ctx.out
    with ctx.client() as client:
        job = client.get(args.name)
        labelled = args.worker < 0 and job.spec.workers > 1
        outages = Outages(out.note, lambda: out.note("connected again"))
        try:
            for piece in client.logs(
                args.name,
                worker=args.worker,
                follow=args.follow,
                tail_lines=args.tail,
                on_lost=outages.lost,
                on_back=outages.back,
            ):
                if out.as_json:
                    out.item(log=piece)
                elif labelled:
                    for line in piece.text.splitlines():
                        out.line(f"[worker {piece.worker}] {line}")
                else:
                    out.line(piece.text.removesuffix("\n"))
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
    return ExitCode.OK


def _display(ctx: Context, title: str, seen: Picture) -> Display:
    if ctx.out.as_json:
        return JsonDisplay(ctx.out)
    if ctx.out.terminal:
        return LiveDisplay(ctx.out.console, title, seen)
    return plain.PlainDisplay(ctx.out.line, ctx.out.note, ctx.now)
