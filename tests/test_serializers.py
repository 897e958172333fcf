"""The contract's section 1, field by field: its rules are written here again, by hand."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.decoding import Row
from ingestion.outcomes import Rejection
from ingestion.records import RECORD_TYPES
from ingestion.validation import Valid, validate

# As the contract prints them: they must be accepted unchanged.
EXAMPLES: dict[str, dict[str, Any]] = {
    "tutors": json.loads(
        '{"tutor_id":"tutor_00001","name":"John Doe","email":"john.doe@example.com","age":28,'
        '"location":"New York","education_level":"Master\'s Degree",'
        '"subjects":["Mathematics","Algebra"],"subject_type":"STEM",'
        '"onboarding_date":"2024-01-15T10:00:00","tenure_days":120,'
        '"behavioral_archetype":"high_performer","baseline_sessions_per_week":20,'
        '"status":"active","created_at":"2024-01-15T10:00:00","updated_at":"2024-05-14T10:00:00"}'
    ),
    "sessions": json.loads(
        '{"session_id":"550e8400-e29b-41d4-a716-446655440000","tutor_id":"tutor_00001",'
        '"student_id":"student_00042","session_number":3,"is_first_session":false,'
        '"scheduled_start":"2024-05-14T15:00:00","actual_start":"2024-05-14T15:02:00",'
        '"duration_minutes":60,"subject":"Algebra","session_type":"1-on-1",'
        '"tutor_initiated_reschedule":false,"no_show":false,"late_start_minutes":2,'
        '"engagement_score":0.92,"learning_objectives_met":true,"technical_issues":false,'
        '"created_at":"2024-05-14T15:00:00","updated_at":"2024-05-14T16:05:00"}'
    ),
    "feedback": json.loads(
        '{"feedback_id":"660e8400-e29b-41d4-a716-446655440000",'
        '"session_id":"550e8400-e29b-41d4-a716-446655440000","student_id":"student_00042",'
        '"tutor_id":"tutor_00001","overall_rating":5,"is_first_session":false,'
        '"subject_knowledge_rating":5,"communication_rating":5,"patience_rating":4,'
        '"engagement_rating":5,"helpfulness_rating":5,'
        '"free_text_feedback":"Great session, very helpful!",'
        '"submitted_at":"2024-05-14T18:30:00","created_at":"2024-05-14T18:30:00",'
        '"would_recommend":null,"improvement_areas":null}'
    ),
}
LARGEST = 2_147_483_647


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What the contract says about one field.

    `inside` holds the values at the limits. `outside` holds the nearest values outside them, with
    the code of the refusal. `valid` draws from all values between.
    """

    inside: tuple[Any, ...]
    outside: tuple[tuple[Any, str], ...]
    valid: st.SearchStrategy[Any]
    presence: str = "required"
    default: Any = None


def visible(text: str) -> bool:
    return any(not one.isspace() and one != "\ufeff" for one in text)


def texts(most: int) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
    return st.text(characters, min_size=1, max_size=most).filter(visible)


def text(most: int) -> Rule:
    return Rule(
        inside=("x", "x" * most, " x\t", "\U0001f600" * most),
        outside=(
            ("", "blank"),
            (" ", "blank"),
            ("x" * (most + 1), "max_length"),
            ("x\x00", "invalid_character"),
            ("\ud800", "invalid_character"),
            (7, "not_text"),
        ),
        valid=texts(most),
    )


def text_list(least: int, **presence: str) -> Rule:
    too_short = (([], "min_length"),) if least else ()
    return Rule(
        inside=(["x"] * max(1, least), ["x" * 100] * 10, ["x"] * least),
        outside=(
            *too_short,
            (["x"] * 11, "max_length"),
            ("x", "not_a_list"),
            ({}, "not_a_list"),
        ),
        valid=st.lists(texts(100), min_size=least, max_size=10),
        **presence,
    )


def integer(least: int, most: int = LARGEST) -> Rule:
    return Rule(
        inside=(least, least + 1, most - 1, most),
        outside=(
            (least - 1, "min_value"),
            (most + 1, "max_value"),
            (least + 0.5, "not_an_integer"),
            (str(least), "not_an_integer"),
            (True, "not_an_integer"),
            (math.inf, "not_an_integer"),
        ),
        valid=st.integers(least, most),
    )


