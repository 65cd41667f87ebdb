"""What a run has measured: for people as tables, for machines as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.control_plane.measuring import Load, Restart, Submits, Watched

Row = Submits | Load | Watched | Restart

_LOADS = (
    "| jobs running | agents | there after, s | controller, cores | agents, cores | memory, MiB "
    "| carried out, p50 and p99 ms | passes/s | pass late, p99 ms | restarts |"
)
_WATCHED = (
    "| jobs | watchers | events/s | told, p50 and p99 ms | left out, twice | controller, cores "
    "| memory, MiB |"
)


@dataclass
class Report:
    """The rows of a run, in the order in which they came about."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take in a row, and show it."""
        self.rows.append(row)
        print(row, flush=True)

    def document(self) -> dict[str, Any]:
        """Return all rows by kind."""
        kinds = (Submits, Load, Watched, Restart)
        return {
            kind.__name__.lower(): [asdict(row) for row in self.rows if isinstance(row, kind)]
            for kind in kinds
        }

    def lines(self) -> Iterator[str]:
        """Yield the tables, in Markdown."""
        for row in self.rows:
            if isinstance(row, Submits | Restart):
                yield f"- {_sentence(row)}"
        yield from _table(_LOADS, [_load(row) for row in self.rows if isinstance(row, Load)])
        watched = [_watched(row) for row in self.rows if isinstance(row, Watched)]
        yield from _table(_WATCHED, watched)


def _table(head: str, rows: list[str]) -> Iterator[str]:
    yield ""
    yield head
    yield "|" + " --- |" * (head.count("|") - 1)
    yield from rows


def _sentence(row: Submits | Restart) -> str:
    if isinstance(row, Submits):
        return (
            f"{row.jobs:,} submits: {row.per_s.text(0)} a second, the first {row.first_per_s:.0f}, "
            f"the last {row.last_per_s:.0f}; {row.memory_mib:.0f} MiB"
        )
    return (
        f"a restart with {row.agents:,} agents and {row.watchers:,} watchers: answers after "
        f"{row.answers_s:.1f} s, all agents back {row.agents_s:.1f} s, all jobs looked at "
        f"{row.jobs_s:.1f} s, all watchers told {row.watchers_s:.1f} s; {row.restarts} trainings "
        f"restarted, {row.lost_jobs} jobs lost, {row.told.left_out} events left out and "
        f"{row.told.twice} twice of {row.told.events:,}; {row.memory_mib:.0f} MiB"
    )


def _load(row: Load) -> str:
    done = row.carried_out
    cells = (
        f"{row.running:,}",
        f"{row.agents:,}",
        f"{row.settled_s:.1f}",
        f"{row.used.controller:.2f}",
        f"{row.used.agents:.2f}",
        f"{row.used.memory_mib:.0f}",
        f"{done.p50_ms:.0f}, {done.p99_ms:.0f}",
        f"{row.passes_per_s:.0f}",
        f"≤ {1000 * row.late_p99_s:.0f}",
        f"{row.restarts}",
    )
    return f"| {' | '.join(cells)} |"


def _watched(row: Watched) -> str:
    told = row.told
    cells = (
        f"{row.jobs:,}",
        f"{row.watchers:,}",
        f"{told.per_s:.0f}",
        f"{told.delay.p50_ms:.0f}, {told.delay.p99_ms:.0f}",
        f"{told.left_out}, {told.twice}",
        f"{row.used.controller:.2f}",
        f"{row.used.memory_mib:.0f}",
    )
    return f"| {' | '.join(cells)} |"
