"""A session as a Pydantic model, as people who know FastAPI would write it from the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S+$")]


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
    subject: Annotated[str, Field(min_length=1, max_length=100)]
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
