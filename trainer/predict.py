"""Answers for files with an exported model: pictures, or rows of tables.

    python -m trainer.predict MODEL_DIR FILE|FOLDER... [--top K] [--output text|json|lines]

MODEL_DIR is what trainer.exported takes. Answers every file that it can and names those that it
cannot; the exit code is 0 if all went well and 1 if any file failed. `--output lines` is for a
program that shows the answers itself: as json, each with its line of text in "text", after a first
line {"files": N}.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import exported, rows
from trainer.exported import NotAModel

EXIT_SOME_FAILED = 1
EXIT_NO_MODEL = 2
# What is looked for in a folder; a file that is named is read whatever it is called.
_ENDINGS = {
    "image": frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp"}),
    "table": frozenset({".csv"}),
}
# Pictures, and rows, asked about at once: few calls, little memory.
_BATCH, _ROWS = 32, 4096


class BadFile(Exception):
    """A file cannot be answered; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one picture or row: (class, probability), best first, or values.

    Or, for a file or row that it cannot answer, the error.
    """

    file: str
    row: int | None
    classes: tuple[tuple[str, float], ...] = ()
    values: tuple[float, ...] = ()
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON fields."""
        fields: dict[str, Any] = {"file": self.file}
        if self.row is not None:
            fields["row"] = self.row
        if self.error:
            fields["error"] = self.error
        elif self.classes:
            fields["predictions"] = [{"class": c, "probability": p} for c, p in self.classes]
        else:
            fields["values"] = list(self.values)
        return fields

    def to_text(self) -> str:
        """Return the answer as one line."""
        place = self.file if self.row is None else f"{self.file}:{self.row}"
        if self.error:
            return f"{place}: {self.error}"
        if self.classes:
            said = "  ".join(f"{name} {probability:.2%}" for name, probability in self.classes)
        else:
            said = "  ".join(f"{value:.6g}" for value in self.values)
        return f"{place}: {said}"


class Model:
    """An exported model that takes files."""

    def __init__(self, folder: Path) -> None:
        """Load it. Raises NotAModel."""
        loaded = exported.load(folder)
        import tensorflow as tf

        self._tf = tf
        if loaded.description is None:
            raise NotAModel(
                f"{folder}: has no {exported.DESCRIPTION}, which says what files the model takes; "
                "give the output folder of a job"
            )
        self.kind = loaded.description.kind
        self._columns = loaded.description.columns
        if self.kind not in _ENDINGS:
            raise NotAModel(
                f"{folder}: takes plain tensors; set Task.inputs to ImageInput or TableInput for "
                "a model that takes files"
            )
        self._loaded = loaded
        self._serve = loaded.signatures[exported.SERVING]

    def answers(self, files: Sequence[str], top: int) -> Iterator[Answer]:
        """Yield the answers to the files in order: one to a picture, one to a row of a table."""
        if self.kind == "table":
            for file in files:
                yield from self._table(file, top)
            return
        for first in range(0, len(files), _BATCH):
            yield from self._pictures(files[first : first + _BATCH], top)

    def _pictures(self, files: Sequence[str], top: int) -> Iterator[Answer]:
        contents = [_content(file) for file in files]
        whole = [c for c in contents if isinstance(c, bytes)]
        try:
            said = iter(self._ask(whole))
        except self._tf.errors.OpError:
            # One of them is no picture, and the error does not say which.
            said = iter([self._alone(content) for content in whole])
        for file, content in zip(files, contents, strict=True):
            answer = content if isinstance(content, BadFile) else next(said)
            if isinstance(answer, BadFile):
                yield Answer(file, None, error=str(answer))
            else:
                yield from self._answers(file, answer, (None,), top)

    def _ask(self, contents: Sequence[bytes]) -> Sequence[dict[str, Any] | BadFile]:
        """Return what the model says to each picture: rows of its outputs."""
        if not contents:
            return []
        said = self._serve(images=self._tf.constant(contents))
        arrays = {name: tensor.numpy() for name, tensor in said.items()}
        return [
            {name: array[i : i + 1] for name, array in arrays.items()} for i in range(len(contents))
        ]

    def _alone(self, content: bytes) -> dict[str, Any] | BadFile:
        try:
            return self._ask([content])[0]
        except self._tf.errors.OpError:
            return BadFile("not a picture (JPEG, PNG, GIF or BMP), or a damaged one")

    def _table(self, file: str, top: int) -> Iterator[Answer]:
        """Yield the answers to the rows of a CSV file, in their order."""
        try:
            read = rows.read(file, self._columns)
            while block := list(itertools.islice(read, _ROWS)):
                yield from self._block(file, block, top)
        except rows.NotATable as error:
            yield Answer(file, None, error=str(error))
        except OSError as error:
            yield Answer(file, None, error=error.strerror or str(error))

    def _block(self, file: str, block: Sequence[rows.Row], top: int) -> Iterator[Answer]:
        good = [row for row in block if not row.error]
        answers: Iterator[Answer] = iter(())
        if good:
            values = self._tf.constant([row.values for row in good], self._tf.float32)
            said = {name: tensor.numpy() for name, tensor in self._serve(rows=values).items()}
            answers = iter(self._answers(file, said, [row.line for row in good], top))
        for row in block:
            yield Answer(file, row.line, error=row.error) if row.error else next(answers)

    def _answers(
        self, file: str, said: dict[str, Any], numbers: Sequence[int | None], top: int
    ) -> list[Answer]:
        if "probabilities" not in said:
            values = said["values"].reshape(len(numbers), -1)
            return [
                Answer(file, n, values=tuple(map(float, v)))
                for n, v in zip(numbers, values, strict=True)
            ]
        answers = []
        for number, probabilities, classes in zip(
            numbers, said["probabilities"], said["classes"], strict=True
        ):
            best = (-probabilities).argsort(kind="stable")[:top]
            pairs = tuple((classes[i].decode(), float(probabilities[i])) for i in best)
            answers.append(Answer(file, number, classes=pairs))
        return answers


