"""How NDJSON and JSON become rows, as strictly as a request."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import decoding
from ingestion.decoding import Framing, Payload, Row
from ingestion.files import json as json_format
from ingestion.files.shape import LONGEST_RECORD
from ingestion.outcomes import Code, FieldCode, PayloadError
from tests.reading import read_as
from tests.record_types import TUTORS
from tests.test_file_rows import read

# --- NDJSON ------------------------------------------------------------------------------------


def test_each_line_of_ndjson_is_judged_alone() -> None:
    lines = [b'{"a": 1}', b"", b" \t", b'{"a": NaN}', b"\xff", b'{"a": 2}\r', b'{"a": 3']
    rows = list(read_as(io.BytesIO(b"\n".join(lines)), "ndjson", TUTORS))
    assert [(row.line, row.value) for row in rows if not row.problem] == [
        (1, {"a": 1}),
        (6, {"a": 2}),
    ]
    assert [(row.line, row.problem.code) for row in rows if row.problem] == [
        (4, FieldCode.MALFORMED_JSON),
        (5, FieldCode.MALFORMED_JSON),
        (7, FieldCode.MALFORMED_JSON),
    ]


def test_a_line_too_long_for_a_record_is_refused_alone() -> None:
    longest = b'"' + b"x" * (LONGEST_RECORD - 3) + b'"\n'
    content = longest + b"x" + longest + b'"' + b"x" * 10 * 2**20 + b'"\n{"a": 1}\n'
    rows = list(read_as(io.BytesIO(content), "ndjson", TUTORS))
    assert [row.line for row in rows] == [1, 2, 3, 4]
    assert [row.problem and row.problem.code for row in rows] == [
        None,
        FieldCode.MALFORMED_LINE,
        FieldCode.MALFORMED_LINE,
        None,
    ]


# --- JSON --------------------------------------------------------------------------------------

ODD_JSON = [
    b"[]",
    b" [ ] \n",
    b"[1]",
    b"[12, -0.5e+10, 1E5, 62.0, 123456789012345678901234567890]",
    b"[1e999, true, null, false]",
    b'["\\ud800", "\\udc00x", "\\ud83d\\ude00", "\xf0\x9f\x98\x80", "a\\u0000"]',
    b'[{"a": 1, "a": 2}, {"b": {"a": [1, {"c": ","}]}}]',
    b'["]", "[", "\\"", "\\\\"]',
    b"[NaN]",
    b"[Infinity]",
    b"[-Infinity]",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1, 2",
    b"[1.]",
    b"[01]",
    b"[-]",
    b"[1]]",
    b"[1] x",
    b"[1][2]",
    b'["a\x01"]',
    b'["a',
    b"[tru]",
    b"[" * 100_000,
    b"[" + b"9" * 5000 + b"]",
    b'["\xff"]',
    b'["\xed\xa0\x80"]',
    b'["\xf0\x9f',
    b"[",
    b"5",
    b'"text"',
    b"nul",
]


def outcome(rows: Iterator[Row]) -> Any:
    try:
        return repr([row.value for row in rows])
    except PayloadError as refusal:
        return refusal.code


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 2**16])
@pytest.mark.parametrize("content", ODD_JSON, ids=lambda content: repr(content[:30]))
def test_a_streamed_array_is_as_strict_as_a_decoded_one(
    content: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_format, "_CHUNK", chunk)
    payload = Payload(content=content, framing=Framing.ARRAY)
    decoded = outcome(row for _ in "1" for row in decoding.rows(payload, most=1000))
    if decoded is Code.MALFORMED_JSON and content[:1] != b"[":
        decoded = Code.NOT_AN_ARRAY  # the first character shows it
    assert outcome(read_as(io.BytesIO(content), "json", TUTORS)) == decoded


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.lists(JSON_VALUES, max_size=5), st.sampled_from([None, 0, 2]), st.booleans(), st.data())
def test_any_array_comes_back_equal(
    values: list[Any], indent: int | None, ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).replace("Infinity", "1e999")
    content = text.encode(errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_format, "_CHUNK", data.draw(st.integers(1, 40)))
        rows = list(read_as(io.BytesIO(content), "json", TUTORS))
    assert repr([row.value for row in rows]) == repr(json.loads(content))


def test_one_record_is_read_as_one_row() -> None:
    (row,) = read(b'\n {"name": "Ann",\n "age": 20}\n\n')
    assert row == Row(value={"name": "Ann", "age": 20})


def test_a_record_of_ten_megabytes_is_refused_alone() -> None:
    long = json.dumps({"name": "x" * 10 * 2**20})
    rows = read(f'[{{"a": 1}}, {long}, {{"a": 2}}]'.encode())
    assert [row.value for row in rows] == [{"a": 1}, None, {"a": 2}]
    assert rows[1].problem.code is FieldCode.MALFORMED_LINE


@pytest.mark.parametrize("content", [b'[{"a": 1}]', b'{"a": 1}', b'{"a": 1}\n{"a": 2}\n'])
def test_a_byte_order_mark_before_json_is_passed_over(content: bytes) -> None:
    assert read(b"\xef\xbb\xbf" + content)[0].value == {"a": 1}


def test_the_rows_before_a_break_are_given_first() -> None:
    rows = read_as(io.BytesIO(b'[{"a": 1}, {"a": 2}, {"a": '), "json", TUTORS)
    assert [next(rows).value, next(rows).value] == [{"a": 1}, {"a": 2}]
    with pytest.raises(PayloadError) as refusal:
        next(rows)
    assert refusal.value.code is Code.MALFORMED_JSON
