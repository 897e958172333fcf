"""Hostile bytes: each is refused with the right code, and one bad line affects no other line."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion import strict_json
from ingestion.decoding import Framing, Payload, Row, decode, decode_line, rows
from ingestion.outcomes import PayloadError

DEEP = 1_000_000


def refusal(content: bytes) -> str:
    """The code with which the payload is refused."""
    with pytest.raises(PayloadError) as caught:
        decode(content)
    assert not caught.value.outcome_unknown
    return caught.value.code.value


def lines(content: bytes) -> list[tuple[int | None, Any]]:
    """Line and value of each row; the code of its problem if a line could not be read."""
    found = rows(Payload(content=content, framing=Framing.LINES), most=1000)
    return [(row.line, row.problem.code.value if row.problem else row.value) for row in found]


NO_JSON = {
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "minus Infinity": b'{"a": -Infinity}',
    "NaN alone": b"NaN",
    "half": b'{"a": 1',
    "two": b'{"a": 1}{"a": 2}',
    "tail": b'{"a": 1} x',
    "NUL after it": b'{"a": 1}\x00',
    "NUL in a text": b'{"a": "\x00"}',
    "line feed in a text": b'{"a": "\n"}',
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "trailing comma in a list": b"[1,]",
    "comment": b'{"a": 1} // x',
    "name without quotes": b"{a: 1}",
    "number with a plus": b'{"a": +1}',
    "number with a leading zero": b'{"a": 01}',
    "number without digits after its point": b'{"a": 1.}',
    "hexadecimal": b'{"a": 0x10}',
    "arabic digits": '{"a": \u0661}'.encode(),
    "Python's True": b'{"a": True}',
    "5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "no-break space around it": "\u00a0{}".encode(),
    "line separator around it": "\u2028{}".encode(),
    "bad escape": b'{"a": "\\x41"}',
    "half an escape": b'{"a": "\\u00"}',
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"),
}


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_text_that_is_not_json_is_refused(content):
    assert refusal(content) == "malformed_json"


NO_UTF_8 = {
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "byte order mark alone": b"\xef\xbb\xbf",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "latin-1": '{"a": "\u00e9"}'.encode("latin-1"),
    "half a character": '{"a": "\u20ac"}'.encode()[:8],
    "overlong slash": b'{"a": "\xc0\xaf"}',
    "a surrogate's bytes": b'{"a": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"a": "\xf5\x80\x80\x80"}',
}


@pytest.mark.parametrize("content", NO_UTF_8.values(), ids=NO_UTF_8)
def test_bytes_that_are_not_utf_8_or_have_a_byte_order_mark_are_refused(content):
    assert refusal(content) == "malformed_encoding"


@pytest.mark.parametrize("content", [b"", b" ", b"\n", b" \t\r\n" * 1000])
def test_an_empty_payload_is_refused_as_empty(content):
    assert refusal(content) == "empty_body"


MANY = 1_000_001


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"[]," * MANY + b"[]]",
        b'{"a":[' + b"1," * MANY + b"1]}",
        b"[" + b'{"a":1},' * (MANY // 2) + b'{"a":1}]',
    ],
    ids=["lists", "numbers", "objects"],
)
def test_more_values_than_a_batch_can_have_are_refused_before_they_are_made(content):
    tracemalloc.start()
    try:
        assert refusal(content) == "too_many_values"
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content)
    finally:
        tracemalloc.stop()


def test_a_line_with_too_many_values_stops_the_whole_payload():
    with pytest.raises(PayloadError) as caught:
        lines(b"{}\n[" + b"1," * MANY + b"1]\n{}")
    assert caught.value.code.value == "too_many_values"


def test_as_many_values_as_the_largest_batch_can_have_are_decoded(settings):
    content = b"[" + b"[1,1,1]," * 249_999 + b"[1,1]]"
    payload = Payload(content=content, framing=Framing.ARRAY)
    assert rows(payload, most=10_000).count == 10_001
    more = Payload(content=content.replace(b"[1,1]]", b"[1,1,1],1]"), framing=Framing.ARRAY)
    with pytest.raises(PayloadError):
        rows(more, most=10_000)
    settings.MAX_BATCH_RECORDS = 10_001
    assert rows(more, most=10_000).count == 10_001


MANY_VALUES = [b"[]", b"1", b"1.5", b'{"a":1}', b'""']


@pytest.mark.parametrize("value", MANY_VALUES)
@pytest.mark.parametrize("inner", [b"[%s]", b'{"a":[%s]}'])
@pytest.mark.parametrize("framing", Framing)
def test_a_record_of_more_values_than_any_can_have_is_refused_however_it_is_framed(
    framing, inner, value
):
    record = inner % b",".join([value] * 25_000)
    content = b"[{}, %s]" % record if framing is Framing.ARRAY else record
    if framing is Framing.RECORD and inner.startswith(b"["):
        expected = "not_an_object"
    else:
        expected = "too_many_values"
    with pytest.raises(PayloadError) as caught:
        list(rows(Payload(content=content, framing=framing), most=10))
    assert caught.value.code.value == expected


@pytest.mark.parametrize("framing", [Framing.ARRAY, Framing.LINES])
def test_a_long_text_does_not_count_as_many_values(framing):
    texts = ["x" * length for length in (4000, 5000, 70_000, 300_000, 3_000_000)]
    content = json.dumps(texts)
    if framing is Framing.LINES:
        content = content[1:-1].replace(", ", "\n")
    found = rows(Payload(content=content.encode(), framing=framing), most=10)
    assert [row.value for row in found] == texts


@pytest.mark.slow
@pytest.mark.parametrize("framing", [Framing.ARRAY, Framing.LINES])
def test_however_a_payload_is_framed_its_decoded_rows_are_never_in_memory_at_once(framing):
    """A gzip of 15 KB unpacks to this."""
    record = b'{"a":[' + b"[]," * 4_500 + b"[]]}"
    between = b"," if framing is Framing.ARRAY else b"\n"
    content = between.join([record] * 100)
    if framing is Framing.ARRAY:
        content = b"[" + content + b"]"
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows(Payload(content=content, framing=framing), most=1000)) == 100
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("framing", [Framing.ARRAY, Framing.LINES])
def test_a_payload_has_its_limit_of_values_however_it_is_framed(framing):
    record = b"[" + b"1," * 9_999 + b"1]"
    between = b"," if framing is Framing.ARRAY else b"\n"
    content = between.join([record] * 101)
    if framing is Framing.ARRAY:
        content = b"[" + content + b"]"
    with pytest.raises(PayloadError) as caught:
        rows(Payload(content=content, framing=framing), most=1000)
    assert caught.value.code.value == "too_many_values"


def test_a_million_blank_lines_are_too_many():
    with pytest.raises(PayloadError) as caught:
        rows(Payload(content=b"\n" * MANY, framing=Framing.LINES), most=1000)
    assert caught.value.code.value == "too_many_values"


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        (b"{", 1, 2),
        (b'{"a": 1,\n "b": x}', 2, 7),
        (b'{"a": "secret\n"}', 1, 14),
        (b"[]x", 1, 3),
    ],
)
def test_the_place_of_a_json_error_is_told_by_line_and_column(content, line, column):
    for framing in (Framing.RECORD, Framing.ARRAY):
        with pytest.raises(PayloadError) as caught:
            rows(Payload(content=content, framing=framing), most=10)
        assert caught.value.detail == f"It goes wrong at line {line}, column {column}."


def test_many_lines_that_are_announced_as_one_value_are_told_as_such():
    content = b'{"a": [1, 2, 3]}\n' * 10_000
    for framing in (Framing.RECORD, Framing.ARRAY):
        with pytest.raises(PayloadError) as caught:
            rows(Payload(content=content, framing=framing), most=10)
        assert caught.value.detail == "It goes wrong at line 2, column 1."


def test_the_place_of_an_error_in_a_long_array_is_told_too():
    entries = [b'{"a": "%s"}' % (b"x" * 100)] * 3000
    entries[1500] = b'{"a": tru}'
    content = b"[\n" + b",\n".join(entries) + b"]"
    with pytest.raises(PayloadError) as caught:
        rows(Payload(content=content, framing=Framing.ARRAY), most=10_000)
    assert caught.value.detail == "It goes wrong at line 1502, column 7."


def by_the_standard_library(content):
    """The result of Python's parser for the whole text."""
    try:
        value = json.loads(content.decode(), parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return "refused"
    return repr(value) if isinstance(value, list) else "refused"


pieces_of_json = [
    *'[]{},:" \n\\-\u00e9',
    *('"a"', '"a":', "1", "-1.5e+10", "1e5", "0.1", "true", "null", "NaN", "Infinity", "tru"),
    *("[[1]]", "9" * 30, '"' + "x" * 40 + '"', '"\\ud800"'),
]
array_pieces = st.lists(st.sampled_from(pieces_of_json), max_size=14).map(
    lambda pieces: ("[" + "".join(pieces) + "]").encode()
)


@pytest.mark.parametrize("piece", [17, 23, 4096])
@hypothesis_settings(max_examples=150, deadline=None)
@given(content=array_pieces)
def test_an_array_in_pieces_is_read_as_python_reads_the_whole(piece, content):
    strict_json._PIECE, before = piece, strict_json._PIECE
    try:
        found = [
            row.value for row in rows(Payload(content=content, framing=Framing.ARRAY), most=99)
        ]
    except PayloadError:
        assert by_the_standard_library(content) == "refused"
    else:
        assert repr(found) == by_the_standard_library(content)
    finally:
        strict_json._PIECE = before


@pytest.mark.parametrize(
    "content",
    [b"[" * DEEP + b"]" * DEEP, b"[" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP],
    ids=["lists", "lists without an end", "objects"],
)
def test_absurd_nesting_is_refused(content):
    assert refusal(content) == "too_deep"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b' {"a": [1, 2.5, true, null]}\r\n', {"a": [1, 2.5, True, None]}),
        (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
        (b'{"a": 1e999}', {"a": float("inf")}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": "\u2028\u2029\x85"}'.encode(), {"a": "\u2028\u2029\x85"}),
        (b'{"\\ud800": "\\udfff"}', {"\ud800": "\udfff"}),
        ('{"a": "\ufeff"}'.encode(), {"a": "\ufeff"}),
        (b"9" * 4000, 10**4000 - 1),
        (b"[" * 100 + b"]" * 100, json.loads("[" * 100 + "]" * 100)),
    ],
    ids=str,
)
def test_valid_json_is_read_unchanged(content, value):
    assert decode(content) == value


