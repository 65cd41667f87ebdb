"""The live display of one job on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from protos.taas.v1.history_pb2 import Event, Record, StateChange, WorkerChange
from protos.taas.v1.job_pb2 import (
    PHASE_CANCELLED,
    PHASE_FAILED,
    PHASE_PENDING,
    PHASE_RESTARTING,
    PHASE_RUNNING,
    PHASE_STARTING,
    PHASE_SUCCEEDED,
    PHASE_SUSPENDED,
    PHASE_SUSPENDING,
    WORKER_STATE_DONE,
    WORKER_STATE_LOST,
    WORKER_STATE_PENDING,
    WORKER_STATE_READY,
    WORKER_STATE_RUNNING,
    Failure,
    LostTime,
    Phase,
    Progress,
    RestartCost,
    WorkerState,
)
from taas import names, plain, units
from taas.picture import Picture, Worker

PHASE_STYLES: Mapping[Phase, str] = {
    PHASE_PENDING: "yellow",
    PHASE_STARTING: "yellow",
    PHASE_RUNNING: "bold green",
    PHASE_RESTARTING: "bold yellow",
    PHASE_SUSPENDING: "yellow",
    PHASE_SUSPENDED: "yellow",
    PHASE_SUCCEEDED: "bold green",
    PHASE_FAILED: "bold red",
    PHASE_CANCELLED: "bold red",
}
_WORKER_STYLES: Mapping[WorkerState, str] = {
    WORKER_STATE_PENDING: "yellow",
    WORKER_STATE_READY: "cyan",
    WORKER_STATE_RUNNING: "green",
    WORKER_STATE_DONE: "green",
    WORKER_STATE_LOST: "red",
}
# More workers than this are counted by state instead of shown one by one.
_FEW_WORKERS = 8
# Fast enough to look live, slow enough for a line to a distant machine.
_FRAMES_PER_S = 8


class LiveDisplay:
    """Shows a job's state in a few lines that are drawn over, and what matters in lines that stay.

    Used as a context; the last state stays on the screen.
    """

    def __init__(self, console: Console, title: str, picture: Picture) -> None:
        self._console = console
        self._title = title
        self._picture = picture
        # Why the service does not answer, while it does not.
        self._lost = ""
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=_FRAMES_PER_S
        )

    def __enter__(self) -> LiveDisplay:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: Event) -> None:
        """Show an event."""
        self._picture = self._picture.after(event)
        for line in _lasting_lines(event):
            self._console.print(line)

    def lost(self, why: str) -> None:
        """Show that the service went away, until it is back."""
        self._lost = why

    def back(self) -> None:
        """Show that the service answers again."""
        self._lost = ""

    def _render(self) -> RenderableType:
        picture = self._picture
        rows: list[RenderableType] = [self._header()]
        if picture.progress is not None:
            rows.extend(_progress_rows(picture.progress))
        if picture.workers:
            rows.append(_Workers(picture.workers))
        if picture.checkpoint is not None:
            found = picture.checkpoint
            rows.append(_row("checkpoint", f"step {found.step:,}  {units.size(found.size_bytes)}"))
        if self._lost:
            rows.append(Text(units.harmless(self._lost), style="yellow"))
        return Group(*rows)

    def _header(self) -> Text:
        picture = self._picture
        header = _line()
        header.append(self._title, style="bold")
        header.append("  ")
        header.append(names.phase_name(picture.phase), style=PHASE_STYLES.get(picture.phase, ""))
        if picture.generation:
            header.append(f"  generation {picture.generation}", style="dim")
        if picture.restarts:
            header.append(f"  {units.plural(picture.restarts, 'restart')}", style="yellow")
        if picture.message:
            header.append(f"  {units.harmless(picture.message)}")
        return header


class _Workers:
    """One row of worker states, or counts of them when there are many."""

    def __init__(self, workers: Mapping[int, Worker]) -> None:
        self._workers = workers

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        row = _line("    ")
        row.append("workers  ", style="dim")
        dot = "*" if options.ascii_only else "●"
        for state, text in self._parts():
            row.append(dot, style=_WORKER_STYLES.get(state, ""))
            row.append(f" {text}   ")
        yield row

    def _parts(self) -> Iterator[tuple[WorkerState, str]]:
        if len(self._workers) > _FEW_WORKERS:
            counts = Counter(worker.state for worker in self._workers.values())
            for state, count in sorted(counts.items()):
                yield state, f"{count} {names.worker_state_name(state).lower()}"
            return
        for index, worker in self._workers.items():
            text = f"{index} {names.worker_state_name(worker.state).lower()}"
            # Why it is not there is what a person waits to hear.
            absent = worker.state in (WORKER_STATE_PENDING, WORKER_STATE_LOST)
            yield (
                worker.state,
                f"{text}: {units.harmless(worker.why)}" if (absent and worker.why) else text,
            )


def _progress_rows(progress: Progress) -> Iterator[RenderableType]:
    position = _line()
    position.append(f"step {progress.step:,}")
    if progress.total_steps:
        position.append(f"/{progress.total_steps:,}", style="dim")
    position.append(f"  epoch {progress.epoch:.2f}")
    if progress.examples_per_second > 0:
        position.append(f"  {units.rate(progress.examples_per_second)}", style="cyan")
    if progress.HasField("seconds_left"):
        position.append(f"  {units.duration(progress.seconds_left)} left", style="magenta")
    if progress.starved_fraction >= plain.NOTABLY_STARVED:
        position.append(f"  {progress.starved_fraction:.0%} waiting for input", style="yellow")
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(width=3)
    if progress.total_steps:
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, justify="right")
        share = min(1.0, progress.step / progress.total_steps)
        bar.add_row("", ProgressBar(total=1.0, completed=share), f"{share:4.0%}")
        yield bar
    yield Text("    ").append_text(position)
    values = _line("    ")
    values.append("loss ", style="dim").append(units.number(progress.loss))
    for name, value in sorted(progress.metrics.items()):
        values.append(f"  {units.harmless(name)} ", style="dim").append(units.number(value))
    yield values


def _lasting_lines(event: Event) -> Iterator[Text]:
    """Yield what stays on the screen of an event: what a person would want to find later."""
    match event.WhichOneof("kind"):
        case "state":
            yield from _state_lines(event.state)
        case "worker" if event.worker.to == WORKER_STATE_LOST:
            yield _worker_line(event.worker)
        case "restart":
            yield _cost_line(event.restart)
        case "record":
            yield from _record_lines(event.record)


def _cost_line(cost: RestartCost) -> Text:
    return Text(f"restart after {cost.reason} cost {cost_text(cost.lost)}", style="dim").append(
        f"; {units.plural(cost.steps_recomputed, 'step')} made again"
    )


def cost_text(lost: LostTime) -> str:
    """Return lost time as "2.3 s (detection 0.2 s, start 1.1 s, recompute 1.0 s)"."""
    parts = [(name, seconds) for name, seconds in plain.lost_parts(lost) if seconds >= 0.05]
    shown = ", ".join(f"{name} {units.seconds(seconds)}" for name, seconds in parts)
    total = units.seconds(sum(seconds for _, seconds in plain.lost_parts(lost)))
    return f"{total} ({shown})" if shown else total


def _state_lines(change: StateChange) -> Iterator[Text]:
    failed = change.to in (PHASE_FAILED, PHASE_CANCELLED)
    if change.HasField("failure"):
        yield from failure_lines(change.failure, style="red" if failed else "yellow")
    turned = getattr(change, "from") == change.to
    if turned or change.to in (PHASE_RESTARTING, PHASE_SUSPENDED):
        yield Text(f"{names.phase_name(change.to).lower()}: {units.harmless(change.message)}")


def failure_lines(failure: Failure, *, style: str) -> Iterator[Text]:
    """Yield a failure for people: what happened, then the program's own traceback."""
    where = f"worker {failure.worker}: " if failure.worker >= 0 else ""
    yield Text(
        f"{failure.reason}: {where}{units.harmless(failure.message)}", style=style, no_wrap=False
    )
    for line in plain.traceback_lines(failure):
        yield Text(line, style="dim")


