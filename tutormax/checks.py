"""What is judged at start: each finding names the variable and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

_REDIS_SCHEMES = ("redis", "rediss", "unix")


@register("tutormax")
def check_environment(**_: Any) -> list[CheckMessage]:
    """Every variable has a value that can be used."""
    return [
        *(
            Error(
                f"{problem.variable} must be {problem.must_be}.",
                hint=f"Correct or remove {problem.variable} in the environment or in .env.",
                id="tutormax.E001",
            )
            for problem in settings.ENVIRONMENT.problems
        ),
        *_check_addresses(),
    ]


def _check_addresses() -> Iterator[CheckMessage]:
    if settings.REDIS_URL and urlsplit(settings.REDIS_URL).scheme not in _REDIS_SCHEMES:
        yield Error(
            "REDIS_URL must begin with redis://, rediss:// or unix://.",
            hint="For example redis://localhost:6379/0. Without REDIS_URL the portal brings "
            "a store of its own.",
            id="tutormax.E002",
        )
    for origin in settings.CORS_ALLOWED_ORIGINS:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
            yield Error(
                "CORS_ORIGINS must hold origins like https://portal.example.com.",
                hint="An origin has a scheme and a host, perhaps a port, and no path. "
                "Separate several by commas.",
                id="tutormax.E003",
            )
    if not settings.API_PREFIX.strip("/"):
        yield Error(
            "API_PREFIX must not be empty.",
            hint="For example /api.",
            id="tutormax.E004",
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