def choice(*words: str, **presence: Any) -> Rule:
    outside = (words[0].swapcase(), f"{words[0]} ", "", "other", 1, True, list(words))
    return Rule(
        inside=words,
        outside=tuple((value, "invalid_choice") for value in outside),
        valid=st.sampled_from(words),
        **presence,
    )


def boolean(**presence: str) -> Rule:
    return Rule(
        inside=(True, False),
        outside=tuple((value, "not_a_boolean") for value in (0, 1, "true", "", 1.0, [])),
        valid=st.booleans(),
        **presence,
    )


def moment(**presence: str) -> Rule:
    minutes = st.integers(-23 * 60, 23 * 60)
    offsets = minutes.map(lambda east: timezone(timedelta(minutes=east)))
    return Rule(
        inside=(
            "2024-05-14T15:00:00",
            "2024-05-14T15:00:00.123456",
            "2024-05-14T15:00:00Z",
            "2024-05-14T15:00:00+02:00",
            "2999-12-31T23:59:59",
        ),
        outside=(
            ("2024-05-14", "invalid_datetime"),
            ("2024-05-14 15:00:00", "invalid_datetime"),
            ("2023-02-29T15:00:00", "invalid_datetime"),
            ("2024-05-14T25:00:00", "invalid_datetime"),
            ("soon", "invalid_datetime"),
            ("", "blank"),
            (1715698800, "not_text"),
        ),
        valid=st.datetimes(timezones=st.none() | offsets).map(lambda one: one.isoformat()),
        **presence,
    )


AN_ID = Rule(
    inside=("x", "x" * 64, "550e8400-e29b-41d4-a716-446655440000"),
    outside=(
        ("", "blank"),
        ("x" * 65, "max_length"),
        ("x y", "invalid_id"),
        ("x\n", "invalid_id"),
        ("x\x7f", "invalid_id"),
        ("x\x00", "invalid_character"),
        (7, "not_text"),
    ),
    valid=st.text(
        st.characters(
            exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters="\ufeff"
        ),
        min_size=1,
        max_size=64,
    ),
)
AN_EMAIL = Rule(
    inside=("a@b.co", "first.last+tag@mail.example.com"),
    outside=(
        ("plain", "invalid_email"),
        ("name@example", "invalid_email"),
        ("name@example.com\n", "invalid_email"),
        ("", "blank"),
        (7, "not_text"),
    ),
    valid=st.from_regex(
        r"[a-z0-9_]{1,20}([.+-][a-z0-9]{1,9})?@([a-z0-9]{1,20}\.){1,3}[a-z]{2,9}", fullmatch=True
    ),
)
A_SCORE = Rule(
    inside=(0, 0.0, 0.5, 1, 1.0, 5e-324),
    outside=(
        (-5e-324, "min_value"),
        (math.nextafter(1, 2), "max_value"),
        (math.inf, "not_a_number"),
        (math.nan, "not_a_number"),
        ("0.5", "not_a_number"),
        (True, "not_a_number"),
    ),
    valid=st.floats(0, 1) | st.integers(0, 1),
)
FREE_TEXT = Rule(
    inside=("", " ", "x" * 5000),
    outside=(
        ("x" * 5001, "max_length"),
        ("x\x00", "invalid_character"),
        ("\udfff", "invalid_character"),
        (7, "not_text"),
    ),
    valid=st.just("") | texts(200),
    presence="default",
    default="",
)
OPTIONAL = {"presence": "optional"}

