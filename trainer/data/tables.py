"""Reader of tables in CSV files (RFC 4180, UTF-8, with a header row)."""

from __future__ import annotations

import csv as csv_format
import os
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from trainer import rows
from trainer.data.arrays import arrays
from trainer.data.errors import DataError, unreadable
from trainer.data.examples import Examples

# A table is held in memory; beyond this TFRecord files serve better.
MAX_BYTES = 4 << 30


def csv(
    path: str | os.PathLike[str],
    *,
    features: Sequence[str],
    label: str,
    classes: Sequence[str] | None = None,
    delimiter: str = ",",
) -> Examples:
    """Return the rows of a CSV file: features float32[len(features)], one label each.

    Columns are chosen by their names in the header row; features must be numbers. With `classes`
    the label column holds these names and labels are int64 positions among them: give them when
    several files must agree. Without it, a column of numbers gives float32 labels, any other
    gives classes, sorted by name.
    """
    name = os.fspath(path)
    if isinstance(features, str) or not features:
        raise DataError(f"features={features!r}: give a list of column names, at least one")
    try:
        size = os.stat(name).st_size
        if size > MAX_BYTES:
            raise DataError(
                f"{name}: {size} bytes, more than the {MAX_BYTES} that are read into memory; "
                "convert it to TFRecord files"
            )
        # newline="" as the csv module asks, so that quoted line breaks survive.
        with open(name, encoding="utf-8-sig", newline="") as stream:
            read = _rows(name, csv_format.reader(stream, delimiter=delimiter, strict=True))
            numbers, labels = _columns(name, read, list(features), label)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: not UTF-8 ({error.reason} near byte {_bad_byte(name)}); "
            "save the table as UTF-8"
        ) from error
    except OSError as error:
        raise unreadable(name, error) from error
    if not labels:
        raise DataError(f"{name}: has a header but no row; give a table with examples")
    x = np.frombuffer(numbers, np.float64).reshape(len(labels), len(features))
    if classes is None and all(rows.number(text) is not None for text, _ in labels):
        return arrays(x, np.array([rows.number(text) for text, _ in labels], np.float32))
    names = tuple(classes) if classes is not None else tuple(sorted({t for t, _ in labels}))
    return arrays(x, _positions(name, label, labels, names), names)


def _rows(name: str, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the row ends, fields), empty lines left out."""
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields  # type: ignore[attr-defined]
    except csv_format.Error as error:
        raise DataError(
            f"{name}, row {reader.line_num}: {error}; "  # type: ignore[attr-defined]
            "check the quotes of that row"
        ) from error


def _columns(
    name: str, read: Iterator[tuple[int, list[str]]], features: list[str], label: str
) -> tuple[array[float], list[tuple[str, int]]]:
    """Return the feature values, row by row, and (label, row) of each row."""
    _, header = next(read, (0, None))
    if header is None:
        raise DataError(f"{name}: empty; its first row must name the columns")
    header = [column.strip() for column in header]
    for column in [*features, label]:
        if header.count(column) != 1:
            how = "no column" if column not in header else "more than one column"
            raise DataError(
                f"{name}: {how} named {column!r} in row 1; it has {', '.join(map(repr, header))}"
            )
    places = [(column, header.index(column)) for column in features]
    label_place = header.index(label)
    numbers: array[float] = array("d")
    labels = []
    for line, fields in read:
        if len(fields) != len(header):
            raise DataError(
                f"{name}, row {line}: {len(fields)} fields, but the header names {len(header)}; "
                "quote fields that contain the delimiter"
            )
        for column, place in places:
            value = rows.number(fields[place])
            if value is None:
                raise DataError(
                    f"{name}, row {line}, column {column!r}: {fields[place]!r} is not a finite "
                    "number; fill it in or remove the row"
                )
            numbers.append(value)
        text = fields[label_place].strip()
        if not text:
            raise DataError(
                f"{name}, row {line}, column {label!r}: empty; fill it in or remove the row"
            )
        labels.append((text, line))
    return numbers, labels


def _positions(
    name: str, label: str, labels: list[tuple[str, int]], classes: tuple[str, ...]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    places = {class_name: place for place, class_name in enumerate(classes)}
    positions = np.empty(len(labels), np.int64)
    for i, (text, line) in enumerate(labels):
        if text not in places:
            raise DataError(
                f"{name}, row {line}, column {label!r}: {text!r} is none of the classes "
                f"{', '.join(map(repr, classes))}; correct it or name that class too"
            )
        positions[i] = places[text]
    return positions


def _bad_byte(name: str) -> int:
    """Return the offset of the first byte that is not UTF-8."""
    offset = 0
    with open(name, "rb") as stream:
        for line in stream:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return offset + error.start
            offset += len(line)
    return offset
