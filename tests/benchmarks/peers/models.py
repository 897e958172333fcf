"""The records as Pydantic models, as people who know FastAPI would write them from the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S+$")]
Text100 = Annotated[str, Field(min_length=1, max_length=100)]
Text255 = Annotated[str, Field(min_length=1, max_length=255)]
Natural = Annotated[StrictInt, Field(ge=0, le=2_147_483_647)]
Rating = Annotated[StrictInt, Field(ge=1, le=5)]


class Session(BaseModel):
    """One tutoring session."""

    model_config = ConfigDict(extra="ignore")

    session_id: Id
    tutor_id: Id
    student_id: Id
    session_number: Annotated[StrictInt, Field(ge=1, le=2_147_483_647)]
    is_first_session: StrictBool
    scheduled_start: datetime
    actual_start: datetime | None = None
    duration_minutes: Annotated[StrictInt, Field(ge=0, le=300)]
    subject: Text100
    session_type: Literal["1-on-1", "group", "workshop"] = "1-on-1"
    tutor_initiated_reschedule: StrictBool
    no_show: StrictBool
    late_start_minutes: Annotated[StrictInt, Field(ge=0, le=60)]
    engagement_score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    learning_objectives_met: StrictBool
    technical_issues: StrictBool
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @model_validator(mode="after")
    def hold_the_rules_between_fields(self) -> Session:
        """First sessions are number 1; a session that nobody attended has no start."""
        if self.is_first_session != (self.session_number == 1):
            raise ValueError("is_first_session must be true exactly when session_number is 1")
        if self.no_show and self.actual_start is not None:
            raise ValueError("actual_start must be null when no_show is true")
        return self


class Tutor(BaseModel):
    """A tutor profile."""

    model_config = ConfigDict(extra="ignore")

    tutor_id: Id
    name: Text255
    email: EmailStr
    age: Annotated[StrictInt, Field(ge=18, le=100)]
    location: Text255
    education_level: Text100
    subjects: Annotated[list[Text100], Field(min_length=1, max_length=10)]
    subject_type: Literal["STEM", "Language", "TestPrep"]
    onboarding_date: datetime
    tenure_days: Natural
    behavioral_archetype: Literal["high_performer", "at_risk", "new_tutor", "steady", "churner"]
    baseline_sessions_per_week: Annotated[StrictInt, Field(ge=0, le=50)]
    status: Literal["active", "inactive", "suspended"] = "active"
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Feedback(BaseModel):
    """What a student says of a session."""

    model_config = ConfigDict(extra="ignore")

    feedback_id: Id
    session_id: Id
    student_id: Id
    tutor_id: Id
    overall_rating: Rating
    subject_knowledge_rating: Rating
    communication_rating: Rating
    patience_rating: Rating
    engagement_rating: Rating
    helpfulness_rating: Rating
    is_first_session: StrictBool
    free_text_feedback: Annotated[str, Field(max_length=5000)] = ""
    submitted_at: datetime | None = None
    created_at: datetime | None = None
    would_recommend: StrictBool | None = None
    improvement_areas: Annotated[list[Text100], Field(max_length=10)] | None = None

    @model_validator(mode="after")
    def hold_the_rules_between_fields(self) -> Feedback:
        """Two answers are for first sessions only."""
        if not self.is_first_session and (
            self.would_recommend is not None or self.improvement_areas
        ):
            raise ValueError("would_recommend and improvement_areas are for first sessions only")
        return self
