"""What is judged at start: each finding names the variable and says what to do."""

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
    """Every variable has a value that can be used."""
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
    """A file may hold variables of other programs, but hardly one that is nearly ours."""
    env = settings.ENVIRONMENT
    for name in env.places.keys() - set(env.variables):
        for meant in get_close_matches(name.upper(), env.variables, n=1, cutoff=0.85):
            yield Warning(
                f"{env.places[name]} sets {name}, which is no setting.",
                hint=f"Is {meant} meant?",
                id="tutormax.W006",
            )


def _check_together() -> Iterator[CheckMessage]:
    if settings.REDIS_URL:
        try:
            # Nothing is opened yet; every option of the address is read.
            ConnectionPool.from_url(settings.REDIS_URL).make_connection()
        except (ValueError, TypeError, RedisError):
            yield Error(
                "REDIS_URL must be an address that begins with redis://, rediss:// or unix://.",
                hint="For example redis://localhost:6379/0. Without REDIS_URL the portal brings "
                "a store of its own.",
                id="tutormax.E002",
            )
    if settings.INGESTION_DURABILITY == "replicated" and not settings.REDIS_URL:
        yield Error(
            "INGESTION_DURABILITY=replicated needs a store with a replica.",
            hint="The embedded store has none: set REDIS_URL, or promise fsync.",
            id="tutormax.E009",
        )
    if settings.REDIS_SENTINELS and settings.REDIS_CLUSTER:
        yield Error(
            "REDIS_SENTINELS and REDIS_CLUSTER exclude each other.",
            hint="A cluster watches over itself: leave REDIS_SENTINELS empty.",
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
            hint="A cluster has no databases but 0, and no sockets.",
            id="tutormax.E007",
        )
    if not settings.DATA_DIR.is_dir():
        yield Error(
            "DATA_DIR must be a folder, or one that can be made.",
            hint="Name a folder that the portal may write to, or make it.",
            id="tutormax.E004",
        )
    if settings.MAX_BUFFERED_BYTES < settings.MAX_BODY_BYTES:
        yield Error(
            "MAX_BUFFERED_BYTES must not be less than MAX_BODY_BYTES.",
            hint="The largest body that is allowed would never find room.",
            id="tutormax.E003",
        )


@register(Tags.database)
def check_names_of_clients(**_: Any) -> Iterator[CheckMessage]:
    """No API client passes for another sender. Before the first migration there is none."""
    with contextlib.suppress(DatabaseError):
        for name in misnamed():
            yield Warning(
                f"An API client is named {name}, and so its records pass for those of another "
                "sender.",
                hint="Make it a client of another name, and revoke the keys of this one.",
                id="tutormax.W004",
            )


@register(Tags.security)
def check_private(**_: Any) -> Iterator[CheckMessage]:
    """Nobody else on this machine reads the data. Runs at every start and with --deploy."""
    database = settings.DATABASES["default"]
    paths = {"DATA_DIR": settings.DATA_DIR}
    if database["ENGINE"] == "django.db.backends.sqlite3":
        paths["DATABASE_URL"] = Path(database["NAME"])
    for variable, path in paths.items():
        if is_open(path):
            yield Warning(
                f"{variable}: other users of this machine can open {path}.",
                hint=f"chmod -R go= {shlex.quote(str(path))} takes their rights away. The portal "
                "does it by itself for a folder that is its own and holds nothing else.",
                id="tutormax.W005",
            )


@register(Tags.security, deploy=True)
def check_deployment(**_: Any) -> Iterator[CheckMessage]:
    """What production needs beyond Django's own list."""
    if not settings.ENVIRONMENT.is_set("SECRET_KEY"):
        yield Warning(
            "SECRET_KEY is not set: a key kept in DATA_DIR stands in for it.",
            hint="Set SECRET_KEY to one long random text on every server of this site.",
            id="tutormax.W001",
        )
    if not settings.REDIS_URL:
        yield Warning(
            "REDIS_URL is not set: the embedded store serves this machine alone.",
            hint="Set REDIS_URL to the store that the downstream pipeline reads.",
            id="tutormax.W002",
        )
    if settings.OPEN_WITHOUT_KEY:
        yield Warning(
            "OPEN_WITHOUT_KEY is on: whoever reaches this server can queue records.",
            hint="Turn it off unless a proxy in front decides who may come in.",
            id="tutormax.W003",
        )