RULES: dict[str, dict[str, Rule]] = {
    "tutors": {
        "tutor_id": AN_ID,
        "name": text(255),
        "email": AN_EMAIL,
        "age": integer(18, 100),
        "location": text(255),
        "education_level": text(100),
        "subjects": text_list(1),
        "subject_type": choice("STEM", "Language", "TestPrep"),
        "onboarding_date": moment(),
        "tenure_days": integer(0),
        "behavioral_archetype": choice(
            "high_performer", "at_risk", "new_tutor", "steady", "churner"
        ),
        "baseline_sessions_per_week": integer(0, 50),
        "status": choice("active", "inactive", "suspended", presence="default", default="active"),
        "created_at": moment(**OPTIONAL),
        "updated_at": moment(**OPTIONAL),
    },
    "sessions": {
        "session_id": AN_ID,
        "tutor_id": AN_ID,
        "student_id": AN_ID,
        "session_number": integer(1),
        "is_first_session": boolean(),
        "scheduled_start": moment(),
        "actual_start": moment(**OPTIONAL),
        "duration_minutes": integer(0, 300),
        "subject": text(100),
        "session_type": choice("1-on-1", "group", "workshop", presence="default", default="1-on-1"),
        "tutor_initiated_reschedule": boolean(),
        "no_show": boolean(),
        "late_start_minutes": integer(0, 60),
        "engagement_score": A_SCORE,
        "learning_objectives_met": boolean(),
        "technical_issues": boolean(),
        "created_at": moment(**OPTIONAL),
        "updated_at": moment(**OPTIONAL),
    },
    "feedback": {
        "feedback_id": AN_ID,
        "session_id": AN_ID,
        "student_id": AN_ID,
        "tutor_id": AN_ID,
        "overall_rating": integer(1, 5),
        "is_first_session": boolean(),
        "subject_knowledge_rating": integer(1, 5),
        "communication_rating": integer(1, 5),
        "patience_rating": integer(1, 5),
        "engagement_rating": integer(1, 5),
        "helpfulness_rating": integer(1, 5),
        "free_text_feedback": FREE_TEXT,
        "submitted_at": moment(**OPTIONAL),
        "created_at": moment(**OPTIONAL),
        "would_recommend": boolean(**OPTIONAL),
        "improvement_areas": text_list(0, **OPTIONAL),
    },
}
FIELDS = [(path, name) for path, rules in RULES.items() for name in rules]
each_type = pytest.mark.parametrize("path", RULES)


def each_field(*presences: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("path", "name"),
        [(path, name) for path, name in FIELDS if RULES[path][name].presence in presences],
    )


def in_order(path: str, record: dict[str, Any]) -> dict[str, Any]:
    """The record, with dependent fields set so that the rules between fields hold."""
    record = dict(record)
    if path == "sessions":
        record["is_first_session"] = record["session_number"] == 1
        if record["no_show"] and "actual_start" in record:
            record["actual_start"] = None
    if path == "feedback" and not record["is_first_session"]:
        if "would_recommend" in record:
            record["would_recommend"] = None
        if record.get("improvement_areas"):
            record["improvement_areas"] = []
    return record


def record_with(path: str, name: str, value: Any) -> dict[str, Any]:
    """The example with another value in one field, and the other fields as this value needs."""
    record = EXAMPLES[path] | {name: value}
    if name == "is_first_session" and path == "sessions":
        return record | {"session_number": 1 if value is True else 3}
    if name == "session_number":
        return record | {"is_first_session": value == 1}
    if name == "no_show":
        return record | {"actual_start": None}
    if name in ("would_recommend", "improvement_areas"):
        return record | {"is_first_session": True}
    return record


def verdict(path: str, record: Any) -> Valid | Rejection:
    (one,) = validate(RECORD_TYPES[path], [Row(value=record)])
    return one


def accepted(path: str, record: dict[str, Any]) -> dict[str, Any]:
    one = verdict(path, record)
    assert isinstance(one, Valid), one
    found: dict[str, Any] = json.loads(one.content)
    return found


def refused(path: str, record: dict[str, Any]) -> set[tuple[str | None, str]]:
    one = verdict(path, record)
    assert isinstance(one, Rejection), one
    return {(error.field, error.code.value) for error in one.errors}


def letters(record: dict[str, Any]) -> str:
    """The record exactly: 1, 1.0 and true are three different values."""
    return json.dumps(record, sort_keys=True)


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


# --- Field by field ----------------------------------------------------------------------------


@each_type
def test_the_contracts_example_is_accepted_as_it_stands(path):
    assert letters(accepted(path, EXAMPLES[path])) == letters(EXAMPLES[path])


