"""Which column of a table is which field, and a row of its cells as a record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingestion.cells import ISO_NOTATION, Notation, converter
from ingestion.decoding import Row
from ingestion.files.shape import field_name
from ingestion.outcomes import FieldCode, FieldError
from ingestion.records import RecordType

# Beside the names of the fields themselves, what people call them.
_SYNONYMS = {
    "name": "full_name tutor_name tutor",
    "email": "e_mail mail email_address e_mail_address",
    "age": "age_years age_in_years",
    "location": "city region town city_or_region place",
    "education_level": "education degree highest_degree",
    "subjects": "subject subjects_taught teaches",
    "subject_type": "group_of_subjects subject_group",
    "onboarding_date": "onboarded onboarded_at joined joined_at start_date",
    "tenure_days": "tenure days_since_joined",
    "behavioral_archetype": "archetype behavioural_archetype behaviour behavior pattern",
    "baseline_sessions_per_week": "sessions_per_week weekly_sessions sessions_a_week",
    "session_number": "session_no number session_nr no nr",
    "is_first_session": "first_session first",
    "scheduled_start": "scheduled scheduled_at start planned_start",
    "actual_start": "started started_at start_time",
    "duration_minutes": "duration minutes length length_in_minutes duration_in_minutes",
    "subject": "topic",
    "session_type": "type kind kind_of_session",
    "tutor_initiated_reschedule": "rescheduled reschedule rescheduled_by_tutor",
    "no_show": "noshow missed nobody_came",
    "late_start_minutes": "late minutes_late late_minutes late_start",
    "engagement_score": "engagement",
    "learning_objectives_met": "objectives_met goals_met",
    "technical_issues": "technical_problems tech_issues",
    "overall_rating": "rating overall stars",
    "subject_knowledge_rating": "subject_knowledge knowledge",
    "communication_rating": "communication",
    "patience_rating": "patience",
    "engagement_rating": "engagement",
    "helpfulness_rating": "helpfulness",
    "free_text_feedback": "feedback comment comments text feedback_text free_text",
    "submitted_at": "submitted sent sent_at",
    "would_recommend": "recommend recommends recommended",
    "improvement_areas": "improvements areas_to_improve could_be_better",
    "created_at": "created",
    "updated_at": "updated modified changed modified_at",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """Which field a column is; `certain` where its name says so itself."""

    field: str | None
    certain: bool


def by_name(header: Sequence[str], record_type: RecordType) -> tuple[str | None, ...]:
    """The fields that the columns name themselves; None for a column that names none."""
    fields = record_type.serializer_class().fields
    return tuple(name if name in fields else None for name in map(field_name, header))


def guess(header: Sequence[str], record_type: RecordType) -> list[Guess]:
    """A field for every column: by its name, else by what people call fields; each at most once."""
    named = by_name(header, record_type)
    fields: list[str] = list(record_type.serializer_class().fields)
    taken = {name for name in named if name}
    called = {
        _letters(word): name
        for name in fields
        if name not in taken
        for word in (*_SYNONYMS.get(name, "").split(), name)
    }
    called.setdefault("id", record_type.id_field)
    found = []
    for cell, name in zip(header, named, strict=True):
        likely = None if name else called.get(_letters(cell))
        if likely in taken:
            likely = None
        if likely:
            taken.add(likely)
        found.append(Guess(field=name or likely, certain=likely is None))
    return found


def _letters(name: str) -> str:
    """A name without all that people write differently: "Tutor-ID", "tutorId", "tutor_id (*)"."""
    return "".join(re.findall(r"[^\W_]+", re.sub(r"\(.*?\)", "", name))).lower()


class Columns:
    """The fields of a table's columns; makes rows of cells into records."""

    def __init__(
        self,
        record_type: RecordType,
        names: Sequence[str | None],
        notation: Notation = ISO_NOTATION,
    ) -> None:
        fields = record_type.serializer_class().fields
        self._columns = [
            (name, converter(fields[name], notation)) if name and name in fields else None
            for name in names
        ]

    def __bool__(self) -> bool:
        """Whether any column is a field."""
        return any(self._columns)

    def field(self, at: int) -> str | None:
        """The field of the column at this place, from 0 on."""
        column = self._columns[at] if at < len(self._columns) else None
        return column[0] if column else None

    def row(self, line: int, cells: Sequence[str]) -> Row:
        """The record in these cells. An empty cell is an absent field; others are stripped."""
        # Spreadsheets like to end all rows with the same number of empty cells.
        if any(map(str.strip, cells[len(self._columns) :])):
            return Row(line=line, problem=_TOO_MANY_CELLS)
        record = {}
        for column, cell in zip(self._columns, cells, strict=False):
            if column and (filled := cell.strip()):
                record[column[0]] = column[1](filled)
        return Row(line=line, value=record)


_TOO_MANY_CELLS = FieldError(
    field=None,
    code=FieldCode.MALFORMED_LINE,
    message="This row has more cells than the header row has columns.",
)
