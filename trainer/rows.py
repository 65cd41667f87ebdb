"""Rows of CSV files for a model that takes tables: the good ones with their numbers, the others
with what is wrong. Knows nothing of TensorFlow.
"""

from __future__ import annotations

import csv
import math
import reprlib
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# What is no table may have a first line without end.
_NAMES = reprlib.Repr()
_NAMES.maxlist = 30
# The largest float32; the layers compute in it.
_LARGEST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


class NotATable(ValueError):
    """The file has no row that could be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line on which it ends, and its values in the order asked for, or an error."""

    line: int
    values: tuple[float, ...] = ()
    error: str = ""


def number(text: str) -> float | None:
    """Return the finite number that a field holds; float alone would also take 1_000."""
    try:
        value = float(text)
    except ValueError:
        return None
    if "_" in text or not math.isfinite(value) or abs(value) > _LARGEST:
        return None
    return value


def read(path: str, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file whose first line names its columns, other columns left out.

    Empty lines are passed over. Raises NotATable before the first row; OSError passes through.
    """
    # utf-8-sig: spreadsheets begin their files with a byte order mark. What is not UTF-8 matters
    # only where a number is wanted, and is no number there.
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise NotATable(f"line {reader.line_num}: {error}; check the quotes there") from error
        places = _places(header, columns)
        found = False
        for row in _rows(reader, header, places):
            found = True
            yield row
    if not found:
        raise NotATable("holds a header but no row")


def _rows(reader: Any, header: list[str], places: list[int]) -> Iterator[Row]:
    try:
        for fields in reader:
            if fields:
                yield _row(fields, header, places, reader.line_num)
    except csv.Error as error:
        # Where a quote is missing, nobody can say where the next row begins.
        yield Row(
            reader.line_num,
            error=f"{error}; check the quotes of this line, nothing below it was read",
        )


def _places(header: list[str], columns: Sequence[str]) -> list[int]:
    """Return where each wanted column stands. Raises NotATable."""
    wanted = ", ".join(columns)
    if not any(header):
        raise NotATable(f"its first line must name the columns: {wanted}")
    counts = Counter(header)
    for column in columns:
        if counts[column] != 1:
            how = "more than one column" if counts[column] else "no column"
            raise NotATable(
                f"{how} {column!r}; the first line must name {wanted}, and it names "
                f"{_NAMES.repr(header)}"
            )
    return [header.index(column) for column in columns]


def _row(fields: list[str], header: list[str], places: list[int], line: int) -> Row:
    if len(fields) != len(header):
        return Row(
            line,
            error=f"the header names {len(header)} columns, this row has {len(fields)}; quote "
            "fields that contain a comma",
        )
    values = []
    for place in places:
        value = number(fields[place])
        if value is None:
            return Row(
                line,
                error=f"column {header[place]!r}: {fields[place]!r} is not a finite number; "
                "fill it in or remove the row",
            )
        values.append(value)
    return Row(line, tuple(values))
