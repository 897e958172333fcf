"""Keys of machine clients: what a key is, how keys are created and ended, and which are valid.

A client sends `Authorization: Api-Key tmx_…`. The source of every record that it sends holds its
name, and its scopes say what it may do. It may have several keys at a time, so that a new key can
be installed before the old one ends.
"""

from ingestion.api_keys.changes import (
    LONGEST_DAYS,
    OVERLAPS,
    RefusedError,
    create,
    misnamed,
    revoke,
    rotate,
)
from ingestion.api_keys.known import Grant, KeysNotKnownError, known_keys
from ingestion.api_keys.scopes import NUMBERS, SCOPES
from ingestion.api_keys.text import KEY_PREFIX, is_well_formed

__all__ = [
    "KEY_PREFIX",
    "LONGEST_DAYS",
    "NUMBERS",
    "OVERLAPS",
    "SCOPES",
    "Grant",
    "KeysNotKnownError",
    "RefusedError",
    "create",
    "is_well_formed",
    "known_keys",
    "misnamed",
    "revoke",
    "rotate",
]
