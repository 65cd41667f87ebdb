"""Cuts what a trainer writes into lines of bounded length, and reads its reports."""

from __future__ import annotations

import json
from dataclasses import dataclass

from protos import proto_json
from protos.taas.v1 import history_pb2
from trainer.contract import Report, Stage

_STAGES = frozenset(v for k, v in vars(Stage).items() if k.isupper())
_CUT = b" [line cut]"


class Lines:
    """Splits a byte stream into lines, in bounded memory however long a line is.

    A line over the limit is cut to it, or dropped and counted, as `cut` says.
    """

    def __init__(self, limit: int, *, cut: bool) -> None:
        self.dropped = 0
        self._limit = limit
        self._cut = cut
        self._start = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that data completes, without their ends."""
        *complete, rest = data.split(b"\n")
        lines: list[bytes] = []
        for piece in complete:
            self._grow(piece, lines)
            if not self._skipping:
                lines.append(bytes(self._start))
            self._start.clear()
            self._skipping = False
        self._grow(rest, lines)
        return lines

    def rest(self) -> list[bytes]:
        """Return what came after the last line's end, if anything."""
        return [bytes(self._start)] if self._start else []

    def _grow(self, piece: bytes, lines: list[bytes]) -> None:
        if self._skipping:
            return
        self._start += piece
        if len(self._start) > self._limit:
            if self._cut:
                lines.append(bytes(self._start[: self._limit]) + _CUT)
            else:
                self.dropped += 1
            self._start.clear()
            self._skipping = True


@dataclass(frozen=True, slots=True)
class StageReport:
    """The trainer is at something else now."""

    stage: str
    step: int


@dataclass(frozen=True, slots=True)
class StepReport:
    """Steps were made."""

    step: int


@dataclass(frozen=True, slots=True)
class RecordReport:
    """The chief wrote a record."""

    record: history_pb2.Record


@dataclass(frozen=True, slots=True)
class SavingReport:
    """Why the newest checkpoint could not be saved; "" when one is saved again."""

    failure: str


@dataclass(frozen=True, slots=True)
class FailureReport:
    """The trainer is about to leave, and why."""

    message: str
    details: str


@dataclass(frozen=True, slots=True)
class LeavingReport:
    """The trainer itself ends its process with this exit code."""

    code: int


AnyReport = StageReport | StepReport | RecordReport | SavingReport | FailureReport | LeavingReport


def encodable(text: str) -> str:
    """Return the text with what UTF-8 cannot hold, half a surrogate pair, written as an escape.

    File names that are no UTF-8 bring such characters into messages; protobuf refuses them.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def parse_report(line: bytes) -> AnyReport | None:
    """Return the report, or None if the line is none: any code of the user may write there."""
    try:
        raw = json.loads(line)
        kind = raw["type"]
        if kind == Report.STAGE and raw["stage"] in _STAGES:
            return StageReport(raw["stage"], _step(raw))
        if kind == Report.STEP:
            return StepReport(_step(raw))
        if kind == Report.RECORD:
            return RecordReport(proto_json.filled(raw["record"], history_pb2.Record()))
        if kind == Report.SAVING:
            return SavingReport(encodable(str(raw["failure"])))
        if kind == Report.FAILURE:
            return FailureReport(encodable(str(raw["message"])), encodable(str(raw["details"])))
        if kind == Report.LEAVING and type(raw["code"]) is int:
            return LeavingReport(raw["code"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return None


def _step(raw: dict[str, object]) -> int:
    step = raw["step"]
    if not isinstance(step, int) or not 0 <= step < 2**63:
        raise ValueError(f"step {step!r}")
    return step
