"""What a client may do, in words that are never translated."""

from __future__ import annotations

from types import MappingProxyType

from ingestion.records import RECORD_TYPES

NUMBERS = "numbers"

SCOPES = MappingProxyType(
    {path: f"Send {path}" for path in RECORD_TYPES} | {NUMBERS: "Read statistics and metrics"}
)
"""Each scope and what it allows: to write a record type, or to read numbers."""
