"""The record types: the only place where a type is registered.

Routes, OpenAPI, portal, commands, metrics and the generator's client loop over `RECORD_TYPES`.
A new type is one serializer and one entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from rest_framework.fields import Field

from ingestion.serializers import (
    FeedbackSerializer,
    RecordSerializer,
    SessionSerializer,
    TutorSerializer,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordType:
    """One record type: its addresses, its rules, and its queue.

    `path` is its name in addresses and commands, `title` is its name for people (singular), and
    `id_field` is the field with the record's id.
    """

    path: str
    title: str
    queue: str
    id_field: str
    serializer_class: type[RecordSerializer]

    @property
    def fields(self) -> Mapping[str, Field[Any, Any, Any, Any]]:
        """The fields of a record by their names, to look at."""
        return _fields(self.serializer_class)

    @property
    def queue_label(self) -> str:
        """The queue's short name in statistics: the last part of its key."""
        return self.queue.rpartition(":")[2]


@cache
def _fields(
    serializer_class: type[RecordSerializer],
) -> Mapping[str, Field[Any, Any, Any, Any]]:
    # A serializer copies all of its fields, which takes longer than most of what is done with them.
    return MappingProxyType(serializer_class().fields)


_TYPES = (
    RecordType(
        path="tutors",
        title="tutor profile",
        queue="tutormax:queue:tutors",
        id_field="tutor_id",
        serializer_class=TutorSerializer,
    ),
    RecordType(
        path="sessions",
        title="session",
        queue="tutormax:queue:sessions",
        id_field="session_id",
        serializer_class=SessionSerializer,
    ),
    RecordType(
        path="feedback",
        title="feedback",
        queue="tutormax:queue:feedbacks",
        id_field="feedback_id",
        serializer_class=FeedbackSerializer,
    ),
)

RECORD_TYPES: Mapping[str, RecordType] = MappingProxyType(
    {record_type.path: record_type for record_type in _TYPES}
)
"""Every record type by its path, in the order in which people see them."""