@each_type
def test_the_serializers_have_the_fields_the_choices_and_the_example_of_the_contract(path):
    serializer_class = RECORD_TYPES[path].serializer_class
    fields = serializer_class().fields
    assert list(fields) == list(RULES[path])
    for name, field in fields.items():
        if hasattr(field, "choices"):
            assert tuple(field.choices) == RULES[path][name].inside
    assert serializer_class.example == EXAMPLES[path]


@each_field("required", "optional", "default")
def test_a_value_at_its_bounds_is_accepted_and_kept(path, name):
    for value in RULES[path][name].inside:
        record = record_with(path, name, value)
        assert letters(accepted(path, record)) == letters(record)


@each_field("required", "optional", "default")
def test_a_value_beyond_its_bounds_is_refused_in_the_name_of_its_field(path, name):
    for value, code in RULES[path][name].outside:
        assert refused(path, record_with(path, name, value)) == {(name, code)}, value


@pytest.mark.parametrize(
    ("path", "name"), [("tutors", "subjects"), ("feedback", "improvement_areas")]
)
@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("x" * 101, "max_length"),
        ("", "blank"),
        (None, "null"),
        ("x\x00", "invalid_character"),
        (7, "not_text"),
    ],
    ids=lambda one: str(one)[:10],
)
def test_an_entry_of_a_list_that_is_beyond_its_bounds_is_named_by_its_place(
    path, name, entry, code
):
    assert refused(path, record_with(path, name, ["x", entry])) == {(f"{name}[1]", code)}


@each_field("required")
def test_a_required_field_can_be_neither_absent_nor_null(path, name):
    assert refused(path, without(EXAMPLES[path], name)) == {(name, "required")}
    assert refused(path, EXAMPLES[path] | {name: None}) == {(name, "null")}


@each_field("optional")
def test_an_optional_field_may_be_null_or_absent_and_what_is_absent_stays_absent(path, name):
    record = without(EXAMPLES[path], name)
    assert letters(accepted(path, record)) == letters(record)
    record = EXAMPLES[path] | {name: None}
    assert letters(accepted(path, record)) == letters(record)


@each_field("default")
def test_a_field_with_a_default_may_be_absent_and_then_has_it(path, name):
    absent = accepted(path, without(EXAMPLES[path], name))
    assert letters(absent) == letters(EXAMPLES[path] | {name: RULES[path][name].default})
    assert refused(path, EXAMPLES[path] | {name: None}) == {(name, "null")}


@each_type
def test_fields_that_the_type_does_not_know_are_dropped(path):
    strange = {"nickname": "Jo", "": 1, "data": {"a": [1]}, "_id": None, "tutor_id ": "x"}
    assert letters(accepted(path, EXAMPLES[path] | strange)) == letters(EXAMPLES[path])
    assert letters(accepted(path, strange | EXAMPLES[path])) == letters(EXAMPLES[path])


@each_type
def test_all_fields_at_fault_are_told_at_once(path):
    required = {name for name, rule in RULES[path].items() if rule.presence == "required"}
    assert refused(path, {}) == {(name, "required") for name in required}


# --- Rules between fields ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "first"), [(1, False), (2, True), (LARGEST, True), (1.0, False)]
)
def test_a_first_session_is_session_number_one_and_no_other(number, first):
    record = EXAMPLES["sessions"] | {"session_number": number, "is_first_session": first}
    assert refused("sessions", record) == {("is_first_session", "first_session_mismatch")}
    accepted("sessions", record | {"is_first_session": not first})


def test_a_session_that_nobody_attended_has_no_start():
    record = EXAMPLES["sessions"] | {"no_show": True}
    assert refused("sessions", record) == {("actual_start", "no_show_has_start")}
    accepted("sessions", record | {"actual_start": None})
    accepted("sessions", without(record, "actual_start"))


def test_a_session_that_was_attended_may_lack_its_start():
    accepted("sessions", EXAMPLES["sessions"] | {"actual_start": None})


def test_all_broken_rules_between_fields_are_told_at_once():
    record = EXAMPLES["sessions"] | {"no_show": True, "is_first_session": True}
    assert refused("sessions", record) == {
        ("actual_start", "no_show_has_start"),
        ("is_first_session", "first_session_mismatch"),
    }


