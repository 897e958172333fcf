"""Every record gets exactly one verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion.decoding import Framing, Payload, Row
from ingestion.outcomes import FieldCode, FieldError, PayloadError, Rejection
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.validation import Valid, Verdict, encode, read, validate

ROOT = Path(__file__).resolve().parent.parent


def example(record_type: RecordType, **changes: Any) -> dict[str, Any]:
    return {**record_type.serializer_class.example, **changes}


def array(*records: Any) -> Payload:
    return Payload(content=json.dumps(records).encode(), framing=Framing.ARRAY)


def verdicts_on(record_type: RecordType, sent: Payload | list[Row]) -> list[Verdict]:
    return validate(record_type, read(record_type, sent) if isinstance(sent, Payload) else sent)


# --- Verdicts ----------------------------------------------------------------------------------


def test_each_record_has_its_own_verdict_in_the_order_given(record_type):
    good = example(record_type)
    bad = example(record_type, **{record_type.id_field: None})
    verdicts = verdicts_on(record_type, array(good, bad, 7, good))
    assert [type(one) for one in verdicts] == [Valid, Rejection, Rejection, Valid]
    assert verdicts[0] == verdicts[3] == Valid(id=good[record_type.id_field], content=encode(good))
    assert [one.index for one in verdicts if isinstance(one, Rejection)] == [1, 2]


def test_the_same_id_twice_in_a_batch_is_two_records(record_type):
    first, second = verdicts_on(record_type, array(example(record_type), example(record_type)))
    assert first == second
    assert isinstance(first, Valid)


def test_verdicts_on_lines_say_their_line_and_count_records_without_the_blank_ones(record_type):
    good = json.dumps(example(record_type)).encode()
    content = b"\n" + good + b"\n\n{\n \n[]\n" + good
    verdicts = verdicts_on(record_type, Payload(content=content, framing=Framing.LINES))
    assert [one.line for one in verdicts] == [2, 4, 6, 7]
    rejections = [one for one in verdicts if isinstance(one, Rejection)]
    assert [(one.index, one.errors[0].code.value) for one in rejections] == [
        (1, "malformed_json"),
        (2, "not_an_object"),
    ]


def test_a_row_that_could_not_be_read_is_refused_for_that_reason(record_type):
    problem = FieldError(field=None, code=FieldCode.MALFORMED_LINE, message="It is torn.")
    good = Row(value=example(record_type), line=2)
    verdicts = validate(record_type, iter([Row(line=1, problem=problem), good]))
    assert verdicts[0] == Rejection(index=0, line=1, errors=(problem,))
    assert isinstance(verdicts[1], Valid)
    assert verdicts[1].line == 2


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "text", [], [{}]])
def test_a_value_that_is_not_an_object_is_refused_as_a_whole(record_type, value):
    (verdict,) = verdicts_on(record_type, array(value))
    assert isinstance(verdict, Rejection)
    assert [(one.field, one.code.value) for one in verdict.errors] == [(None, "not_an_object")]
    assert verdict.id is None


def test_a_rejection_carries_the_records_id_if_it_is_valid(record_type):
    (verdict,) = verdicts_on(record_type, array({record_type.id_field: "x-1"}))
    assert isinstance(verdict, Rejection)
    assert verdict.id == "x-1"


@pytest.mark.parametrize("bad", [None, 7, "", " ", "two words", "x" * 65, "x\x00", ["x"], {}])
def test_a_rejection_never_repeats_an_id_that_is_not_valid(record_type, bad):
    changed = {record_type.id_field: bad}
    for verdict in verdicts_on(record_type, array(changed, example(record_type, **changed))):
        assert isinstance(verdict, Rejection)
        assert verdict.id is None


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["\ud800", "\x00", "1", "true", "2024-05-14T15:00:00", "STEM"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORD_TYPES)
@hypothesis_settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_whatever_json_is_sent_each_record_has_exactly_one_verdict(path, data):
    record_type = RECORD_TYPES[path]
    names = st.sampled_from(list(record_type.serializer_class.example))
    record = example(record_type, **data.draw(st.dictionaries(names, json_values, max_size=3)))
    (verdict,) = validate(record_type, [Row(value=record, line=3)])
    assert isinstance(verdict, Valid | Rejection)
    assert verdict.line == 3
    assert isinstance(verdict, Valid) or verdict.errors
    whole = data.draw(st.lists(json_values, min_size=1, max_size=3))
    verdicts = validate(record_type, [Row(value=value) for value in whole])
    assert [one.index for one in verdicts if isinstance(one, Rejection)] == list(range(len(whole)))


# --- Refusals of one cause ---------------------------------------------------------------------


def by_the_serializer(record_type: RecordType, record: Any) -> list[tuple[str | None, str, str]]:
    """The serializer's own errors for a record."""
    serializer = record_type.serializer_class(data=record)
    serializer.is_valid()

    def flat(detail: Any, field: str) -> Iterator[tuple[str | None, str, str]]:
        if isinstance(detail, dict):
            for key, inner in detail.items():
                yield from flat(inner, f"{field}[{key}]" if isinstance(key, int) else key)
        else:
            yield from ((field, one.code, str(one)) for one in detail)

    return list(flat(serializer.errors, ""))


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORD_TYPES)
@hypothesis_settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_record_that_lacks_fields_is_refused_as_the_serializer_refuses_it(path, data):
    record_type = RECORD_TYPES[path]
    names = list(record_type.serializer_class.example)
    record = example(record_type, **data.draw(st.dictionaries(st.sampled_from(names), json_values)))
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
        del record[name]
    (verdict,) = validate(record_type, [Row(value=record)])
    told = by_the_serializer(record_type, record)
    if isinstance(verdict, Rejection):
        assert [(one.field, one.code, one.message) for one in verdict.errors] == told
    else:
        assert told == []


