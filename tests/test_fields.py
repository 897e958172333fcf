"""Each type of value at, inside and outside its limits; nothing is converted or changed."""

from __future__ import annotations

import calendar
import math
import re
import sys
import unicodedata
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from ingestion.fields import (
    DATETIME_PATTERN,
    ID_PATTERN,
    LARGEST_INTEGER,
    NOT_BLANK_PATTERN,
    Boolean,
    Choice,
    Email,
    Identifier,
    Integer,
    IsoDateTime,
    Number,
    Text,
    TextList,
)

FIELDS = {
    "text": Text(max_length=5),
    "blank text": Text(max_length=5, allow_blank=True),
    "id": Identifier(),
    "email": Email(),
    "datetime": IsoDateTime(),
    "integer": Integer(min_value=18, max_value=100),
    "count": Integer(min_value=0),
    "number": Number(min_value=0, max_value=1),
    "boolean": Boolean(),
    "choice": Choice(("active", "inactive")),
    "list": TextList(min_length=1, max_length=3),
    "empty list": TextList(max_length=3),
}


def codes(kind: str, value: Any) -> Any:
    """The codes with which the field refuses the value, per entry for a list; None if it accepts.

    A value that is accepted must come out unchanged.
    """
    try:
        result = FIELDS[kind].run_validation(value)
    except ValidationError as refusal:
        return refusal.get_codes()
    assert (type(result), result) == (type(value), value)
    return None


# One value of each JSON type.
JSON_KINDS: dict[str, Any] = {
    "text": "62",
    "integer": 62,
    "number": 62.5,
    "boolean": True,
    "list": ["62"],
    "object": {"62": 62},
}


@pytest.mark.parametrize("sent", JSON_KINDS)
@pytest.mark.parametrize(
    ("kind", "takes", "code"),
    [
        ("text", {"text"}, "not_text"),
        ("blank text", {"text"}, "not_text"),
        ("id", {"text"}, "not_text"),
        ("email", set(), "not_text"),
        ("datetime", set(), "not_text"),
        ("integer", {"integer"}, "not_an_integer"),
        ("number", set(), "not_a_number"),
        ("boolean", {"boolean"}, "not_a_boolean"),
        ("choice", set(), "invalid_choice"),
        ("list", {"list"}, "not_a_list"),
    ],
)
def test_a_value_of_another_kind_is_refused_and_never_converted(kind, takes, code, sent):
    right_kind_but_outside_its_rule = {
        ("email", "text"): ["invalid_email"],
        ("datetime", "text"): ["invalid_datetime"],
        ("number", "integer"): ["max_value"],
        ("number", "number"): ["max_value"],
    }
    expected = None if sent in takes else right_kind_but_outside_its_rule.get((kind, sent), [code])
    assert codes(kind, JSON_KINDS[sent]) == expected


@pytest.mark.parametrize("kind", FIELDS)
def test_null_is_refused_if_it_is_not_allowed(kind):
    assert codes(kind, None) == ["null"]


# --- Text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("text", "a", None),
        ("text", "abcde", None),
        ("text", "abcdef", ["max_length"]),
        ("text", "\U0001f600" * 5, None),
        ("text", "\U0001f600" * 6, ["max_length"]),
        ("text", "", ["blank"]),
        ("blank text", "", None),
        ("blank text", "   ", None),
        ("blank text", "      ", ["max_length"]),
        ("id", "a" * 64, None),
        ("id", "a" * 65, ["max_length"]),
        ("id", "", ["blank"]),
    ],
)
def test_a_length_is_counted_in_characters(kind, text, expected):
    assert codes(kind, text) == expected


@pytest.mark.parametrize("text", [" a ", "\ta\n", "a\r\nb", "e\u0301", "\u00e9", "\ufb01", "<b>"])
def test_a_text_keeps_its_spaces_and_its_spelling(text):
    assert codes("text", text) is None


@pytest.mark.parametrize("bad", ["\x00", "\ud800", "\udbff", "\udc00", "\udfff"])
@pytest.mark.parametrize("kind", ["text", "blank text", "id", "email", "datetime"])
def test_nul_and_half_a_surrogate_pair_are_refused_wherever_they_stand(kind, bad):
    for text in (bad, f"{bad}a", f"a{bad}", f"a{bad}b"):
        assert codes(kind, text) == ["invalid_character"]


def is_white_space(character: str) -> bool:
    return character.isspace() or character == "\ufeff"


def is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def test_only_white_space_is_blank_and_ids_hold_neither_white_space_nor_controls():
    not_blank = re.compile(NOT_BLANK_PATTERN)
    an_id = re.compile(ID_PATTERN)
    for code_point in range(sys.maxunicode + 1):
        if 0xD800 <= code_point <= 0xDFFF:
            continue
        character = chr(code_point)
        white_space = is_white_space(character)
        assert bool(not_blank.match(character)) == (code_point > 0 and not white_space), code_point
        assert bool(an_id.match(character)) == (not white_space and not is_control(character)), (
            code_point
        )


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\r\n", "\x0b", "\x85", "\xa0", "\u2028"])
def test_a_text_of_white_space_alone_is_blank(space):
    assert codes("text", space) == ["blank"]
    assert codes("id", space) == ["blank"]
    assert codes("list", [space]) == {0: ["blank"]}


