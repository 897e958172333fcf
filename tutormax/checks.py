"""The checks at the start: each finding names the variable and says what to do."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError
from redis import ConnectionPool
from redis.exceptions import RedisError

from ingestion.api_keys import misnamed
from tutormax.private import is_open

_CLUSTER_ADDRESS = re.compile(r"rediss?://[^/?]+/?0?(\?.*)?")


@register("tutormax")
def check_environment(**_: Any) -> list[CheckMessage]:
    """Every variable has a valid value."""
    return [
        *(
            Error(
                f"{problem.variable} must be {problem.must_be}.",
                hint="Correct or remove it, in the environment or in .env.",
                id="tutormax.E001",
            )
            for problem in settings.ENVIRONMENT.problems
        ),
        *_misspelt(),
        *_check_together(),
    ]


def _misspelt() -> Iterator[CheckMessage]:
    """Warn of names in `.env` that are almost a setting's; other unknown names may be fine."""
    env = settings.ENVIRONMENT
    for name in env.places.keys() - set(env.variables):
        for meant in get_close_matches(name.upper(), env.variables, n=1, cutoff=0.85):
            yield Warning(
                f"{env.places[name]} sets {name}, which is not a setting.",
                hint=f"Did you mean {meant}?",
                id="tutormax.W006",
            )


def _check_together() -> Iterator[CheckMessage]:
    if settings.REDIS_URL:
        try:
            # This opens no connection, but reads every option of the address.
            ConnectionPool.from_url(settings.REDIS_URL).make_connection()
        except (ValueError, TypeError, RedisError):
            yield Error(
                "REDIS_URL must be an address that begins with redis://, rediss:// or unix://.",
                hint="For example redis://localhost:6379/0. Without REDIS_URL the portal starts "
                "its own store.",
                id="tutormax.E002",
            )
    if settings.INGESTION_DURABILITY == "replicated" and not settings.REDIS_URL:
        yield Error(
            "INGESTION_DURABILITY=replicated needs a store with a replica.",
            hint="The embedded store has no replica: set REDIS_URL, or promise fsync.",
            id="tutormax.E009",
        )
    if settings.REDIS_SENTINELS and settings.REDIS_CLUSTER:
        yield Error(
            "REDIS_SENTINELS and REDIS_CLUSTER cannot be used together.",
            hint="A cluster needs no Sentinels: leave REDIS_SENTINELS empty.",
            id="tutormax.E005",
        )
    if (settings.REDIS_SENTINELS or settings.REDIS_CLUSTER) and not settings.REDIS_URL:
        yield Error(
            "REDIS_URL must be set with REDIS_SENTINELS or REDIS_CLUSTER.",
            hint="For example redis://NAME/0 with the name that the Sentinels give the primary, "
            "or redis://HOST:6379 with any node of the cluster.",
            id="tutormax.E006",
        )
    elif settings.REDIS_SENTINELS and not urlsplit(settings.REDIS_URL).hostname:
        yield Error(
            "REDIS_URL must hold the name of the primary with REDIS_SENTINELS.",
            hint="For example redis://mymaster/0.",
            id="tutormax.E008",
        )
    elif settings.REDIS_CLUSTER and not _CLUSTER_ADDRESS.fullmatch(settings.REDIS_URL):
        yield Error(
            "REDIS_URL must be an address like redis://HOST:6379 with REDIS_CLUSTER.",
            hint="A cluster has only database 0, and no sockets.",
            id="tutormax.E007",
        )
    if not settings.DATA_DIR.is_dir():
        yield Error(
            "DATA_DIR must be a folder, or a path where one can be created.",
            hint="Name or create a folder that the portal may write to.",
            id="tutormax.E004",
        )
    if settings.MAX_BUFFERED_BYTES < settings.MAX_BODY_BYTES:
        yield Error(
            "MAX_BUFFERED_BYTES must not be less than MAX_BODY_BYTES.",
            hint="Otherwise the largest allowed body would never fit.",
            id="tutormax.E003",
        )


@register(Tags.database)
def check_names_of_clients(**_: Any) -> Iterator[CheckMessage]:
    """No API client has a name that sources use. Before the first migration there is none."""
    with contextlib.suppress(DatabaseError):
        for name in misnamed():
            yield Warning(
                f"An API client is named {name}. So its records look like those of another sender.",
                hint="Create a client with another name for it, and revoke the keys of this one.",
                id="tutormax.W004",
            )


@register(Tags.security)
def check_private(**_: Any) -> Iterator[CheckMessage]:
    """No other user of this machine can read the data. Runs at every start and with --deploy."""
    database = settings.DATABASES["default"]
    paths = {"DATA_DIR": settings.DATA_DIR}
    if database["ENGINE"] == "django.db.backends.sqlite3":
        paths["DATABASE_URL"] = Path(database["NAME"])
    for variable, path in paths.items():
        if is_open(path):
            yield Warning(
                f"{variable}: other users of this machine can open {path}.",
                hint=f"chmod -R go= {shlex.quote(str(path))} removes their permissions. The portal "
                "does this by itself if the folder belongs to it and holds nothing else.",
                id="tutormax.W005",
            )


@register(Tags.security, deploy=True)
def check_deployment(**_: Any) -> Iterator[CheckMessage]:
    """What production needs in addition to Django's own checks."""
    if not settings.ENVIRONMENT.is_set("SECRET_KEY"):
        yield Warning(
            "SECRET_KEY is not set: the portal uses a key that it keeps in DATA_DIR.",
            hint="Set SECRET_KEY to one long random text on every server of this site.",
            id="tutormax.W001",
        )
    if not settings.REDIS_URL:
        yield Warning(
            "REDIS_URL is not set: only this machine can use the embedded store.",
            hint="Set REDIS_URL to the store that the downstream pipeline reads.",
            id="tutormax.W002",
        )
    if settings.OPEN_WITHOUT_KEY:
        yield Warning(
            "OPEN_WITHOUT_KEY is on: anybody who reaches this server can queue records.",
            hint="Turn it off, unless a proxy in front decides who may send.",
            id="tutormax.W003",
        )
