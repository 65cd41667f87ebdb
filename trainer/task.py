"""What a user implements: a module with a function `task(params)` that returns a Task.

from dataclasses import dataclass
from pathlib import Path
import keras
from trainer import data
from trainer.task import ImageInput, Task
from trainer import task as api

@dataclass(frozen=True)
class Params(api.Params):
    learning_rate: float = 0.001
    batch: int = 128

def task(params: Params) -> Task:
    digits = data.image_folder(Path(__file__).parent / "photos", size=(28, 28))
    train, held_out = digits.split(0.9, seed=0)
    return Task(
        model=lambda: keras.Sequential([keras.Input((28, 28, 3)), ..., keras.layers.Dense(10)]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.Adam(params.learning_rate),
        metrics=["accuracy"],
        train=train, validation=held_out, global_batch=params.batch, epochs=5,
        inputs=ImageInput(28, 28, 3), class_names=digits.class_names,
    )
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from trainer.data import Examples

P = TypeVar("P", bound="Params")
# The module's name while it runs; a fixed one, so that a file called keras.py shadows nothing.
MODULE_NAME = "taas_program"
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class TaskError(ValueError):
    """The task, or a parameter given to it, cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Params:
    """Hyperparameters of a task: subclass it as a frozen dataclass whose fields have defaults.

    Fields may be int, float, str, bool, Literal, tuple[T, ...] (comma-separated) and any of
    these or None.
    """

    @classmethod
    def parse(cls: type[P], values: Mapping[str, str]) -> P:
        """Return the parameters with the given texts in place of the defaults.

        Raises TaskError naming an unknown parameter, or one whose text does not fit its type.
        """
        kinds = typing.get_type_hints(cls)
        known = {f.name: f for f in dataclasses.fields(cls)}
        parsed: dict[str, Any] = {}
        for name, text in values.items():
            if name not in known:
                raise TaskError(f"unknown parameter {name!r}; known are: {cls.describe()}")
            try:
                parsed[name] = _parse(kinds[name], text)
            except ValueError as error:
                raise TaskError(
                    f"parameter {name}={text!r}: {error}; known are: {cls.describe()}"
                ) from None
        missing = [f.name for f in known.values() if f.name not in parsed and not _has_default(f)]
        if missing:
            raise TaskError(
                f"parameter {missing[0]!r} has no default and was not given; "
                f"known are: {cls.describe()}"
            )
        return cls(**parsed)

    @classmethod
    def describe(cls) -> str:
        """Return all parameters with type and default, as one line."""
        kinds = typing.get_type_hints(cls)
        return (
            ", ".join(
                f"{f.name}: {_kind_name(kinds[f.name])}"
                + (f" = {_default(f)!r}" if _has_default(f) else "")
                for f in dataclasses.fields(cls)
            )
            or "none, this task has no parameters"
        )


def _has_default(field_: dataclasses.Field[Any]) -> bool:
    return (
        field_.default is not dataclasses.MISSING
        or field_.default_factory is not dataclasses.MISSING
    )


def _default(field_: dataclasses.Field[Any]) -> Any:
    if field_.default_factory is not dataclasses.MISSING:
        return field_.default_factory()
    return field_.default


def _kind_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def _parse(kind: Any, text: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() in ("", "none", "null"):
            return None
        return _parse(next(a for a in arguments if a is not type(None)), text)
    if origin is typing.Literal:
        for choice in arguments:
            if str(choice) == text:
                return choice
        raise ValueError(f"not one of {', '.join(str(a) for a in arguments)}")
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_parse(arguments[0], part.strip()) for part in text.split(",") if part.strip())
    return _parse_scalar(kind, text)


