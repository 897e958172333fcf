"""A site of a few plain views, served by the real edge: it keeps the edge's tests apart from the app.

It is settings module and URL configuration in one; the bounds come from the environment.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator

from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tutormax.logs import logging_config

SECRET_KEY = "for the tests alone"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.rsgi_site"
LOGGING = logging_config(level="INFO", as_json=True)
MAX_BODY_BYTES = int(os.environ.get("MAX_BODY_BYTES", 16 * 2**20))
DATA_UPLOAD_MAX_MEMORY_SIZE = None
BODY_TIMEOUT_SECONDS = int(os.environ.get("BODY_TIMEOUT_SECONDS", 30))
WEB_THREADS = int(os.environ.get("WEB_THREADS", 4))
MAX_WAITING_REQUESTS = int(os.environ.get("MAX_WAITING_REQUESTS", 256))
MAX_BUFFERED_BYTES = int(os.environ.get("MAX_BUFFERED_BYTES", 256 * 2**20))


def echo(request: HttpRequest) -> HttpResponse:
    """What arrived: the body's length and hash, and the environ's texts."""
    body = request.body
    return JsonResponse(
        {
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "environ": {k: v for k, v in request.environ.items() if isinstance(v, str | bool)},
        }
    )


def noop(request):
    return HttpResponse(b"ok")


urlpatterns = [path("noop", noop), path("echo", echo)]
