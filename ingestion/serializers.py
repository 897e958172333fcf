"""The three records: what is valid. These serializers are the contract (its section 1).

Everything else is derived from them: the OpenAPI schema, forms, templates, the field guide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from ingestion.fields import (
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
from ingestion.outcomes import FieldCode


def _optional_datetime(help_text: str) -> IsoDateTime:
    return IsoDateTime(required=False, allow_null=True, help_text=help_text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule between fields of a record.

    `holds` gets the values of `fields`, None for one that is absent. If it is broken, the field
    `at` is refused with `code` and `message`.
    """

    fields: tuple[str, ...]
    holds: Callable[..., bool]
    at: str
    code: FieldCode
    message: str


class RecordSerializer(serializers.Serializer[Any]):
    """A record type: its fields, and the rules between them.

    `example` is one whole valid record. Fields that are not declared are dropped.
    """

    example: ClassVar[Mapping[str, Any]]
    rules: ClassVar[tuple[Rule, ...]] = ()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check the rules between fields; all that are broken are told at once."""
        broken = {
            rule.at: ErrorDetail(rule.message, rule.code)
            for rule in self.rules
            if not rule.holds(*map(attrs.get, rule.fields))
        }
        if broken:
            raise serializers.ValidationError(broken)
        return attrs


class TutorSerializer(RecordSerializer):
    """A tutor profile."""

    tutor_id = Identifier(help_text="The tutor's id.")
    name = Text(max_length=255, help_text="The tutor's full name.")
    email = Email(help_text="The tutor's e-mail address.")
    age = Integer(min_value=18, max_value=100, help_text="Age in years.")
    location = Text(max_length=255, help_text="City or region.")
    education_level = Text(max_length=100, help_text="Highest degree.")
    subjects = TextList(min_length=1, max_length=10, help_text="Subjects that the tutor teaches.")
    subject_type = Choice(("STEM", "Language", "TestPrep"), help_text="Group of subjects.")
    onboarding_date = IsoDateTime(help_text="When the tutor joined the platform.")
    tenure_days = Integer(min_value=0, help_text="Days since the tutor joined.")
    behavioral_archetype = Choice(
        ("high_performer", "at_risk", "new_tutor", "steady", "churner"),
        help_text="Pattern of behaviour that the profile follows.",
    )
    baseline_sessions_per_week = Integer(
        min_value=0, max_value=50, help_text="Usual number of sessions a week."
    )
    status = Choice(
        ("active", "inactive", "suspended"),
        default="active",
        help_text="Whether the tutor works at present.",
    )
    created_at = _optional_datetime("When the profile was made.")
    updated_at = _optional_datetime("When the profile was last changed.")

    example = {
        "tutor_id": "tutor_00001",
        "name": "John Doe",
        "email": "john.doe@example.com",
        "age": 28,
        "location": "New York",
        "education_level": "Master's Degree",
        "subjects": ["Mathematics", "Algebra"],
        "subject_type": "STEM",
        "onboarding_date": "2024-01-15T10:00:00",
        "tenure_days": 120,
        "behavioral_archetype": "high_performer",
        "baseline_sessions_per_week": 20,
        "status": "active",
        "created_at": "2024-01-15T10:00:00",
        "updated_at": "2024-05-14T10:00:00",
    }


class SessionSerializer(RecordSerializer):
    """A tutoring session, held or missed."""

    session_id = Identifier(help_text="The session's id.")
    tutor_id = Identifier(help_text="Id of the tutor who gave it.")
    student_id = Identifier(help_text="Id of the student who took it.")
    session_number = Integer(
        min_value=1, help_text="Which session of this student with this tutor it is, from 1."
    )
    is_first_session = Boolean(help_text="True exactly when session_number is 1.")
    scheduled_start = IsoDateTime(help_text="When it was to start; may lie ahead.")
    actual_start = _optional_datetime("When it started; left out when nobody came (no_show).")
    duration_minutes = Integer(min_value=0, max_value=300, help_text="Length in minutes.")
    subject = Text(max_length=100, help_text="What was taught.")
    session_type = Choice(
        ("1-on-1", "group", "workshop"), default="1-on-1", help_text="Kind of session."
    )
    tutor_initiated_reschedule = Boolean(help_text="Whether the tutor moved it.")
    no_show = Boolean(help_text="Whether nobody came.")
    late_start_minutes = Integer(min_value=0, max_value=60, help_text="Minutes it began late.")
    engagement_score = Number(
        min_value=0, max_value=1, help_text="How engaged the student was, from 0 to 1."
    )
    learning_objectives_met = Boolean(help_text="Whether the goals of the session were met.")
    technical_issues = Boolean(help_text="Whether technology got in the way.")
    created_at = _optional_datetime("When the record was made.")
    updated_at = _optional_datetime("When the record was last changed.")

    example = {
        "session_id": "550e8400-e29b-41d4-a716-446655440000",
        "tutor_id": "tutor_00001",
        "student_id": "student_00042",
        "session_number": 3,
        "is_first_session": False,
        "scheduled_start": "2024-05-14T15:00:00",
        "actual_start": "2024-05-14T15:02:00",
        "duration_minutes": 60,
        "subject": "Algebra",
        "session_type": "1-on-1",
        "tutor_initiated_reschedule": False,
        "no_show": False,
        "late_start_minutes": 2,
        "engagement_score": 0.92,
        "learning_objectives_met": True,
        "technical_issues": False,
        "created_at": "2024-05-14T15:00:00",
        "updated_at": "2024-05-14T16:05:00",
    }

    rules = (
        Rule(
            fields=("is_first_session", "session_number"),
            holds=lambda first, number: first == (number == 1),
            at="is_first_session",
            code=FieldCode.FIRST_SESSION_MISMATCH,
            message="Must be true when session_number is 1, and false otherwise.",
        ),
        Rule(
            fields=("no_show", "actual_start"),
            holds=lambda no_show, start: not no_show or start is None,
            at="actual_start",
            code=FieldCode.NO_SHOW_HAS_START,
            message="Leave it out (null in JSON, an empty cell in a table) if no_show is true: a "
            "session that nobody attended has no start.",
        ),
    )


_FIRST_SESSION_ONLY = (
    "Leave it out (null in JSON, an empty cell in a table) if is_first_session is false."
)


def _rating(what: str) -> Integer:
    return Integer(min_value=1, max_value=5, help_text=f"{what}, from 1 (poor) to 5 (great).")


class FeedbackSerializer(RecordSerializer):
    """A student's feedback on a session."""

    feedback_id = Identifier(help_text="The feedback's id.")
    session_id = Identifier(help_text="Id of the session it is about.")
    student_id = Identifier(help_text="Id of the student who wrote it.")
    tutor_id = Identifier(help_text="Id of the tutor it is about.")
    overall_rating = _rating("The session as a whole")
    is_first_session = Boolean(help_text="Whether it was the student's first with this tutor.")
    subject_knowledge_rating = _rating("Knowledge of the subject")
    communication_rating = _rating("Communication")
    patience_rating = _rating("Patience")
    engagement_rating = _rating("Engagement")
    helpfulness_rating = _rating("Helpfulness")
    free_text_feedback = Text(
        max_length=5000, allow_blank=True, default="", help_text="What the student wrote."
    )
    submitted_at = _optional_datetime("When the student sent it.")
    created_at = _optional_datetime("When the record was made.")
    would_recommend = Boolean(
        required=False,
        allow_null=True,
        help_text="Whether the student would recommend the tutor; first session only.",
    )
    improvement_areas = TextList(
        max_length=10,
        required=False,
        allow_null=True,
        help_text="What could be better; first session only.",
    )

    example = {
        "feedback_id": "660e8400-e29b-41d4-a716-446655440000",
        "session_id": "550e8400-e29b-41d4-a716-446655440000",
        "student_id": "student_00042",
        "tutor_id": "tutor_00001",
        "overall_rating": 5,
        "is_first_session": False,
        "subject_knowledge_rating": 5,
        "communication_rating": 5,
        "patience_rating": 4,
        "engagement_rating": 5,
        "helpfulness_rating": 5,
        "free_text_feedback": "Great session, very helpful!",
        "submitted_at": "2024-05-14T18:30:00",
        "created_at": "2024-05-14T18:30:00",
        "would_recommend": None,
        "improvement_areas": None,
    }

    rules = (
        Rule(
            fields=("is_first_session", "would_recommend"),
            holds=lambda first, recommends: first or recommends is None,
            at="would_recommend",
            code=FieldCode.FIRST_SESSION_ONLY,
            message=_FIRST_SESSION_ONLY,
        ),
        Rule(
            fields=("is_first_session", "improvement_areas"),
            holds=lambda first, areas: first or not areas,
            at="improvement_areas",
            code=FieldCode.FIRST_SESSION_ONLY,
            message=_FIRST_SESSION_ONLY,
        ),
    )
