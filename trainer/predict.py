"""Classifies pictures, or rows of tables, with an exported model.

    python -m trainer.predict MODEL_DIR FILE... [--top K] [--output text|json]

MODEL_DIR is a job's output folder or the SavedModel in it. Answers every file that it can and
names those that it cannot; the exit code is 0 if all went well and 1 if any file failed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXIT_SOME_FAILED = 1
EXIT_NO_MODEL = 2


class NotAModel(Exception):
    """The folder holds no model that this program can use."""


class BadFile(Exception):
    """A file cannot be answered; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one picture or row: (class, probability), best first, or values."""

    file: str
    row: int | None
    classes: tuple[tuple[str, float], ...] = ()
    values: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON fields."""
        fields: dict[str, Any] = {"file": self.file}
        if self.row is not None:
            fields["row"] = self.row
        if self.classes:
            fields["predictions"] = [{"class": c, "probability": p} for c, p in self.classes]
        else:
            fields["values"] = list(self.values)
        return fields

    def to_text(self) -> str:
        """Return the answer as one line."""
        place = self.file if self.row is None else f"{self.file}:{self.row}"
        if self.classes:
            said = "  ".join(f"{name} {probability:.2%}" for name, probability in self.classes)
        else:
            said = "  ".join(f"{value:.6g}" for value in self.values)
        return f"{place}: {said}"


class Model:
    """An exported model, loaded."""

    def __init__(self, folder: Path) -> None:
        """Load it. Raises NotAModel."""
        root = folder if (folder / "model.json").is_file() else folder.parent
        try:
            self._description = json.loads((root / "model.json").read_text())
            inputs = self._description["inputs"]
        except (OSError, ValueError, KeyError) as error:
            raise NotAModel(
                f"{folder}: no exported model; give the output folder of a job, which holds "
                f"model.json ({error})"
            ) from error
        with _no_greetings():
            import tensorflow as tf

        self._tf = tf
        try:
            with _no_greetings():
                self._loaded = tf.saved_model.load(str(root / "model"))
        except (OSError, tf.errors.OpError) as error:
            raise NotAModel(f"{root / 'model'}: cannot be loaded: {error}") from error
        self._serve = self._loaded.signatures["serving_default"]
        self._kind = inputs["kind"]
        self._columns = tuple(inputs.get("columns", ()))
        self._channels = int(inputs.get("channels", 0))
        if self._kind not in ("image", "table"):
            raise NotAModel(
                f"{folder}: takes plain tensors; set Task.inputs to ImageInput or TableInput for "
                "a model that takes files"
            )

    def answer(self, file: str, top: int) -> list[Answer]:
        """Return the answers to a file. Raises BadFile."""
        try:
            if self._kind == "image":
                said = self._serve(images=self._picture(file))
                return self._answers(file, said, (None,), top)
            numbers, rows = self._rows(file)
            return self._answers(file, self._serve(rows=rows), numbers, top)
        except OSError as error:
            raise BadFile(error.strerror or str(error)) from error

    def _picture(self, file: str) -> Any:
        content = Path(file).read_bytes()
        try:
            self._tf.io.decode_image(content, channels=self._channels, expand_animations=False)
        except self._tf.errors.OpError as error:
            raise BadFile("not a picture (JPEG, PNG, GIF or BMP)") from error
        return self._tf.constant([content])

    def _rows(self, file: str) -> tuple[list[int], Any]:
        """Return line numbers and values of a CSV file with a header."""
        numbers: list[int] = []
        rows: list[list[float]] = []
        try:
            with open(file, newline="", encoding="utf-8-sig") as stream:
                reader = csv.DictReader(stream)
                missing = [c for c in self._columns if c not in (reader.fieldnames or ())]
                if missing:
                    raise BadFile(
                        f"no column {missing[0]!r}; the first line must name "
                        f"{', '.join(self._columns)}"
                    )
                for line in reader:
                    rows.append([_number(line[c], c, reader.line_num) for c in self._columns])
                    numbers.append(reader.line_num)
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadFile(f"not a CSV file: {error}") from error
        if not rows:
            raise BadFile("holds no row")
        return numbers, self._tf.constant(rows, self._tf.float32)

    def _answers(
        self, file: str, said: Any, numbers: Sequence[int | None], top: int
    ) -> list[Answer]:
        if "probabilities" not in said:
            values = said["values"].numpy().reshape(len(numbers), -1)
            return [
                Answer(file, n, values=tuple(map(float, v)))
                for n, v in zip(numbers, values, strict=True)
            ]
        answers = []
        for number, probabilities, classes in zip(
            numbers, said["probabilities"].numpy(), said["classes"].numpy(), strict=True
        ):
            best = probabilities.argsort()[::-1][:top]
            pairs = tuple((classes[i].decode(), float(probabilities[i])) for i in best)
            answers.append(Answer(file, number, classes=pairs))
        return answers


def _number(text: str | None, column: str, line: int) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise BadFile(f"line {line}, column {column!r}: {text!r} is not a number") from None


@contextmanager
def _no_greetings() -> Iterator[None]:
    """Within, what TensorFlow's native code prints about the CPU does not reach the terminal.

    It writes to the file descriptor, before its own settings are read. When something fails, all
    that was held back is shown.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def main(argv: Sequence[str]) -> int:
    """Answer the files named on the command line."""
    parser = argparse.ArgumentParser(
        prog="trainer.predict", description="Classify files with an exported model."
    )
    parser.add_argument("model", type=Path, help="output folder of a job, or the model in it")
    parser.add_argument("files", nargs="+", help="pictures, or CSV files for a model of tables")
    parser.add_argument("--top", type=int, default=3, help="how many classes to name (3)")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        model = Model(arguments.model)
    except NotAModel as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NO_MODEL
    failed = False
    for file in arguments.files:
        try:
            answers = model.answer(file, max(1, arguments.top))
        except BadFile as error:
            failed = True
            _show_error(file, str(error), arguments.output)
            continue
        for answer in answers:
            text = json.dumps(answer.to_json()) if arguments.output == "json" else answer.to_text()
            sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return EXIT_SOME_FAILED if failed else 0


def _show_error(file: str, why: str, output: str) -> None:
    if output == "json":
        sys.stdout.write(f"{json.dumps({'file': file, 'error': why})}\n")
    else:
        sys.stderr.write(f"{file}: {why}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