@pytest.mark.parametrize("bad", [" ", "\t", "\n", "\x1f", "\x7f", "\x9f", "\xa0", "\u3000"])
def test_an_id_with_white_space_or_a_control_character_is_refused_wherever_it_stands(bad):
    for text in (f"{bad}a", f"a{bad}", f"a{bad}b"):
        assert codes("id", text) == ["invalid_id"]


@pytest.mark.parametrize("text", ["a", "-", "tutor_00001", "\u00e9\u4e2d\U0001f600", "a/b?c=d&<e>"])
def test_an_id_may_be_of_any_other_character(text):
    assert codes("id", text) is None


# --- E-mail ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["a@b.co", "first.last+tag@mail.example.co.uk", "o'brien@example.com", "a@xn--bcher-kva.de"],
)
def test_an_email_address_is_taken(address):
    assert codes("email", address) is None


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "@example.com",
        "name@",
        "name@example",
        "name@example..com",
        "name@-example.com",
        "two words@example.com",
        "a@b@example.com",
        ".name@example.com",
        " name@example.com",
        "name@example.com ",
        "name@example.com\n",
        "Name <name@example.com>",
        f"{'a' * 320}@example.com",
    ],
)
def test_a_text_that_is_not_an_email_address_is_refused(text):
    assert codes("email", text) == ["invalid_email"]


# --- Date and time -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-14T15:00:00",
        "2024-05-14T15:00",
        "2024-05-14T15:00:00.1",
        "2024-05-14T15:00:00.123456",
        "2024-05-14T15:00:00.123456789",
        "2024-05-14T15:00:00Z",
        "2024-05-14T15:00:00.123456Z",
        "2024-05-14T15:00:00+02:00",
        "2024-05-14T15:00:00-11:30",
        "2024-05-14T15:00:00+23:59",
        "2024-05-14T15:00+00:00",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59.999999",
    ],
)
def test_a_date_and_time_stays_to_the_letter_naive_or_with_its_offset(text):
    assert codes("datetime", text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-14",
        "15:00:00",
        "2024-05-14 15:00:00",
        "2024-05-14t15:00:00",
        "2024-05-14T15:00:00z",
        "2024-05-14T15",
        "2024-05-14T15:00:",
        "2024-05-14T15:00:00.",
        "2024-05-14T15:00:00,5",
        "2024-05-14T15:00:00.1234567890",
        "2024-05-14T24:00:00",
        "2024-05-14T15:60:00",
        "2024-05-14T15:00:60",
        "2024-05-14T15:00:00+24:00",
        "2024-05-14T15:00:00+02:60",
        "2024-05-14T15:00:00+2:00",
        "2024-05-14T15:00:00 +02:00",
        "2024-05-14T15:00:00Z+02:00",
        "2024-5-14T15:00:00",
        "24-05-14T15:00:00",
        "02024-05-14T15:00:00",
        "-2024-05-14T15:00:00",
        "20240514T150000",
        "2024-W20-2T15:00:00",
        "2024-135T15:00:00",
        "0000-01-01T00:00:00",
        "2023-02-29T00:00:00",
        "1900-02-29T00:00:00",
        "2024-02-30T00:00:00",
        "2024-04-31T00:00:00",
        "2024-00-10T00:00:00",
        "2024-13-10T00:00:00",
        "2024-05-00T00:00:00",
        " 2024-05-14T15:00:00",
        "2024-05-14T15:00:00 ",
        "2024-05-14T15:00:00\n",
        "\u0662\u0660\u0662\u0664-05-14T15:00:00",
        "1715698800",
        "now",
    ],
)
def test_a_text_that_is_not_a_date_and_time_is_refused(text):
    assert codes("datetime", text) == ["invalid_datetime"]


def two(least: int, most: int) -> st.SearchStrategy[str]:
    return st.integers(least, most).map("{:02d}".format)


fractions = st.from_regex(r"(\.[0-9]{1,9})?", fullmatch=True)
offsets = st.builds("{}{}:{}".format, st.sampled_from("+-"), two(0, 25), two(0, 59))
# The right form with every part slightly out of range. The table above tests 24:00, because
# Python's own parser has changed how it reads that.
# Python's own parser changed its mind about it.
candidates = st.builds(
    "{}-{}-{}T{}:{}{}{}".format,
    st.integers(0, 9999).map("{:04d}".format),
    two(0, 13),
    two(0, 32) | two(28, 31),
    two(0, 23) | st.just("25"),
    two(0, 61),
    st.just("") | st.builds(":{}{}".format, two(0, 61), fractions),
    st.sampled_from(["", "Z"]) | offsets,
)


