"""Rows of CSV files that a model is asked about: each bad one is named, the others are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer import rows

COLUMNS = ("length", "weight")


def read(tmp_path: Path, content: str | bytes) -> list[rows.Row]:
    path = tmp_path / "parts.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(rows.read(str(path), COLUMNS))


def test_columns_are_found_by_name_and_others_left_out(tmp_path: Path) -> None:
    text = 'weight, note ,length\n2,"a, b",1\n\n4,,3.5e0\n'
    assert read(tmp_path, text) == [rows.Row(2, (1.0, 2.0)), rows.Row(4, (3.5, 4.0))]


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbflength,weight\r\n1,2\r\n") == [rows.Row(2, (1.0, 2.0))]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("tall,2", "column 'length': 'tall' is not a finite number", id="text"),
        pytest.param(",2", "column 'length': '' is not a finite number", id="empty"),
        pytest.param("1,nan", "column 'weight': 'nan' is not a finite number", id="nan"),
        pytest.param("1,inf", "column 'weight': 'inf' is not a finite number", id="infinite"),
        pytest.param("1,1e39", "column 'weight': '1e39' is not a finite number", id="no float32"),
        pytest.param("1_0,2", "column 'length': '1_0' is not a finite number", id="underscore"),
        pytest.param("1", "the header names 2 columns, this row has 1; ", id="too short"),
        pytest.param("1,2,3", "the header names 2 columns, this row has 3; ", id="too long"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(tmp_path: Path, line: str, why: str) -> None:
    first, bad, last = read(tmp_path, f"length,weight\n1,2\n{line}\n3,4\n")
    assert (first, last) == (rows.Row(2, (1.0, 2.0)), rows.Row(4, (3.0, 4.0)))
    assert bad.line == 3
    assert bad.values == ()
    assert bad.error.startswith(why)


def test_bytes_that_are_no_text_matter_only_in_the_columns_asked_for(tmp_path: Path) -> None:
    content = b"name,length,weight\nM\xfcller,1,2\nx,\xfc,2\n"
    good, bad = read(tmp_path, content)
    assert good == rows.Row(2, (1.0, 2.0))
    assert bad.error.startswith(r"column 'length': '\udcfc' is not a finite number")


def test_a_missing_quote_ends_the_reading_at_its_line(tmp_path: Path) -> None:
    good, bad = read(tmp_path, 'length,weight\n1,2\n"3,4\n5,6\n')
    assert good == rows.Row(2, (1.0, 2.0))
    assert "check the quotes" in bad.error


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param("", "its first line must name the columns: length, weight", id="empty"),
        pytest.param("length,weight\n", "holds a header but no row", id="header only"),
        pytest.param(
            "length\n1\n",
            "no column 'weight'; the first line must name length, weight, and it names ['length']",
            id="missing",
        ),
        pytest.param("length;weight\n1;2\n", "no column 'length'", id="semicolons"),
        pytest.param("length,weight,length\n", "more than one column 'length'", id="twice"),
        pytest.param('"length', "line 1: ", id="torn header"),
        pytest.param(bytes(range(256)) * 999, "no column 'length'", id="binary"),
        pytest.param(b"\x89PNG\x00" * 99999, "line 1: ", id="one long line"),
    ],
)
def test_what_is_no_table_says_why(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(rows.NotATable) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(why)
    assert len(str(caught.value)) < 1000


def test_a_missing_file_stays_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(rows.read(str(tmp_path / "none.csv"), COLUMNS))