nearly_json = st.text(alphabet='[]{}":,\\ue0-1.N\ufeff\n', max_size=20).map(str.encode)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.binary(max_size=30) | nearly_json)
def test_any_bytes_are_read_or_refused_and_nothing_else(content):
    row = decode_line(content, 7)
    assert row.line == 7
    try:
        value = decode(content)
    except PayloadError:
        assert row.problem is not None
    else:
        assert row == Row(value=value, line=7)


# --- One record, an array ----------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"[{}]", b'"a"', b"1", b"null", b"true"])
def test_a_single_record_is_an_object_and_nothing_else(content):
    with pytest.raises(PayloadError) as caught:
        list(rows(Payload(content=content, framing=Framing.RECORD), most=1))
    assert caught.value.code.value == "not_an_object"


@pytest.mark.parametrize("content", [b"{}", b'"[]"', b"1", b"null"])
def test_an_array_is_an_array_and_nothing_else(content):
    with pytest.raises(PayloadError) as caught:
        list(rows(Payload(content=content, framing=Framing.ARRAY), most=9))
    assert caught.value.code.value == "not_an_array"


def test_the_entries_of_an_array_are_rows_without_a_line_whatever_they_are():
    found = list(rows(Payload(content=b'[{"a": 1}, 2, null, []]', framing=Framing.ARRAY), most=9))
    assert found == [Row(value={"a": 1}), Row(value=2), Row(value=None), Row(value=[])]
    assert list(rows(Payload(content=b"[]", framing=Framing.ARRAY), most=9)) == []


