"""What is written of each pair, as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.pairs import Comparison
from benchmarks.rates import Rate, Spread, a_worker, cpu_ms_for
from benchmarks.training.choices import CHOICES, Pair, Setting


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a pair: a comparison, or why there is none."""

    pair: Pair
    found: Comparison | None
    failure: str = ""

    @property
    def ratio(self) -> Spread | None:
        """Our rate by theirs over the blocks."""
        if self.found is None:
            return None
        return Spread.of(block.rate_ratio for block in self.found.blocks)

    @property
    def good_enough(self) -> bool | None:
        """Whether the bar is reached; None where there is no bar, or no ratio."""
        if self.pair.bar is None or self.ratio is None:
            return None
        return self.ratio.median >= self.pair.bar


def lines(outcomes: Sequence[Outcome], setting: Setting) -> Iterator[str]:
    """Yield the lines of the table."""
    yield (
        "| ours | theirs | rate, ours / theirs | bar | examples/s "
        f"| CPU ms / {setting.batch} examples | MiB a worker |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for outcome in outcomes:
        yield f"| {' | '.join(_cells(outcome, setting))} |"


def _cells(outcome: Outcome, setting: Setting) -> list[str]:
    pair, found, ratio = outcome.pair, outcome.found, outcome.ratio
    names = [CHOICES[pair.ours].title, CHOICES[pair.theirs].title]
    if found is None or ratio is None:
        # Of a reason the last line says most.
        reason = outcome.failure.strip().splitlines()[-1:] or ["failed"]
        return [*names, reason[0].replace("|", "/"), *[""] * 4]
    ours = [block.ours for block in found.blocks]
    theirs = [block.theirs for block in found.blocks]
    both = (
        _figures(pair.ours, ours, found.memory_mib[0], setting),
        _figures(pair.theirs, theirs, found.memory_mib[1], setting),
    )
    return [
        *names,
        ratio.text(2),
        "" if pair.bar is None else f"{pair.bar:g}, {'met' if outcome.good_enough else 'missed'}",
        *(f"{of_ours} / {of_theirs}" for of_ours, of_theirs in zip(*both, strict=True)),
    ]


def _figures(
    name: str, rates: Sequence[Rate], memory_mib: dict[str, float], setting: Setting
) -> list[str]:
    choice = CHOICES[name]
    examples = Spread.of(rate.examples_per_s for rate in rates).median
    cpu = cpu_ms_for(rates, setting.batch, batch=choice.batch(setting))
    return [f"{examples:,.0f}", f"{cpu:.2f}", f"{a_worker(memory_mib, choice.workers):.0f}"]
