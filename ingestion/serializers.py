"""The three record types and their rules. These serializers are the contract (its section 1).

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


def _optional_datetime(help_text: str, *, other_names: tuple[str, ...]) -> IsoDateTime:
    return IsoDateTime(
        required=False, allow_null=True, help_text=help_text, other_names=other_names
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule between fields of a record.

    `holds` gets the values of `fields`; an absent field has the value None. If the rule is broken,
    the field `at` is refused with `code` and `message`.
    """

    fields: tuple[str, ...]
    holds: Callable[..., bool]
    at: str
    code: FieldCode
    message: str


class RecordSerializer(serializers.Serializer[Any]):
    """A record type: its fields, and the rules between them.

    `example` is a complete valid record. Fields that are not declared are dropped.
    """

    example: ClassVar[Mapping[str, Any]]
    rules: ClassVar[tuple[Rule, ...]] = ()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check the rules between fields; all broken rules are reported together."""
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
    name = Text(
        max_length=255,
        help_text="The tutor's full name.",
        other_names=("full_name", "tutor_name", "tutor"),
    )
    email = Email(
        help_text="The tutor's e-mail address.",
        other_names=("e_mail", "mail", "email_address", "e_mail_address"),
    )
    age = Integer(
        min_value=18,
        max_value=100,
        help_text="Age in years.",
        other_names=("age_years", "age_in_years"),
    )
    location = Text(
        max_length=255,
        help_text="City or region.",
        other_names=("city", "region", "town", "city_or_region", "place"),
    )
    education_level = Text(
        max_length=100,
        help_text="Highest degree.",
        other_names=("education", "degree", "highest_degree"),
    )
    subjects = TextList(
        min_length=1,
        max_length=10,
        help_text="Subjects that the tutor teaches.",
        other_names=("subject", "subjects_taught", "teaches"),
    )
    subject_type = Choice(
        ("STEM", "Language", "TestPrep"),
        help_text="Group of subjects.",
        other_names=("group_of_subjects", "subject_group"),
    )
    onboarding_date = IsoDateTime(
        help_text="When the tutor joined the platform.",
        other_names=("onboarded", "onboarded_at", "joined", "joined_at", "start_date"),
    )
    tenure_days = Integer(
        min_value=0,
        help_text="Days since the tutor joined.",
        other_names=("tenure", "days_since_joined"),
    )
    behavioral_archetype = Choice(
        ("high_performer", "at_risk", "new_tutor", "steady", "churner"),
        help_text="Pattern of behaviour that the profile follows.",
        other_names=("archetype", "behavioural_archetype", "behaviour", "behavior", "pattern"),
    )
    baseline_sessions_per_week = Integer(
        min_value=0,
        max_value=50,
        help_text="Usual number of sessions a week.",
        other_names=("sessions_per_week", "weekly_sessions", "sessions_a_week"),
    )
    status = Choice(
        ("active", "inactive", "suspended"),
        default="active",
        help_text="Whether the tutor works at present.",
    )
    created_at = _optional_datetime("When the profile was made.", other_names=("created",))
    updated_at = _optional_datetime(
        "When the profile was last changed.",
        other_names=("updated", "modified", "changed", "modified_at"),
    )

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
        min_value=1,
        help_text="Which session of this student with this tutor it is, from 1.",
        other_names=("session_no", "number", "session_nr", "no", "nr"),
    )
    is_first_session = Boolean(
        help_text="True exactly when session_number is 1.", other_names=("first_session", "first")
    )
    scheduled_start = IsoDateTime(
        help_text="When it was to start; may lie ahead.",
        other_names=("scheduled", "scheduled_at", "start", "planned_start"),
    )
    actual_start = _optional_datetime(
        "When it started; left out when nobody came (no_show).",
        other_names=("started", "started_at", "start_time"),
    )
    duration_minutes = Integer(
        min_value=0,
        max_value=300,
        help_text="Length in minutes.",
        other_names=("duration", "minutes", "length", "length_in_minutes", "duration_in_minutes"),
    )
    subject = Text(max_length=100, help_text="What was taught.", other_names=("topic",))
    session_type = Choice(
        ("1-on-1", "group", "workshop"),
        default="1-on-1",
        help_text="Kind of session.",
        other_names=("type", "kind", "kind_of_session"),
    )
    tutor_initiated_reschedule = Boolean(
        help_text="Whether the tutor moved it.",
        other_names=("rescheduled", "reschedule", "rescheduled_by_tutor"),
    )
    no_show = Boolean(
        help_text="Whether nobody came.", other_names=("noshow", "missed", "nobody_came")
    )
    late_start_minutes = Integer(
        min_value=0,
        max_value=60,
        help_text="Minutes it began late.",
        other_names=("late", "minutes_late", "late_minutes", "late_start"),
    )
    engagement_score = Number(
        min_value=0,
        max_value=1,
        help_text="How engaged the student was, from 0 to 1.",
        other_names=("engagement",),
    )
    learning_objectives_met = Boolean(
        help_text="Whether the goals of the session were met.",
        other_names=("objectives_met", "goals_met"),
    )
    technical_issues = Boolean(
        help_text="Whether technology got in the way.",
        other_names=("technical_problems", "tech_issues"),
    )
    created_at = _optional_datetime("When the record was made.", other_names=("created",))
    updated_at = _optional_datetime(
        "When the record was last changed.",
        other_names=("updated", "modified", "changed", "modified_at"),
    )

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


def _rating(what: str, *, other_names: tuple[str, ...]) -> Integer:
    return Integer(
        min_value=1,
        max_value=5,
        help_text=f"{what}, from 1 (poor) to 5 (great).",
        other_names=other_names,
    )


class FeedbackSerializer(RecordSerializer):
    """A student's feedback on a session."""

    feedback_id = Identifier(help_text="The feedback's id.")
    session_id = Identifier(help_text="Id of the session it is about.")
    student_id = Identifier(help_text="Id of the student who wrote it.")
    tutor_id = Identifier(help_text="Id of the tutor it is about.")
    overall_rating = _rating("The session as a whole", other_names=("rating", "overall", "stars"))
    is_first_session = Boolean(
        help_text="Whether it was the student's first with this tutor.",
        other_names=("first_session", "first"),
    )
    subject_knowledge_rating = _rating(
        "Knowledge of the subject", other_names=("subject_knowledge", "knowledge")
    )
    communication_rating = _rating("Communication", other_names=("communication",))
    patience_rating = _rating("Patience", other_names=("patience",))
    engagement_rating = _rating("Engagement", other_names=("engagement",))
    helpfulness_rating = _rating("Helpfulness", other_names=("helpfulness",))
    free_text_feedback = Text(
        max_length=5000,
        allow_blank=True,
        default="",
        help_text="What the student wrote.",
        other_names=("feedback", "comment", "comments", "text", "feedback_text", "free_text"),
    )
    submitted_at = _optional_datetime(
        "When the student sent it.", other_names=("submitted", "sent", "sent_at")
    )
    created_at = _optional_datetime("When the record was made.", other_names=("created",))
    would_recommend = Boolean(
        required=False,
        allow_null=True,
        help_text="Whether the student would recommend the tutor; first session only.",
        other_names=("recommend", "recommends", "recommended"),
    )
    improvement_areas = TextList(
        max_length=10,
        required=False,
        allow_null=True,
        help_text="What could be better; first session only.",
        other_names=("improvements", "areas_to_improve", "could_be_better"),
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