def test_refusals_of_one_cause_share_one_object(record_type):
    """Ten thousand of them come in seventy bytes of gzip."""
    wrong = {name: [] for name in example(record_type)}
    for record in ({}, wrong, {record_type.id_field: 7}):
        first, second = verdicts_on(record_type, array(record, record))
        assert isinstance(first, Rejection)
        assert isinstance(second, Rejection)
        assert all(a is b for a, b in zip(first.errors, second.errors, strict=True))


# --- Limits ------------------------------------------------------------------------------------


def test_a_batch_of_the_limit_is_judged_and_one_more_record_is_too_many(record_type, settings):
    settings.MAX_BATCH_RECORDS = 3
    assert len(verdicts_on(record_type, array(1, 2, 3))) == 3
    lines = b"1\n\n2\n3\n"
    assert len(verdicts_on(record_type, Payload(content=lines, framing=Framing.LINES))) == 3
    for payload in (
        array(1, 2, 3, 4),
        Payload(content=lines + b"4", framing=Framing.LINES),
        [Row(value=1)] * 4,
    ):
        with pytest.raises(PayloadError) as caught:
            validate(
                record_type, read(record_type, payload) if isinstance(payload, Payload) else payload
            )
        assert caught.value.code.value == "batch_too_large"


def test_no_row_above_the_limit_is_created(record_type, settings):
    settings.MAX_BATCH_RECORDS = 3
    rows = iter([Row(value=one) for one in range(10)])
    with pytest.raises(PayloadError):
        validate(record_type, rows)
    assert next(rows).value == 4


@pytest.mark.parametrize(
    "payload",
    [
        array(),
        Payload(content=b"", framing=Framing.LINES),
        Payload(content=b"\n \n", framing=Framing.LINES),
        [],
    ],
    ids=["array", "nothing", "blank lines", "rows"],
)
def test_a_batch_of_nothing_is_refused(record_type, payload):
    with pytest.raises(PayloadError) as caught:
        validate(
            record_type, read(record_type, payload) if isinstance(payload, Payload) else payload
        )
    assert caught.value.code.value == "empty_batch"


# --- Threads -----------------------------------------------------------------------------------


def test_threads_that_share_a_serializer_never_mix_up_their_records():
    threads, rounds = 8, 300
    start = Barrier(threads)
    counts = {
        "tutors": "age",
        "sessions": "late_start_minutes",
        "feedback": "patience_rating",
    }
    paths = list(counts)

    def work(thread: int) -> list[str]:
        wrong = []
        start.wait(timeout=120)
        for turn in range(rounds):
            path = paths[(thread + turn) % len(paths)]
            record_type = RECORD_TYPES[path]
            name = f"{thread}-{turn}"
            record = example(record_type, **{record_type.id_field: name})
            expected: Valid | list[tuple[str | None, str]] = Valid(id=name, content=encode(record))
            if turn % 2:
                record |= {counts[path]: name}
                expected = [(counts[path], "not_an_integer")]
            (verdict,) = validate(record_type, [Row(value=record)])
            found: Any = verdict
            if isinstance(verdict, Rejection):
                found = [(one.field, one.code.value) for one in verdict.errors]
            if found != expected or verdict.id != name:
                wrong.append(name)
        return wrong

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            assert list(pool.map(work, range(threads))) == [[]] * threads
    finally:
        sys.setswitchinterval(interval)
