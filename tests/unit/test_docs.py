"""The documentation says what is true: its Python runs, and its commands are commands."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from taas import cli
from trainer import metrics
from trainer import task as api

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("README.md", "docs/**/*.md", "examples/**/README.md", "benchmarks/README.md")
    for path in ROOT.glob(pattern)
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(taas [^`]+)`")
_COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/|\$\(BIN\)/)?taas ([-a-z].+)$")


def _blocks(language: str, pages: list[Path] = PAGES) -> list[Any]:
    """Return the fenced blocks of a language, named by page and line."""
    found = []
    for page in pages:
        text = page.read_text("utf-8")
        for match in _FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def _commands() -> list[Any]:
    """Return the arguments of every `taas ...` line of pages, examples and the Makefile."""
    found = []
    for page in [*PAGES, *sorted(ROOT.glob("examples/*/*.py")), ROOT / "Makefile"]:
        text = page.read_text("utf-8")
        fenced = [m[2] for m in _FENCE.finditer(text) if m[1] in ("", "sh")]
        lines = [line.strip() for block in fenced for line in block.splitlines()]
        if page.suffix != ".md":
            lines = [line.strip() for line in text.splitlines()]
        else:
            lines += _INLINE.findall(_FENCE.sub("", text).replace("\n", " "))
        for line in lines:
            match = _COMMAND.match(line)
            if match:
                found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}: {line}"))
    return found


@pytest.mark.parametrize("arguments", _commands())
def test_every_command_line_is_one(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(arguments, comments=True)
    # Prose speaks of a command by its name alone.
    words += ["--help"] if len(words) == 1 else []
    code: Any = 0
    try:
        cli._parser().parse_args(words)
    except SystemExit as leaving:
        code = leaving.code
    assert code == 0, capsys.readouterr().err


@contextlib.contextmanager
def _program() -> Iterator[None]:
    """Undo what importing a task module does to the process."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        sys.modules.pop(api.MODULE_NAME, None)


def _photos(folder: Path) -> None:
    for place, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            picture = np.full((20, 20, 3), 12 * number + place, np.uint8)
            (folder / name / f"{number}.png").write_bytes(tf.io.encode_png(picture).numpy())


def test_there_is_something_to_check() -> None:
    assert len(_blocks("python", [ROOT / "README.md"])) >= 2
    assert len(_blocks("python", [ROOT / "docs/tasks.md"])) >= 4
    assert len(_commands()) > 30


@pytest.mark.parametrize("code", _blocks("python"))
def test_python_runs(code: str, tmp_path: Path) -> None:
    """Definitions and imports run; a task is loaded and its model asked and judged once."""
    if "def task(" not in code:
        # Blocks that call a service are read only.
        program = compile(code, "docs", "exec")
        if "taas.Client" not in code:
            exec(program, {})
        return
    (tmp_path / "task.py").write_text(code)
    _photos(tmp_path / "photos")
    with _program():
        made = api.load(tmp_path, "task.py", {})
        features, labels = made.train.fetch(np.arange(2))
        if isinstance(made.inputs, api.ImageInput):
            features = tf.cast(features, tf.float32) * made.inputs.scale + made.inputs.offset
        outputs = made.model()(features)
        made.optimizer()
        losses = metrics.per_example(made.loss)(labels, outputs).numpy()
    assert losses.shape == (2,)
    assert np.all(np.isfinite(losses))
    assert made.classes is not None
    assert outputs.shape == (2, len(made.classes))


def test_the_augmentation_shown_treats_each_picture_by_itself(tmp_path: Path) -> None:
    (block,) = (b for b in _blocks("python") if "def mirrored(" in b.values[0])
    shown: dict[str, Any] = {}
    exec(compile(block.values[0], "docs", "exec"), shown)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            picture = np.zeros((96, 96, 3), np.uint8)
            picture[:, :48] = 40 * number + 60
            encoded = tf.io.encode_png(picture).numpy()
            (tmp_path / name / f"{number}.png").write_bytes(encoded)
    examples = shown["training_photos"](tmp_path)
    together, _ = examples.fetch(np.arange(8))
    alone = [examples.fetch(np.array([i]))[0][0] for i in range(8)]
    np.testing.assert_array_equal(together, np.stack(alone))
    # Some are mirrored, some are not.
    assert (
        len({bool(picture[0, 0, 0] > 0) for picture in together.numpy()[[1, 2, 3, 5, 6, 7]]}) == 2
    )
