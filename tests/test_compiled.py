"""If the compiled form accepts a record, so does the serializer, with the same result and bytes."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from rest_framework.exceptions import ValidationError

from ingestion.compiled import Compiled, compiled
from ingestion.fields import Number, Text
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.serializers import RecordSerializer

_encode = msgspec.json.encode
SERIALIZERS = {path: one.serializer_class() for path, one in RECORD_TYPES.items()}
COMPILED = {path: Compiled(one) for path, one in SERIALIZERS.items()}

# Values in several notations; each is tried in every field.
TEXTS = (
    "",
    "0",
    "a",
    "a b",
    " a",
    "a ",
    "\n",
    "a\n",
    "\na",
    "\u00e4",
    "\u200b",
    "\ufeff",
    "\u2003",
    "\x1c",
    "\x85",
    "\x7f",
    "\0",
    "a\0b",
    "~",
    "true",
    "1-on-1",
    "STEM",
    "\U0001f600",
    "A" * 64,
    "A" * 65,
    "A" * 100,
    "A" * 101,
    "A" * 255,
    "A" * 256,
    "A" * 5000,
    "A" * 5001,
    "\u00e4" * 64,
    "\u00e4" * 65,
    "a@b.de",
    "a.b@c.example.com",
    "a..b@c.de",
    ".a@b.de",
    "a.@b.de",
    "a@b",
    "a@b.de\n",
    "a@-b.de",
    "@b.de",
    "a@b.c",
    "a@b..de",
    "a@[1.2.3.4]",
    "\u00e4@b.de",
    "a" * 65 + "@b.de",
    "a@" + "b" * 64 + ".de",
    "2024-05-14T15:00:00",
    "2024-05-14T15:00",
    "2024-05-14",
    "2024-02-29T00:00:00",
    "2023-02-29T00:00:00",
    "2024-02-30T00:00:00",
    "0000-01-01T00:00:00",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59",
    "2024-05-14T15:00:00.1",
    "2024-05-14T15:00:00.123456789Z",
    "2024-05-14T15:00:00.1234567891",
    "2024-05-14 15:00:00",
    "2024-05-14t15:00:00z",
    "2024-05-14T15:00:00+02:00",
    "2024-05-14T15:00:00-23:59",
    "2024-05-14T15:00:00+24:00",
    "2024-05-14T24:00:00",
    "2024-05-14T23:60:00",
    "2024-05-14T23:59:60",
    "2024-04-31T10:00:00",
    "2024-05-31T10:00:00",
    "2024-13-01T10:00:00",
    "2024-00-01T10:00:00",
    "2024-05-00T10:00:00",
    "2024-05-32T10:00:00",
    "\uff12024-05-14T15:00:00",
    "2024-05-14T15:00:00\n",
    "2024-05-14T15:00:00\n2024-05-14T15:00:00",
    "20240514T150000",
    "24-05-14T15:00:00",
)
VALUES = (
    None,
    True,
    False,
    -1,
    0,
    1,
    5,
    6,
    17,
    18,
    50,
    51,
    60,
    61,
    100,
    101,
    300,
    301,
    2**31 - 1,
    2**31,
    2**70,
    0.0,
    -0.0,
    0.1,
    1.0,
    1.5,
    18.0,
    62.0,
    1e2,
    1e-400,
    5e-324,
    -1.0,
    [],
    {},
    [[]],
    ["a"],
    [""],
    [" "],
    ["a\0"],
    ["a", 1],
    [None],
    ["a"] * 10,
    ["a"] * 11,
    ["A" * 100],
    ["A" * 101],
    ["\n"],
    *TEXTS,
)
# JSON has several ways to write a value, and some of these are not JSON.
ODD = (
    "1e0",
    "1E+2",
    "0.10",
    "-0",
    "1.0e1",
    "18e0",
    "0.5e0",
    "01",
    "1.",
    ".5",
    "+1",
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5000,
    '"\\u0041"',
    '"\\/"',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\\u0000"',
    '"\t"',
    "[1,]",
    "{}x",
    "",
    "'a'",
    "True",
    "[" * 100_000,
)
WRITTEN = (*map(json.dumps, VALUES), *(json.dumps(one, ensure_ascii=False) for one in TEXTS), *ODD)


def by_serializer(path: str, text: bytes) -> bytes | None:
    """The record as the serializer returns it, encoded; None if it is refused or not JSON."""
    try:
        value = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    try:
        return _encode(SERIALIZERS[path].run_validation(value))
    except ValidationError:
        return None


def written(path: str, **changed: str | None) -> bytes:
    """The example of a type with some fields written differently, or left out."""
    fields = {name: json.dumps(one) for name, one in SERIALIZERS[path].example.items()} | changed
    members = (f"{json.dumps(name)}: {one}" for name, one in fields.items() if one is not None)
    return ("{" + ", ".join(members) + "}").encode("utf-8", "surrogatepass")


def check(path: str, text: bytes) -> bool:
    """Whether it is accepted; then the serializer must return the same bytes."""
    (found,) = COMPILED[path].each([text])
    if found is not None:
        assert _encode(found) == by_serializer(path, text), text
    return found is not None


def test_what_is_accepted_the_serializer_accepts_with_the_same_bytes(record_type: RecordType):
    path = record_type.path
    for name in [*SERIALIZERS[path].fields, "unknown"]:
        accepted = [check(path, written(path, **{name: one})) for one in WRITTEN]
        check(path, written(path, **{name: None}))
        assert not all(accepted), name
        if name in ("tutor_id", "created_at"):
            assert any(accepted), name


def check_values(path: str, value: Any) -> bool:
    """The same for a value that was read already, such as the cells of a row."""
    (found,) = COMPILED[path].values([value])
    if found is not None:
        assert _encode(found) == _encode(SERIALIZERS[path].run_validation(value)), value
    return found is not None


# What JSON cannot hold.
FURTHER = (
    float("nan"),
    float("inf"),
    -float("inf"),
    "\ud83d",
    ["\udc00"],
    b"a",
    [b"a"],
    ("a",),
    {"a"},
)


def test_what_is_accepted_of_values_the_serializer_accepts_with_the_same_bytes(
    record_type: RecordType,
):
    path = record_type.path
    example = SERIALIZERS[path].example
    assert check_values(path, dict(example))
    for name in [*SERIALIZERS[path].fields, "unknown"]:
        accepted = [check_values(path, {**example, name: one}) for one in (*VALUES, *FURTHER)]
        assert not all(accepted), name
    for value in (*VALUES, *FURTHER):
        if not isinstance(value, dict):
            assert not check_values(path, value)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_values_altered_in_several_places_are_the_same_as_well(data):
    path = data.draw(st.sampled_from(list(RECORD_TYPES)))
    names = st.sampled_from(list(SERIALIZERS[path].fields))
    changes = st.dictionaries(names, st.sampled_from([UNSET, *VALUES, *FURTHER]), max_size=4)
    values = [
        {name: one for name, one in (SERIALIZERS[path].example | some).items() if one is not UNSET}
        for some in data.draw(st.lists(changes, max_size=6))
    ]
    for value in values:
        check_values(path, value)
    one_by_one = [record for value in values for record in COMPILED[path].values([value])]
    assert COMPILED[path].values(values) == one_by_one


def test_fields_of_a_rule_are_held_together(record_type: RecordType):
    path = record_type.path
    some = ["true", "false", "null", None, "1", "2", "[]", '["a"]', '"2024-05-14T15:00:00"']
    for rule in SERIALIZERS[path].rules:
        pairs = [dict(zip(rule.fields, two, strict=True)) for two in product(some, repeat=2)]
        assert any(check(path, written(path, **one)) for one in pairs)
        assert any(by_serializer(path, written(path, **one)) is None for one in pairs)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_records_altered_in_several_places_are_the_same_as_well(data):
    path = data.draw(st.sampled_from(list(RECORD_TYPES)))
    names = st.sampled_from(list(SERIALIZERS[path].fields))
    changes = st.dictionaries(names, st.sampled_from([None, *WRITTEN]), max_size=4)
    texts = [written(path, **one) for one in data.draw(st.lists(changes, max_size=6))]
    for text in texts:
        check(path, text)
        check(path, text[:-1] + b", " + text[1:])  # every field twice
    found = COMPILED[path].array(b"[" + b",".join(texts) + b"]")
    if found is None:
        assert any(not _is_json(text) for text in texts)
        return
    one_by_one = [record for text in texts for record in COMPILED[path].each([text])]
    assert found == COMPILED[path].each(texts) == one_by_one


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def test_the_examples_are_accepted_without_the_serializer(record_type: RecordType):
    example = _encode(record_type.serializer_class.example)
    (found,) = COMPILED[record_type.path].each([example])
    assert found is not None
    assert _encode(found) == by_serializer(record_type.path, example)


def test_absent_fields_stay_absent_and_defaults_come_in():
    example = dict(RECORD_TYPES["tutors"].serializer_class.example)
    del example["status"], example["created_at"]
    (found,) = COMPILED["tutors"].each([_encode(example)])
    shown = json.loads(_encode(found))
    assert shown["status"] == "active"
    assert "created_at" not in shown


class WithNumber(RecordSerializer):
    number = Number()


@pytest.mark.parametrize("number", [float("inf"), -float("inf"), float("nan")])
def test_a_number_without_bounds_is_finite(number):
    """As a value it would become null in JSON."""
    one = Compiled(WithNumber())
    assert one.values([{"number": number}]) == [None]
    assert one.values([{"number": 1.5}, {"number": 7}]) != [None, None]


class Shouting(Text):
    """A field that changes the values that it accepts."""

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(data).upper()


class WithOwnField(RecordSerializer):
    word = Shouting(max_length=10)


class WithOwnCheck(RecordSerializer):
    word = Text(max_length=10)

    def validate_word(self, word: str) -> str:
        return word


class WithValidator(RecordSerializer):
    word = Text(max_length=10, validators=[print])


@pytest.mark.parametrize("one", [WithOwnField, WithOwnCheck, WithValidator])
def test_what_cannot_be_compiled_is_left_to_the_serializer_and_told_once(one, log):
    assert compiled(one()) is None
    assert [one.__name__ in line and "word" in line for line in log()] == [True]