def python_reads(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(candidates)
def test_the_pattern_of_date_and_time_agrees_with_pythons_parser(text):
    assert bool(re.match(DATETIME_PATTERN, text)) == python_reads(text)


def test_the_pattern_of_date_and_time_knows_the_whole_calendar():
    pattern = re.compile(DATETIME_PATTERN)
    for year in range(1, 10_000):
        leap_day = f"{year:04d}-02-29T00:00:00"
        assert bool(pattern.match(leap_day)) == calendar.isleap(year), year
    for year in (2023, 2024):
        for month in range(1, 13):
            for day in range(1, 33):
                text = f"{year}-{month:02d}-{day:02d}T00:00:00"
                assert bool(pattern.match(text)) == python_reads(text), text


# --- Numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", 17, ["min_value"]),
        ("integer", 18, None),
        ("integer", 19, None),
        ("integer", 99, None),
        ("integer", 100, None),
        ("integer", 101, ["max_value"]),
        ("count", -1, ["min_value"]),
        ("count", 0, None),
        ("count", LARGEST_INTEGER, None),
        ("count", LARGEST_INTEGER + 1, ["max_value"]),
        ("count", 10**4000, ["max_value"]),
        ("count", -(10**4000), ["min_value"]),
        ("count", 1e308, ["max_value"]),
        ("integer", 62.5, ["not_an_integer"]),
        ("integer", math.inf, ["not_an_integer"]),
        ("integer", -math.inf, ["not_an_integer"]),
        ("integer", math.nan, ["not_an_integer"]),
        ("integer", False, ["not_an_integer"]),
        ("number", 0, None),
        ("number", 0.0, None),
        ("number", 5e-324, None),
        ("number", 0.92, None),
        ("number", 1, None),
        ("number", 1.0, None),
        ("number", math.nextafter(1, 2), ["max_value"]),
        ("number", -5e-324, ["min_value"]),
        ("number", -1, ["min_value"]),
        ("number", 2, ["max_value"]),
        ("number", 10**4000, ["max_value"]),
        ("number", math.inf, ["not_a_number"]),
        ("number", -math.inf, ["not_a_number"]),
        ("number", math.nan, ["not_a_number"]),
        ("number", False, ["not_a_number"]),
    ],
)
def test_a_number_is_held_to_its_bounds(kind, value, expected):
    assert codes(kind, value) == expected


@pytest.mark.parametrize("value", [62.0, 6.2e1, 18.0, 100.0])
def test_a_whole_number_written_with_a_point_is_whole(value):
    result = FIELDS["integer"].run_validation(value)
    assert (type(result), result) == (int, value)


# --- Booleans, choices, lists ------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, "true", "false", "True", "on", "", [], {}])
def test_what_only_looks_like_true_or_false_is_refused(value):
    assert codes("boolean", value) == ["not_a_boolean"]


@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_taken(value):
    assert codes("boolean", value) is None


@pytest.mark.parametrize(
    "value",
    ["Active", "ACTIVE", " active", "active ", "active\n", "", "activ", 0, True, ["active"], {}],
)
def test_a_choice_is_taken_in_exactly_its_spelling(value):
    assert codes("choice", "active") is None
    assert codes("choice", "inactive") is None
    assert codes("choice", value) == ["invalid_choice"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("list", ["a"], None),
        ("list", ["a", "b", "c"], None),
        ("list", ["a", "a"], None),
        ("list", ["a", "b", "c", "d"], ["max_length"]),
        ("list", [], ["min_length"]),
        ("empty list", [], None),
        ("list", ["x" * 100], None),
        ("list", ["a", "x" * 101], {1: ["max_length"]}),
        ("list", ["a", ""], {1: ["blank"]}),
        ("list", ["a", None, 3], {1: ["null"], 2: ["not_text"]}),
        ("list", ["\x00", ["a"], {}], {0: ["invalid_character"], 1: ["not_text"], 2: ["not_text"]}),
        ("list", "abc", ["not_a_list"]),
        ("list", {"0": "a"}, ["not_a_list"]),
        ("list", {}, ["not_a_list"]),
    ],
)
def test_a_list_is_held_to_its_length_and_each_entry_to_its_own_rule(kind, value, expected):
    assert codes(kind, value) == expected


def test_no_entry_of_a_list_that_is_too_long_is_validated():
    assert codes("list", [None] * 1_000_000) == ["max_length"]


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (Email(), "invalid_email"),
        (IsoDateTime(), "invalid_datetime"),
        (Identifier(), "max_length"),
        (Text(max_length=5000), "max_length"),
    ],
)
def test_a_text_of_megabytes_is_refused_by_its_length_before_its_letters_are_looked_at(field, code):
    """Checking each of its characters would block all other threads."""

    class Unseen(str):
        def __len__(self) -> int:
            return 2**24

    text = Unseen("\0")  # code that checks it finds a character that is not allowed
    with pytest.raises(ValidationError) as caught:
        field.run_validation(text)
    detail: Any = caught.value.detail
    assert [one.code for one in detail] == [code]
