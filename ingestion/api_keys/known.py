"""Which keys are valid at this moment, without a query for each request.

Each process keeps all valid keys in memory; they are few and small. It reads this copy anew after
it has sent an answer, if the copy is two seconds old. So steady traffic never waits for the
database. A copy older than four seconds is not used: it is read again first, and if that fails, no
key is accepted. So a revoked key stops working everywhere within five seconds. That includes a
server that has lost the database, since the key may have been revoked on another server. A key that
expires needs no new copy: the copy holds the time at which it expires.

The time of a key's last use is also written after the answer, about once a minute for each key.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.core.signals import request_finished
from django.db import Error as AnyDatabaseError
from django.db.models import Q
from django.utils import timezone

from ingestion.api_keys.text import digest, is_well_formed, name_of
from ingestion.models import ApiKey

logger = structlog.get_logger(__name__)

_REFRESH_SECONDS = 2.0
_TRUSTED_SECONDS = 4.0
# A key that is not in the copy may be new, so a copy older than this is read again before the key
# is refused. This limits what invented keys can cost.
_DOUBTED_SECONDS = 1.0
# A request waits this long for another one that is reading the copy.
_WAIT_SECONDS = 1.0
_USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What a valid key says: who sends, and what they may do."""

    client: str
    scopes: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """A valid key, as the copy holds it."""

    digest: str
    expires_at: datetime
    last_used_at: datetime | None
    grant: Grant


@dataclass(frozen=True, kw_only=True, slots=True)
class _Copy:
    """All valid keys by name, as they were at `read_at` on the monotonic clock."""

    keys: Mapping[str, _Known] = field(default_factory=dict)
    read_at: float = float("-inf")

    def is_older(self, seconds: float) -> bool:
        return time.monotonic() - self.read_at > seconds


class KeysNotKnownError(Exception):
    """The database did not say in time which keys are valid."""


class KnownKeys:
    """The copy of one process. It is safe for all threads of the process."""

    def __init__(self) -> None:
        self._copy = _Copy()
        self._reading = threading.Lock()
        self._tried_at = float("-inf")
        self._used: dict[str, datetime] = {}
        self._noted: dict[str, datetime] = {}

    def grant(self, key: str) -> Grant | None:
        """What the key allows; None if the key is wrong, expired or revoked.

        Raises `KeysNotKnownError` if this is not known.
        """
        if not is_well_formed(key):
            return None
        doubted = name_of(key) not in self._copy.keys
        self._refresh(_DOUBTED_SECONDS if doubted else _TRUSTED_SECONDS)
        return self.grant_at_once(key)

    def grant_at_once(self, key: str) -> Grant | None:
        """The same from the copy as it is: the database is not asked. None also for a newer key."""
        copy = self._copy
        if copy.is_older(_TRUSTED_SECONDS):
            raise KeysNotKnownError
        name, now = name_of(key), timezone.now()
        known = copy.keys.get(name)
        if (
            known is None
            or not hmac.compare_digest(known.digest, digest(key))
            or known.expires_at <= now
        ):
            return None
        self._used[name] = now
        return known.grant

    def client(self, key: str) -> str | None:
        """The owner of the key, if the copy knows it: for fair shares of time, not for access."""
        known = self._copy.keys.get(name_of(key)) if is_well_formed(key) else None
        if known is None or not hmac.compare_digest(known.digest, digest(key)):
            return None
        return known.grant.client

    def after_answer(self, **_: object) -> None:
        """Note which keys were used, and refresh the copy. The answer has already been sent."""
        if not self._used or not self._reading.acquire(blocking=False):
            return
        try:
            used, self._used = self._used, {}
            # As a list: another thread may still be adding to the dictionary.
            due = {name: at for name, at in list(used.items()) if self._is_due(name, at)}
            self._noted.update(due)
            if self._copy.is_older(_REFRESH_SECONDS):
                self._read()
        finally:
            self._reading.release()
        # No request waits for this, even if the database makes its writers wait for a long time.
        for name, at in due.items():
            _note_use(name, at)

    def _is_due(self, name: str, used_at: datetime) -> bool:
        """Whether no process has noted a use in the last minute, as far as this one knows."""
        known = self._copy.keys.get(name)
        noted = (self._noted.get(name), known.last_used_at if known else None)
        return all(at is None or used_at - at >= _USE_NOTED_EVERY for at in noted)

    def _refresh(self, seconds: float) -> None:
        """Read the copy if it is older than this; one thread at a time, at most once a second."""
        if not self._copy.is_older(seconds):
            return
        if not self._reading.acquire(timeout=_WAIT_SECONDS):
            return
        try:
            if (
                self._copy.is_older(seconds)
                and time.monotonic() - self._tried_at > _DOUBTED_SECONDS
            ):
                self._read()
        finally:
            self._reading.release()

    def _read(self) -> None:
        self._tried_at = began = time.monotonic()
        try:
            keys = {key.name: _known(key) for key in ApiKey.objects.live().select_related("client")}
        except AnyDatabaseError as fault:
            logger.warning("api_keys_not_read", fault=type(fault).__name__)
        else:
            self._copy = _Copy(keys=keys, read_at=began)


def _known(key: ApiKey) -> _Known:
    return _Known(
        digest=key.digest,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        grant=Grant(client=key.client.name, scopes=frozenset(key.client.scopes)),
    )


def _note_use(name: str, used_at: datetime) -> None:
    never_or_before = Q(last_used_at=None) | Q(last_used_at__lt=used_at)
    try:
        ApiKey.objects.filter(never_or_before, name=name).update(last_used_at=used_at)
    except AnyDatabaseError as fault:
        logger.warning("api_key_use_not_noted", key=name, fault=type(fault).__name__)


known_keys = KnownKeys()
# The web server closes a response after it has sent it. Only then does Django give this signal.
request_finished.connect(known_keys.after_answer, dispatch_uid="known_keys")