def _parse_scalar(kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError("not true or false")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("not a whole number") from None
    if kind is float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError("not a number") from None
        if math.isnan(number):
            raise ValueError("not a number")
        return number
    if kind is str:
        return text
    raise ValueError(f"the task declares it as {_kind_name(kind)}, which cannot be given as text")


@dataclass(frozen=True)
class ImageInput:
    """The model sees pictures; the exported model takes them as JPEG or PNG bytes.

    The examples hold pictures with values 0..255. The model gets value * scale + offset as
    float32, in training and from the exported model alike, so do not scale them in the data.
    The exported model decodes a picture to `channels` (1 or 3) and resizes it to height x width.
    """

    height: int
    width: int
    channels: int = 3
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class TableInput:
    """The exported model takes rows of numbers, in the order of these columns."""

    columns: tuple[str, ...]

    def __init__(self, columns: Sequence[str]) -> None:
        object.__setattr__(self, "columns", tuple(columns))


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training, whole: model, loss, data and schedule.

    The global batch is spread over however many workers there are; the result does not depend
    on their number.
    """

    # Builds the Keras model; called where its variables become shared by the workers.
    model: Callable[[], Any]
    # Builds a Keras model that stands before `model` and is not trained. Its outputs are computed
    # once for each example, by all workers together, and `model` learns from them; the exported
    # model is both. None: there is none.
    frozen: Callable[[], Any] | None = None
    # Name of a Keras loss, a Keras loss, or any function (labels, outputs) -> one loss an example.
    loss: Any
    # Builds the Keras optimizer. A ready-made optimizer or a name is built anew from its settings.
    optimizer: Any
    # Keras metrics, names of Keras metrics, or functions (labels, outputs) -> one value an example.
    metrics: Sequence[Any] = ()
    train: Examples
    # Looked at every `evaluate_every` steps.
    validation: Examples | None = None
    # Looked at once, at the end.
    test: Examples | None = None
    # Examples of one step, over all workers.
    global_batch: int
    # How long to train: one of the two.
    steps: int | None = None
    epochs: float | None = None
    # Of initial weights, data order and dropout.
    seed: int = 0
    # Steps between two looks at the validation set. 0: once an epoch.
    evaluate_every: int = 0
    # Steps between two points of the TensorBoard curves. 0: about 200 points in all.
    summary_every: int = 0
    # Decay of a moving average of the weights, which evaluation and export then use.
    ema: float | None = None
    # What the exported model takes; None: what the model takes.
    inputs: ImageInput | TableInput | None = None
    # Names of the classes in the order of the outputs. None: those of `train`, if it has any.
    class_names: Sequence[str] | None = None
    # What the model's outputs are. "auto" looks at the loss and at some outputs.
    outputs: typing.Literal["auto", "probabilities", "logits", "values"] = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot work, by name. Raises TaskError."""
        # Nobody checks the types of a user's program before it gets here.
        model: Any = self.model
        frozen: Any = self.frozen
        batch: Any = self.global_batch
        if not callable(model) or hasattr(model, "trainable_variables"):
            raise TaskError(
                "Task.model must be a function that builds the model, not a model: write "
                "model=lambda: keras.Sequential([...])"
            )
        if frozen is not None and (not callable(frozen) or hasattr(frozen, "trainable_variables")):
            raise TaskError("Task.frozen must be a function that builds a model, not a model")
        if not (isinstance(batch, int) and batch > 0):
            raise TaskError(f"Task.global_batch must be a whole number above 0, not {batch!r}")
        if (self.steps is None) == (self.epochs is None):
            raise TaskError("Task needs one of steps and epochs, to know when to end")
        if self.total_steps < 1:
            raise TaskError(f"Task ends before its first step: {self._length}")
        for name in ("train", "validation", "test"):
            self._check_examples(name)
        for name in ("evaluate_every", "summary_every"):
            if getattr(self, name) < 0:
                raise TaskError(f"Task.{name} must not be negative, not {getattr(self, name)!r}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise TaskError(f"Task.ema must be at least 0 and below 1, not {self.ema!r}")

    def _check_examples(self, name: str) -> None:
        examples = getattr(self, name)
        if examples is None and name != "train":
            return
        if not hasattr(examples, "fetch"):
            raise TaskError(
                f"Task.{name} must be examples made by trainer.data (arrays, idx, image_folder, "
                f"csv, tfrecord), not {type(examples).__name__}"
            )
        if examples.size < 1:
            raise TaskError(f"Task.{name} holds no example")

    @property
    def _length(self) -> str:
        return f"steps={self.steps!r}" if self.epochs is None else f"epochs={self.epochs!r}"

    @property
    def total_steps(self) -> int:
        """Global steps of the whole training."""
        if self.epochs is None:
            return int(self.steps or 0)
        return math.ceil(self.epochs * self.train.size / self.global_batch)

    @property
    def evaluation_interval(self) -> int:
        """Steps between two looks at the validation set."""
        return self.evaluate_every or max(1, round(self.train.size / self.global_batch))

    @property
    def summary_interval(self) -> int:
        """Steps that one point of the curves is averaged over."""
        if self.summary_every:
            return self.summary_every
        # A function of the task alone, so that two runs of it have the same points.
        wanted = self.total_steps // 200
        return max(n for n in (1, 2, 5, 10, 20, 50, 100) if n <= max(1, wanted))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if there are any."""
        names = self.class_names or self.train.class_names
        return tuple(str(n) for n in names) if names else None


def load(source_dir: Path, module: str, parameters: Mapping[str, str]) -> Task:
    """Import the user's module and return its task.

    Raises TaskError where the module is not as described above; whatever the module raises
    passes through.
    """
    function, params_type = _find(_import(source_dir, module), module)
    if not inspect.signature(function).parameters:
        Params.parse(parameters)
        made = function()
    else:
        made = function(params_type.parse(parameters))
    if not isinstance(made, Task):
        raise TaskError(
            f"task() in {module} must return a trainer.task.Task, not {type(made).__name__}"
        )
    return made


def _import(source_dir: Path, module: str) -> types.ModuleType:
    path = source_dir / module
    if not path.is_file():
        raise TaskError(f"there is no file {module!r} in the source folder")
    # The user's other modules lie beside it.
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{module!r} is not a Python file; its name must end in .py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def _find(module: types.ModuleType, name: str) -> tuple[Callable[..., Any], type[Params]]:
    function = getattr(module, "task", None)
    if not callable(function):
        raise TaskError(f"{name} defines no function task(params)")
    arguments = list(inspect.signature(function).parameters.values())
    if len(arguments) > 1:
        raise TaskError(f"task() in {name} must take one argument, its parameters")
    hints = typing.get_type_hints(function)
    params_type = hints.get(arguments[0].name) if arguments else None
    params_type = params_type or getattr(module, "Params", Params)
    if not (isinstance(params_type, type) and issubclass(params_type, Params)):
        raise TaskError(
            f"the argument of task() in {name} must be a subclass of trainer.task.Params"
        )
    if not dataclasses.is_dataclass(params_type):
        raise TaskError(f"{params_type.__name__} in {name} must be a frozen dataclass")
    return function, params_type
