"""Sessions in the database; only a valid session key reaches it."""

from __future__ import annotations

import re

from django.contrib.sessions.backends.db import SessionStore as StockSessionStore

# The form of Django's keys. A quoted cookie may hold anything, even NUL; PostgreSQL fails on it.
_KEY = re.compile(r"[a-z0-9]{32}")


class SessionStore(StockSessionStore):
    """Django's store, but a cookie with an invalid key has no session and costs no query."""

    def _validate_session_key(self, key: str | None) -> bool:
        return bool(key and _KEY.fullmatch(key))
