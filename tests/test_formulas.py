"""No text that the portal writes into a cell starts a formula, with any separator."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.formulas import escape_formulas, unescape_formulas

SIGNS = "=+-@＝＋－＠"  # noqa: RUF001 (full-width on purpose)
hostile = st.text(
    st.sampled_from([*SIGNS, *",;|\t\n\r\v\x85\u2028\u3000\ufeff \"'1ax\x00"]), max_size=12
)


def cells_as_parted(line: str, delimiter: str) -> list[str]:
    """All texts that a program may take for a cell: quotes understood or ignored."""
    with_quotes = [
        cell
        for row in csv.reader(io.StringIO(line, newline=""), delimiter=delimiter)
        for cell in row
    ]
    return with_quotes + re.split(rf"[{re.escape(delimiter)}\r\n]", line)


def starts_a_formula(cell: str) -> bool:
    return cell.lstrip(' "\t\r\n\v\x00\x85\u2028\u3000\ufeff')[:1] in tuple(SIGNS)


@given(st.lists(hostile, min_size=1, max_size=4), st.sampled_from(",;\t|"))
@settings(max_examples=400, deadline=None)
def test_no_delimiter_that_a_spreadsheet_chooses_starts_a_formula(
    texts: list[str], written_with: str
) -> None:
    line = io.StringIO(newline="")
    writer = csv.writer(line, delimiter=written_with, quoting=csv.QUOTE_ALL)
    writer.writerow([escape_formulas(text) for text in texts])
    for delimiter in ",;\t|":
        for cell in cells_as_parted(line.getvalue(), delimiter):
            assert not starts_a_formula(cell), (delimiter, line.getvalue())


@given(hostile)
@settings(max_examples=400, deadline=None)
def test_escaping_formulas_can_be_undone(text: str) -> None:
    assert unescape_formulas(escape_formulas(text)) == text
    assert unescape_formulas(unescape_formulas(escape_formulas(escape_formulas(text)))) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("'=1+1", "''=1+1"),
        ("x;=1+1", "x;'=1+1"),
        ("x;\"=cmd|' /C calc'!A0", "x;\"'=cmd|' /C calc'!A0"),
        ("a\n-b", "a\n'-b"),
        ("\t =1", "\t '=1"),
        ("＝1", "'＝1"),  # noqa: RUF001 (full-width on purpose)
        ("-2+3", "'-2+3"),
        ("-5", "'-5"),
        ("-0,5", "'-0,5"),
        ("a - b", "a - b"),
        ("name@example.com", "name@example.com"),
        ("it's", "it's"),
        ("", ""),
    ],
)
def test_an_escape_is_only_where_a_cell_may_begin(text: str, cell: str) -> None:
    assert escape_formulas(text) == cell


@pytest.mark.parametrize("piece", ["\n", " ", ";", "'", '"', ";'", "= ", "\n'"])
def test_no_text_costs_more_than_its_length(piece: str) -> None:
    text = f"x{piece * 300_000}y"
    assert unescape_formulas(escape_formulas(text)) == text
