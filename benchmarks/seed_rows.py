"""The rows of the table of results: what is run, what the recipe reaches, what is due. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# What `taas run` is given, below examples/.
FC = "mnist_fully_connected/job.yaml"
# Numbers of workers in the table.
WORKERS = (1, 2, 3)
# What chance may do to a result: the standard error of the difference of two accuracies near 0.98
# over 10,000 digits.
CHANCE = 0.002

# Results of one row by number of workers, as in the JSON file.
Cells = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A system: how it is run, and what of it is compared with what.

    `measure` is "DATASET/METRIC", the newest evaluation of a data set, or "ask/FILE", the model's
    answers to a table beside the program. `goal` is what the recipe reaches: at least that for
    "higher", at most that for "lower", within `slack` for "close".
    """

    key: str
    title: str
    source: str
    measure: str
    recipe: str
    goal: tuple[float, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    sense: Literal["higher", "lower", "close"] = "higher"
    slack: float = 0.0

    @property
    def command(self) -> str:
        """What a user types, without the number of workers."""
        options = "".join(f" -p {name}={value}" for name, value in self.parameters.items())
        return f"taas run examples/{self.source}{options}"

    def reaches(self, values: Sequence[float]) -> bool:
        """Say whether a result is as good as the recipe's."""
        pairs = list(zip(values, self.goal, strict=True))
        if self.sense == "higher":
            return all(value >= goal - self.slack for value, goal in pairs)
        if self.sense == "lower":
            return all(value <= goal + self.slack for value, goal in pairs)
        return all(abs(value - goal) <= self.slack for value, goal in pairs)


def _ablation(key: str, title: str, goal: float, **parameters: str) -> Row:
    """A row of the fully connected net; the recipe says about how much it reaches."""
    text = f"about {goal}"
    return Row(key, title, FC, "test/accuracy", text, (goal,), parameters=parameters, slack=CHANCE)


FULL = Row(
    "fully-connected",
    "MNIST, fully connected",
    FC,
    "test/accuracy",
    "test accuracy 0.982",
    (0.982,),
)
# In the order of the recipe's results; in a row those that it has alike.
ABLATIONS = (
    (FULL, _ablation("no-average", "the same without moving average", 0.982, ema="none")),
    (_ablation("no-l2", "the same without L2", 0.981, l2="0"),),
    (
        _ablation(
            "fixed-rate", "the same, learning rate fixed", 0.974, learning_rate="0.1", decay="1"
        ),
    ),
    (
        _ablation(
            "no-activation",
            "the same without activation",
            0.915,
            activation="linear",
            learning_rate="0.01",
        ),
    ),
    (
        _ablation(
            "no-hidden", "the same without hidden layer", 0.892, hidden="0", learning_rate="0.01"
        ),
    ),
)
ROWS = (
    Row("iris", "Iris", "iris", "test/accuracy", "test accuracy 0.93", (0.93,)),
    Row(
        "parts-crossentropy",
        "Parts inspection, cross entropy",
        "parts_inspection",
        "test/accuracy",
        "test accuracy 0.95",
        (0.95,),
    ),
    Row(
        "parts-mse",
        "Parts inspection, mean squared error",
        "parts_inspection",
        "test/accuracy",
        "test accuracy 0.95",
        (0.95,),
        parameters={"loss": "mse"},
    ),
    Row(
        "custom-loss-little",
        "Custom loss, too little is dear",
        "custom_loss",
        "ask/unit_rows.csv",
        "weights about 1.02, 1.04",
        (1.02, 1.04),
        sense="close",
        slack=0.01,
    ),
    Row(
        "custom-loss-much",
        "Custom loss, too much is dear",
        "custom_loss",
        "ask/unit_rows.csv",
        "weights about 0.96, 0.98",
        (0.96, 0.98),
        parameters={"too_little": "1", "too_much": "10"},
        sense="close",
        slack=0.01,
    ),
    Row("sine", "Recurrent: sine", "sine", "test/rmse", "test RMSE 0.005", (0.005,), sense="lower"),
    *(row for rank in ABLATIONS for row in rank),
    Row("lenet5", "LeNet-5", "mnist_lenet5", "test/accuracy", "test accuracy 0.99", (0.99,)),
    Row(
        "best-practice",
        "MNIST, best practice",
        "mnist_best_practice/job.yaml",
        "validation/accuracy",
        "validation accuracy 0.985",
        (0.985,),
    ),
)


def due(
    rows: Iterable[Row],
    workers: Sequence[int],
    results: Mapping[str, Cells],
    fingerprints: Mapping[str, str],
) -> Iterator[tuple[Row, int]]:
    """Yield what has no result of the present program yet, row by row."""
    for row in rows:
        for number in workers:
            cell = results.get(row.key, {}).get(str(number))
            if cell is None or cell["fingerprint"] != fingerprints[row.key]:
                yield row, number


def apart(losses: Mapping[str, float], others: Mapping[str, float]) -> float | None:
    """Return the largest difference of two loss curves (by step) at the steps both have."""
    steps = losses.keys() & others.keys()
    return max((abs(losses[s] - others[s]) for s in steps), default=None)


def out_of_order(results: Mapping[str, Cells], workers: int) -> list[str]:
    """Return where a result stands above one that the recipe has above it, beyond chance."""
    seen = [
        [
            (row.key, results[row.key][str(workers)]["values"][0])
            for row in rank
            if _has(results, row, workers)
        ]
        for rank in ABLATIONS
    ]
    return [
        f"{low} {value:.4f} is above {high} {better:.4f}"
        for i, better_rank in enumerate(seen)
        for high, better in better_rank
        for worse_rank in seen[i + 1 :]
        for low, value in worse_rank
        if value > better + CHANCE
    ]


def _has(results: Mapping[str, Cells], row: Row, workers: int) -> bool:
    return str(workers) in results.get(row.key, {})


def table(results: Mapping[str, Cells]) -> str:
    """Return the Markdown table of all results; what was not seen is "not run"."""
    head = ["system", "recipe", *(_plural(n) for n in WORKERS), "command"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in ROWS:
        cells = [_cell(row, results.get(row.key, {}).get(str(n))) for n in WORKERS]
        lines.append(_line([row.title, row.recipe, *cells, f"`{row.command}`"]))
        if row is FULL:
            lines.append(_line(_curve_line(results.get(row.key, {}))))
    return "\n".join(lines)


def _cell(row: Row, cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "not run"
    text = ", ".join(f"{value:.4f}" for value in cell["values"])
    return text if row.reaches(cell["values"]) else f"**{text}**"


def _curve_line(cells: Cells) -> list[str]:
    """Return the row about synchronous training: how far each curve is from one worker's."""
    alone = cells.get("1")
    found = []
    for number in WORKERS[1:]:
        cell = cells.get(str(number))
        distance = apart(alone["losses"], cell["losses"]) if alone and cell else None
        found.append("not run" if distance is None else f"{distance:.1e} apart")
    title = "the same, its loss curve"
    return [title, "that of one worker", "0", *found, f"`{FULL.command} --workers 2`"]


def _plural(number: int) -> str:
    return f"{number} worker{'s' if number > 1 else ''}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