# --- Lines -------------------------------------------------------------------------------------


def test_lines_are_counted_from_one_and_blank_ones_are_passed_over_but_counted():
    assert lines(b'\n{"a": 1}\n\n \t\n\r\n{"a": 2}\n\n') == [(2, {"a": 1}), (6, {"a": 2})]


def test_a_line_may_end_with_crlf_and_the_last_one_with_nothing():
    assert lines(b'{"a": 1}\r\n{"a": 2}\r\n{"a": 3}') == [
        (1, {"a": 1}),
        (2, {"a": 2}),
        (3, {"a": 3}),
    ]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_separator_inside_a_text_ends_no_line(separator):
    assert lines(f'{{"a": "x{separator}y"}}\n{{"a": 2}}'.encode()) == [
        (1, {"a": f"x{separator}y"}),
        (2, {"a": 2}),
    ]


def test_a_lone_carriage_return_ends_no_line():
    assert lines(b'{"a": 1}\r{"a": 2}') == [(1, "malformed_json")]


BAD_LINES = {
    **NO_JSON,
    **NO_UTF_8,
    "too deep": b"[" * 100_000,
    "cut": b'{"a": "b',
    "vertical tab": b"\x0b",
    "form feed": b" \x0c",
}
del BAD_LINES["line feed in a text"]  # in NDJSON it is two lines


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_spoils_no_other(bad):
    assert lines(b'{"a": 1}\n' + bad + b'\n{"a": 3}\n') == [
        (1, {"a": 1}),
        (2, "malformed_json"),
        (3, {"a": 3}),
    ]


def test_a_line_of_the_wrong_kind_is_a_row_to_be_judged():
    assert lines(b"1\nnull\n[]\n") == [(1, 1), (2, None), (3, [])]


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b" \r\n\t"])
def test_a_payload_of_blank_lines_has_no_row(content):
    assert lines(content) == []