@pytest.mark.parametrize("recommend", [True, False])
def test_only_a_first_session_has_a_recommendation(recommend):
    record = EXAMPLES["feedback"] | {"would_recommend": recommend}
    assert refused("feedback", record) == {("would_recommend", "first_session_only")}
    accepted("feedback", record | {"is_first_session": True})


def test_only_a_first_session_has_areas_to_improve_and_an_empty_list_is_none():
    record = EXAMPLES["feedback"] | {"improvement_areas": ["pace"]}
    assert refused("feedback", record) == {("improvement_areas", "first_session_only")}
    accepted("feedback", record | {"is_first_session": True})
    accepted("feedback", EXAMPLES["feedback"] | {"improvement_areas": []})


def test_feedback_on_a_first_session_needs_neither():
    record = EXAMPLES["feedback"] | {"is_first_session": True}
    accepted("feedback", record)
    accepted("feedback", without(record, "would_recommend", "improvement_areas"))


# --- What a refusal says -----------------------------------------------------------------------

CANARY = "Zanzibar"
CANARY_NUMBER = 73_911_731_931_173


@each_field("required", "optional", "default")
def test_no_refusal_repeats_what_was_sent(path, name):
    for value in (
        CANARY * 1000,
        f"{CANARY}\x00 {CANARY}",
        f"{CANARY}\ud800",
        [CANARY * 1000],
        [f"{CANARY}\x00"] * 3,
        [CANARY] * 11,
        {CANARY: CANARY},
        [{CANARY: CANARY}],
        CANARY_NUMBER,
        -CANARY_NUMBER,
        CANARY_NUMBER + 0.5,
    ):
        one = verdict(path, record_with(path, name, value) | {CANARY: CANARY})
        assert isinstance(one, Rejection)
        assert CANARY not in repr(one)
        assert str(CANARY_NUMBER) not in repr(one)


# --- Any record --------------------------------------------------------------------------------


def records(path: str) -> st.SearchStrategy[dict[str, Any]]:
    """Records that the contract allows, by construction."""
    rules = RULES[path]
    whole = st.fixed_dictionaries(
        {name: rule.valid for name, rule in rules.items() if rule.presence == "required"},
        optional={
            name: rule.valid | st.none() if rule.presence == "optional" else rule.valid
            for name, rule in rules.items()
            if rule.presence != "required"
        },
    )
    if path == "sessions":  # otherwise hardly any would be a first session
        first = whole.map(lambda record: record | {"session_number": 1})
        whole = whole | first
    return whole.map(lambda record: in_order(path, record))


# Values that JSON can hold, and the infinity that Python reads from 1e999.
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def json_kind(value: Any) -> type:
    """The type of a JSON value; a number is a number, whole or not."""
    return float if type(value) is int else type(value)


def forbidden(rule: Rule) -> st.SearchStrategy[Any]:
    """Values that the rule forbids: of another type, or just outside its limits."""
    right = {json_kind(value) for value in rule.inside}
    if rule.presence == "optional":
        right.add(type(None))
    other_kinds = json_values.filter(lambda value: json_kind(value) not in right)
    return st.sampled_from([value for value, _ in rule.outside]) | other_kinds


@pytest.mark.slow
@each_type
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_record_that_the_contract_allows_is_accepted_and_comes_out_as_it_went_in(path, data):
    record = data.draw(records(path))
    names = st.text().filter(lambda name: name not in RULES[path])
    unknown = data.draw(st.dictionaries(names, json_values, max_size=2))
    defaults = {
        name: rule.default for name, rule in RULES[path].items() if rule.presence == "default"
    }
    assert letters(accepted(path, record | unknown)) == letters(defaults | record)


@pytest.mark.slow
@each_type
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_record_wrong_in_one_field_is_refused_in_the_name_of_exactly_that_field(path, data):
    record = data.draw(records(path))
    name = data.draw(st.sampled_from(list(RULES[path])))
    broken = record | {name: data.draw(forbidden(RULES[path][name]))}
    assert {field for field, _ in refused(path, broken)} == {name}
