"""Creates and ends keys. Every server notices a change within five seconds (`known.py`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from types import MappingProxyType

from django.db import transaction
from django.utils import timezone

from ingestion.api_keys.text import digest, name_of, new_key
from ingestion.models import ApiClient, ApiKey
from ingestion.sources import RESERVED

# The name is part of the source of messages, and it is in the log.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

LONGEST_DAYS = 366
"""No key is valid for longer."""

OVERLAPS = MappingProxyType(
    {
        "none": timedelta(0),
        "1h": timedelta(hours=1),
        "1d": timedelta(days=1),
        "7d": timedelta(days=7),
    }
)
"""How long the old keys can stay valid after a new one is created."""


class RefusedError(ValueError):
    """The change cannot be made; the text tells a person why."""


def create(name: str, scopes: Sequence[str], *, days: int) -> tuple[ApiKey, str]:
    """Create a client with its first key, valid for `days`. Its text is returned only here.

    Raises `RefusedError` if the name cannot be used or is in use, or if no scope is given.
    """
    if not _NAME.fullmatch(name):
        raise RefusedError(
            "A name has up to 63 lower-case letters, digits, dots, dashes or underscores."
        )
    if name in RESERVED:
        raise RefusedError(f"The name {name} is reserved for another sender. Choose another name.")
    if ApiClient.objects.filter(name=name).exists():
        raise RefusedError(
            f"The name {name} is in use. Choose another, or rotate the key of {name}."
        )
    if not scopes:
        raise RefusedError("A key without a scope allows nothing: choose at least one.")
    with transaction.atomic():
        client = ApiClient.objects.create(name=name, scopes=list(scopes))
        return _issue(client, days=days)


def misnamed() -> list[str]:
    """Clients that got their names before these were reserved: they look like other senders."""
    return list(ApiClient.objects.filter(name__in=RESERVED).values_list("name", flat=True))


def rotate(
    client: ApiClient, *, days: int, overlap: timedelta, newest: int | None = None
) -> tuple[ApiKey, str]:
    """Create a new key for the client. Its other keys end after `overlap`, or earlier as before.

    The text of the key is returned only here. `newest` is the client's newest key as the person saw
    it. Raises `RefusedError` if there is a newer key, for example because a form was sent twice.
    """
    with transaction.atomic():
        # If two rotations run at the same time, one waits here for the other.
        client = ApiClient.objects.select_for_update().get(pk=client.pk)
        last = client.keys.order_by("pk").last()
        if newest is not None and last is not None and last.pk != newest:
            raise RefusedError("Somebody has created a newer key. Look at the keys again.")
        ends_at = timezone.now() + overlap
        client.keys.live().filter(expires_at__gt=ends_at).update(expires_at=ends_at)
        return _issue(client, days=days)


def revoke(client: ApiClient, key: ApiKey | None = None) -> list[str]:
    """End a key of the client, or all of them, now; returns the names of those that were valid."""
    now = timezone.now()
    with transaction.atomic():
        live = client.keys.live().select_for_update()
        if key is not None:
            live = live.filter(pk=key.pk)
        names = [one.name for one in live]
        client.keys.filter(name__in=names).update(revoked_at=now)
    return names


def _issue(client: ApiClient, *, days: int) -> tuple[ApiKey, str]:
    if not 1 <= days <= LONGEST_DAYS:
        raise RefusedError(f"A key is valid for 1 to {LONGEST_DAYS} days.")
    text = new_key()
    key = ApiKey.objects.create(
        client=client,
        name=name_of(text),
        digest=digest(text),
        expires_at=timezone.now() + timedelta(days=days),
    )
    return key, text
