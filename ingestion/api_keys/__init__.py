"""Keys of machine clients: what a key is, how keys are made and ended, and which of them are good.

A client sends `Authorization: Api-Key tmx_…`. Its name stands in the source of all that it sends,
its scopes say what it may do, and it may hold several keys at a time, so that a new one can be
brought out before the old one ends.
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
