"""CSV tables: columns by name, and errors that name row and column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tensorflow as tf

from trainer import data
from trainer.data import tables

IRIS = """width,species,"petal, length"
0.2,setosa,1.4
1.3,versicolor,"4.5"

2.5,"virginica",6e0
"""


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def fetch_all(examples: data.Examples) -> tuple[list[list[float]], list[float]]:
    features, labels = examples.fetch(tf.range(examples.size, dtype=tf.int64))
    return features.numpy().tolist(), labels.numpy().tolist()


def test_classes_come_from_the_column_sorted(tmp_path: Path) -> None:
    path = table(tmp_path, IRIS)
    examples = data.csv(path, features=["petal, length", "width"], label="species")
    assert examples.class_names == ("setosa", "versicolor", "virginica")
    assert examples.element_spec == (
        tf.TensorSpec([2], tf.float32),
        tf.TensorSpec([], tf.int64),
    )
    features, labels = fetch_all(examples)
    assert features == [pytest.approx(row) for row in ([1.4, 0.2], [4.5, 1.3], [6.0, 2.5])]
    assert labels == [0, 1, 2]


def test_given_classes_fix_the_numbers_of_classes(tmp_path: Path) -> None:
    classes = ["virginica", "setosa", "versicolor", "other"]
    examples = data.csv(table(tmp_path, IRIS), features=["width"], label="species", classes=classes)
    assert fetch_all(examples)[1] == [1, 2, 0]
    with pytest.raises(data.DataError, match=r"row 3, column 'species': 'versicolor' is none of"):
        data.csv(table(tmp_path, IRIS), features=["width"], label="species", classes=["setosa"])


def test_numbers_as_labels_are_float32(tmp_path: Path) -> None:
    examples = data.csv(table(tmp_path, "a,b\n1,2.5\n3,-4\n"), features=["a"], label="b")
    assert examples.class_names is None
    assert examples.element_spec[1] == tf.TensorSpec([], tf.float32)
    assert fetch_all(examples) == ([[1.0], [3.0]], [2.5, -4.0])


@pytest.mark.parametrize(
    "text", ["a,b\r\n1,x\r\n2,y\r\n", "\ufeffa,b\n1,x\n2,y", " a , b\n1, x \n2,y\n"]
)
def test_line_ends_byte_order_mark_and_spaces_do_not_matter(tmp_path: Path, text: str) -> None:
    examples = data.csv(table(tmp_path, text), features=["a"], label="b")
    assert examples.class_names == ("x", "y")
    assert fetch_all(examples) == ([[1.0], [2.0]], [0, 1])


def test_a_quoted_line_break_counts_as_a_line_of_the_file(tmp_path: Path) -> None:
    text = 'a,b,note\n1,x,"two\nlines"\n?,y,\n'
    with pytest.raises(data.DataError, match="row 4, column 'a'"):
        data.csv(table(tmp_path, text), features=["a"], label="b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; its first row must name the columns"),
        ("a,b\n", "has a header but no row"),
        ("a,c\n1,2\n", "no column named 'b' in row 1; it has 'a', 'c'"),
        ("a,b,a\n1,2,3\n", "more than one column named 'a' in row 1"),
        ("a,b\n1,2\n3\n", "row 3: 1 fields, but the header names 2"),
        ("a,b\n1,2,3\n", "row 2: 3 fields, but the header names 2"),
        ("a,b\n1,x\n,y\n", "row 3, column 'a': '' is not a finite number"),
        ("a,b\nnan,x\n", "row 2, column 'a': 'nan' is not a finite number"),
        ("a,b\n1e39,x\n", "row 2, column 'a': '1e39' is not a finite number"),
        ("a,b\n1_000,x\n", "row 2, column 'a': '1_000' is not a finite number"),
        ("a,b\n1, \n", "row 2, column 'b': empty"),
        ('a,b\n1,"x\n', "row 2: unexpected end of data"),
        ('a,b\n1,"x"y\n', "row 2: .* expected after"),
        (b"a,b\n1,x\n2,\xffy\n", "not UTF-8 .* near byte 10"),
    ],
)
def test_a_bad_table_is_named_with_row_and_column(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = table(tmp_path, text)
    with pytest.raises(data.DataError, match=rf"^{re.escape(str(path))}.*{message}"):
        data.csv(path, features=["a"], label="b")


def test_what_cannot_be_a_table_is_refused(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(data.DataError, match="No such file"):
        data.csv(tmp_path / "absent.csv", features=["a"], label="b")
    with pytest.raises(data.DataError, match="give a list of column names"):
        data.csv(tmp_path / "absent.csv", features="a", label="b")
    monkeypatch.setattr(tables, "MAX_BYTES", 5)
    with pytest.raises(data.DataError, match="8 bytes, more than the 5"):
        data.csv(table(tmp_path, "a,b\n1,2\n"), features=["a"], label="b")
