"""The settings of a small Django project, as REST framework and ninja are served from."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from redis import Redis


def configure(urls: str) -> None:
    """Set Django up; `urls` is the module of the addresses."""
    settings.configure(
        SECRET_KEY="for the benchmark alone",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=urls,
        INSTALLED_APPS=["rest_framework"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
        DATA_UPLOAD_MAX_MEMORY_SIZE=2**26,
    )
    django.setup()


def application() -> Any:
    """The project, for a web server."""
    return get_wsgi_application()


def store() -> Redis:
    """The store of the queues."""
    return Redis.from_url(os.environ["REDIS_URL"])
