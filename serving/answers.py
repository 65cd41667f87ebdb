"""What both doors, gRPC and HTTP, do with a question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from protos.taas.v1.prediction_pb2 import DataType, SignatureDef
from serving.roster import Roster
from serving.signatures import SERVING_DEFAULT, Arrays, Signature
from serving.versions import Seen


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked. version: None is the newest; signature: "" is serving_default."""

    name: str
    version: int | None = None
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs, and who gave them."""

    outputs: Arrays
    version: int
    signature: Signature


class Answers:
    """Answers questions with the models of a roster. Every method raises Refused."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    @property
    def ready(self) -> bool:
        """Tell whether questions can be taken."""
        return self._roster.ready

    async def predict(
        self, target: Target, inputs: Callable[[Signature], Arrays], outputs: Sequence[str] = ()
    ) -> Answer:
        """Ask a model. `inputs` makes the arrays, once it is known what the model takes."""
        with self._roster.using(target.name, target.version) as version:
            lane = version.lane(target.signature or SERVING_DEFAULT)
            chosen = lane.signature.chosen(outputs)
            said = await lane.ask(inputs(lane.signature))
            told = {name: said[name] for name in chosen}
            return Answer(told, version.number, lane.signature)

    def definitions(self, target: Target) -> tuple[int, Mapping[str, SignatureDef]]:
        """Return which version was meant, and all its signatures."""
        with self._roster.using(target.name, target.version) as version:
            assert version.model is not None
            return version.number, version.model.definitions

    def statuses(self, target: Target) -> dict[int, Seen]:
        """Return the versions of a model, newest first."""
        return self._roster.statuses(target.name, target.version)


def dtypes(answer: Answer) -> dict[str, DataType]:
    """Return the type of each output by name."""
    return {spec.name: spec.dtype for spec in answer.signature.outputs}
