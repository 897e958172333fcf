"""The record types that tests use by name; there may be more."""

from __future__ import annotations

from ingestion.records import RECORD_TYPES

TUTORS = RECORD_TYPES["tutors"]
SESSIONS = RECORD_TYPES["sessions"]
FEEDBACK = RECORD_TYPES["feedback"]
