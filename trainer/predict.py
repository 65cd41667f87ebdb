"""Classifies pictures, or rows of tables, with an exported model.

    python -m trainer.predict MODEL_DIR FILE... [--top K] [--output text|json]

MODEL_DIR is a job's output folder or the SavedModel in it. Answers every file that it can and
names those that it cannot; the exit code is 0 if all went well and 1 if any file failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import rows

# Rows answered at once: few calls, little memory.
_ROWS = 4096
EXIT_SOME_FAILED = 1
EXIT_NO_MODEL = 2


class NotAModel(Exception):
    """The folder holds no model that this program can use."""


class BadFile(Exception):
    """A file cannot be answered; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one picture or row: (class, probability), best first, or values.

    Or, for a row that it cannot answer, the error.
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

    def answer(self, file: str, top: int) -> Iterator[Answer]:
        """Yield the answers to a file: one, or one for each row. Raises BadFile."""
        try:
            if self._kind == "image":
                said = self._serve(images=self._picture(file))
                yield from self._answers(file, said, (None,), top)
            else:
                yield from self._table(file, top)
        except OSError as error:
            raise BadFile(error.strerror or str(error)) from error
        except rows.NotATable as error:
            raise BadFile(str(error)) from error

    def _picture(self, file: str) -> Any:
        content = Path(file).read_bytes()
        try:
            self._tf.io.decode_image(content, channels=self._channels, expand_animations=False)
        except self._tf.errors.OpError as error:
            raise BadFile("not a picture (JPEG, PNG, GIF or BMP)") from error
        return self._tf.constant([content])

    def _table(self, file: str, top: int) -> Iterator[Answer]:
        """Yield the answers to the rows of a CSV file, in their order."""
        read = rows.read(file, self._columns)
        while block := list(itertools.islice(read, _ROWS)):
            good = [row for row in block if not row.error]
            answers: Iterator[Answer] = iter(())
            if good:
                values = self._tf.constant([row.values for row in good], self._tf.float32)
                lines = [row.line for row in good]
                answers = iter(self._answers(file, self._serve(rows=values), lines, top))
            for row in block:
                yield Answer(file, row.line, error=row.error) if row.error else next(answers)

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
            for answer in model.answer(file, max(1, arguments.top)):
                failed = failed or bool(answer.error)
                _show(answer, arguments.output)
        except BadFile as error:
            failed = True
            _show_error(file, str(error), arguments.output)
    sys.stdout.flush()
    return EXIT_SOME_FAILED if failed else 0


def _show(answer: Answer, output: str) -> None:
    if output == "json":
        sys.stdout.write(f"{json.dumps(answer.to_json())}\n")
    else:
        stream = sys.stderr if answer.error else sys.stdout
        stream.write(f"{answer.to_text()}\n")


def _show_error(file: str, why: str, output: str) -> None:
    if output == "json":
        sys.stdout.write(f"{json.dumps({'file': file, 'error': why})}\n")
    else:
        sys.stderr.write(f"{file}: {why}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