def _worker_line(change: WorkerChange) -> Text:
    why = f": {units.harmless(change.message)}" if change.message else ""
    return Text(f"worker {change.index} was lost{why}", style="yellow")


def _record_lines(record: Record) -> Iterator[Text]:
    match record.WhichOneof("kind"):
        case "evaluation":
            result = record.evaluation
            line = Text(f"{units.harmless(result.dataset)} at step {result.step:,}:")
            for name, value in sorted(result.metrics.items()):
                line.append(f" {units.harmless(name)} ", style="dim").append(units.number(value))
            yield line
        case "restored":
            lender = record.restored.checkpoint.rpartition("/")[0]
            yield Text(
                f"began with the weights of {units.harmless(lender)}"
                if lender
                else f"went on from the checkpoint of step {record.restored.step:,}"
            )
            for skipped in record.restored.skipped:
                yield Text(f"passed over: {units.harmless(skipped)}", style="yellow")
        case "exported":
            model = record.exported
            paths = units.harmless(", ".join(model.paths))
            yield Text(f"exported {paths} ({units.size(model.size_bytes)})")
        case "notice":
            notice = record.notice
            text = units.harmless(f"{notice.reason}: {notice.message}")
            yield Text(text, style="yellow")


def _row(label: str, value: str) -> Text:
    row = _line("    ")
    row.append(f"{label}  ", style="dim").append(value)
    return row


def _line(text: str = "") -> Text:
    """Return a line that is cut at the edge of the terminal instead of wrapped."""
    return Text(text, no_wrap=True, overflow="ellipsis")