def _content(file: str) -> bytes | BadFile:
    try:
        return Path(file).read_bytes()
    except IsADirectoryError:
        return BadFile(f"a folder without pictures ({', '.join(sorted(_ENDINGS['image']))})")
    except OSError as error:
        return BadFile(error.strerror or str(error))


def expand(places: Sequence[str], kind: str) -> list[str]:
    """Return all files, with those of folders in the place of the folder, sorted by path.

    Of a folder those count whose ending says that the model takes them; hidden ones do not. A
    folder without any stays, and is answered as a file that cannot be read.
    """
    found: list[str] = []
    for place in places:
        inside = sorted(
            os.path.join(parent, file)
            for parent, file in _walk(place)
            if os.path.splitext(file)[1].lower() in _ENDINGS[kind]
        )
        found += inside or [place]
    return found


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from ((parent, name) for name in files if not name.startswith("."))


def main(argv: Sequence[str]) -> int:
    """Answer the files named on the command line."""
    parser = argparse.ArgumentParser(
        prog="trainer.predict", description="Answers for files with an exported model."
    )
    parser.add_argument("model", type=Path, help="output folder of a job, or the model in it")
    parser.add_argument(
        "files", nargs="+", help="pictures, or CSV files for a model of tables; folders of them"
    )
    parser.add_argument("--top", type=int, default=3, help="how many classes to name (3)")
    parser.add_argument("--output", choices=("text", "json", "lines"), default="text")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        model = Model(arguments.model)
    except NotAModel as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NO_MODEL
    files = expand(arguments.files, model.kind)
    if arguments.output == "lines":
        _show(json.dumps({"files": len(files)}))
    failed = False
    for answer in model.answers(files, max(1, arguments.top)):
        failed = failed or bool(answer.error)
        if arguments.output == "lines":
            _show(json.dumps({**answer.to_json(), "text": answer.to_text()}))
        elif arguments.output == "json":
            _show(json.dumps(answer.to_json()))
        elif answer.error:
            sys.stderr.write(f"{answer.to_text()}\n")
        else:
            _show(answer.to_text())
    return EXIT_SOME_FAILED if failed else 0


def _show(line: str) -> None:
    """Write a line at once: whoever reads it may show how far this is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
