"""Sessions in the database, whose names are never whatever a cookie says."""

from __future__ import annotations

import re

from django.contrib.sessions.backends.db import SessionStore as StockSessionStore

# As Django makes them. A quoted cookie may hold anything, also NUL, at which PostgreSQL fails.
_KEY = re.compile(r"[a-z0-9]{32}")


class SessionStore(StockSessionStore):
    """As Django's own; a cookie that cannot name a session is none, and costs no query."""

    def _validate_session_key(self, key: str | None) -> bool:
        return bool(key and _KEY.fullmatch(key))
