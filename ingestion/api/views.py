"""The addresses of the API beside the intake: what this is, its state, and its numbers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from msgspec import structs
from prometheus_client import exposition
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView

from ingestion import queues
from ingestion.api import answers, status_schema
from ingestion.api.access import client_name
from ingestion.api.errors import answered
from ingestion.api.metrics import REGISTRY
from ingestion.api.requests import ApiRequest
from ingestion.api.schema import Described
from ingestion.api_keys import NUMBERS
from ingestion.outcomes import Code, PayloadError
from ingestion.queues import StoreHealth
from ingestion.records import RECORD_TYPES
from ingestion.stats import queue_stats
from ingestion.times import utc_timestamp


class View(APIView):
    """What all addresses share: an unknown method gets 405, even OPTIONS."""

    # A browser's preflight is answered before it reaches a view.
    http_method_names = ["get", "head", "post"]

    parameters: tuple[str, ...] | None = ()
    """The query parameters that the address knows; None for a page, which ignores them."""

    asks_who = False
    """Whether the method checks the query itself, after it knows who asks."""

    def initial(self, request: ApiRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Before the method runs."""
        super().initial(request, *args, **kwargs)
        if not self.asks_who and request.method in self.allowed_methods:
            self.query(request)

    def query(self, request: ApiRequest) -> dict[str, str]:
        """The query parameters, each once. Raises `PayloadError` if there are others.

        A misspelled `strict` must not be ignored. Django would read the query in the charset that
        the body's media type names.
        """
        if self.parameters is None:
            return {}
        try:
            given = parse_qsl(
                request.META.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=100
            )
        except ValueError:
            given = [("", "")]
        query = dict(given)
        if len(query) < len(given) or not query.keys() <= set(self.parameters):
            known = f"{' and '.join(self.parameters)}, once" if self.parameters else "none"
            raise PayloadError(
                Code.MALFORMED_REQUEST, detail=f"Of query parameters this address knows {known}."
            )
        return query


class QueueStatsView(View):
    """GET the numbers of every queue."""

    schema = Described(status_schema.queue_stats)
    asks_who = True

    def get(self, request: ApiRequest) -> HttpResponse:
        """Depth, oldest age and totals, from one round trip to the store."""
        client_name(request, NUMBERS)
        self.query(request)
        return answered(queue_stats())


class RootView(View):
    """GET / : what this is and where things are; a small page for a browser."""

    schema = Described(status_schema.root)

    def get(self, request: ApiRequest) -> HttpResponseBase:
        """JSON, or the page if the Accept header prefers HTML."""
        where = endpoints()
        root = answers.Root(
            name="TutorMax ingestion portal", version=settings.VERSION, endpoints=where
        )
        response: HttpResponseBase
        if _prefers_html(request):
            records = [(path, where[path], where[f"{path}_batch"]) for path in RECORD_TYPES]
            response = render(
                request._request, "root.html", structs.asdict(root) | {"records": records}
            )
        else:
            response = answered(root)
        patch_vary_headers(response, ["Accept"])
        return response


def _prefers_html(request: ApiRequest) -> bool:
    try:
        return bool(request.get_preferred_type(["application/json", "text/html"]) == "text/html")
    except ValueError:  # an Accept header that cannot be read counts as missing
        return False


def endpoints() -> dict[str, str]:
    """The addresses that `GET /` names."""
    names = {
        "portal": "admin:index",
        "docs": "docs",
        "redoc": "redoc",
        "openapi": "openapi-json",
        "health": "health",
        "live": "health-live",
        "ready": "health-ready",
        "queue_stats": "queue-stats",
        "metrics": "metrics",
    }
    for path in RECORD_TYPES:
        names |= {path: f"record-{path}", f"{path}_batch": f"batch-{path}"}
    return {word: reverse(name) for word, name in names.items()}


class HealthView(View):
    """GET /health: how the portal is; always 200."""

    schema = Described(status_schema.health)

    def get(self, request: ApiRequest) -> HttpResponse:
        """`degraded` while the store cannot take records, or keeps them less safely."""
        store = queues.health(one.queue for one in RECORD_TYPES.values())
        reasons = _reasons(store)
        return answered(
            answers.Health(
                status="degraded" if reasons else "healthy",
                timestamp=utc_timestamp(),
                redis_connected=Code.STORE_UNREACHABLE not in store.reasons,
                version=settings.VERSION,
                reasons=reasons,
            )
        )


def _reasons(store: StoreHealth) -> list[str]:
    """Why the portal is not healthy: a word for each reason, and a sentence if staff can act."""
    return [*store.reasons, *(f"{one.word}: {one.sentence}" for one in store.breaches)]


class LiveView(View):
    """GET /health/live: the process runs."""

    schema = Described(status_schema.live)

    def get(self, request: ApiRequest) -> HttpResponse:
        """Checks nothing else."""
        return answered(answers.Live(timestamp=utc_timestamp()))


class ReadyView(View):
    """GET /health/ready: whether a request could be accepted safely."""

    schema = Described(status_schema.ready)

    def get(self, request: ApiRequest) -> HttpResponse:
        """200, or 503 with the reasons."""
        store = queues.health(one.queue for one in RECORD_TYPES.values())
        reasons = _reasons(store)
        return answered(
            answers.Ready(
                ready=not reasons,
                reasons=reasons,
                durability=store.durability,
                timestamp=utc_timestamp(),
            ),
            status=HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK,
            headers={"Retry-After": "1"} if reasons else None,
        )


class MetricsView(View):
    """GET /metrics: the queues' numbers as Prometheus text."""

    schema = Described(status_schema.metrics)
    asks_who = True

    def get(self, request: ApiRequest) -> HttpResponse:
        """Prometheus text, whatever the store's state."""
        client_name(request, NUMBERS)
        self.query(request)
        return HttpResponse(
            exposition.generate_latest(REGISTRY), content_type=exposition.CONTENT_TYPE_PLAIN_0_0_4
        )


class NotFoundView(View):
    """Every address that the portal does not have."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """404, before the method is checked."""
        raise NotFound
