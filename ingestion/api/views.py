"""The machine face: parse, ask the intake, answer. Nothing is decided here."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from prometheus_client import exposition
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingestion import intake, queues
from ingestion.api import schema
from ingestion.api.access import client_name
from ingestion.api.body import read_payload
from ingestion.api.errors import error_document, field_errors_document
from ingestion.api.metrics import REGISTRY
from ingestion.api.requests import ApiRequest
from ingestion.api.schema import Described
from ingestion.outcomes import Code, PayloadError, Receipt, Rejection, utc_timestamp
from ingestion.records import RECORD_TYPES, RecordType

# A batch's answer lists so many rejections at most (contract, section 2).
MOST_ERRORS = 1000


class View(APIView):
    """What all addresses share: a method that one does not know is 405, OPTIONS included."""

    # Preflights of browsers are answered before a view is reached.
    http_method_names = ["get", "head", "post"]


class IntakeView(View):
    """What the two ways to send records share. `record_type` comes with the route."""

    record_type: RecordType = RECORD_TYPES["sessions"]
    batch = False

    def take(self, request: ApiRequest, *, strict: bool = False) -> Receipt:
        """Hand the request's body to the intake and note the counts for the log."""
        client = client_name(request)
        payload = read_payload(request, batch=self.batch)
        receipt = intake.accept(self.record_type, payload, source=f"api:{client}", strict=strict)
        request.log_facts.update(accepted=receipt.accepted, rejected=receipt.rejected)
        return receipt


class RecordView(IntakeView):
    """POST one record."""

    schema = Described(schema.record)

    def post(self, request: ApiRequest) -> Response:
        """201 where the record is on the queue, 422 where it is not valid."""
        receipt = self.take(request)
        if receipt.rejections:
            (rejection,) = receipt.rejections
            return Response(
                error_document(
                    Code.INVALID_RECORD, request_id=request.request_id, errors=rejection.errors
                ),
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
            )
        return Response(
            {
                "success": True,
                "message": f"The {self.record_type.title} is queued.",
                "id": receipt.ids[0],
                "queued": True,
                "timestamp": utc_timestamp(),
            },
            status=HTTPStatus.CREATED,
        )


class BatchView(IntakeView):
    """POST many records: a JSON array, or NDJSON."""

    schema = Described(schema.batch)
    batch = True

    def post(self, request: ApiRequest) -> Response:
        """201 all accepted, 207 some, 422 none (or, with `?strict=true`, not all valid)."""
        strict = request.GET.get("strict", "false").lower()
        if strict not in ("true", "false"):
            raise PayloadError(Code.MALFORMED_REQUEST)
        receipt = self.take(request, strict=strict == "true")
        return Response(self._document(receipt, request.request_id), status=_batch_status(receipt))

    def _document(self, receipt: Receipt, request_id: str) -> dict[str, Any]:
        total = receipt.accepted + receipt.rejected
        document: dict[str, Any] = {
            "success": not receipt.rejections,
            "message": f"{receipt.accepted} of {total} records are queued.",
            "count": receipt.accepted,
            "rejected": receipt.rejected,
            "queued": receipt.accepted > 0,
            "timestamp": utc_timestamp(),
            "errors": [_rejection_document(one) for one in receipt.rejections[:MOST_ERRORS]],
        }
        if receipt.rejected > MOST_ERRORS:
            document["errors_truncated"] = True
        if not receipt.accepted:
            # The shape of every error, with the batch's own fields beside it.
            document = error_document(Code.INVALID_BATCH, request_id=request_id) | document
        return document


def _batch_status(receipt: Receipt) -> HTTPStatus:
    if not receipt.accepted:
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.MULTI_STATUS if receipt.rejections else HTTPStatus.CREATED


def _rejection_document(rejection: Rejection) -> dict[str, Any]:
    document: dict[str, Any] = {"index": rejection.index}
    if rejection.line is not None:
        document["line"] = rejection.line
    return document | {"id": rejection.id, "errors": field_errors_document(rejection.errors)}


class QueueStatsView(View):
    """GET the numbers of every queue."""

    schema = Described(schema.queue_stats)

    def get(self, request: ApiRequest) -> Response:
        """Depth, oldest age and totals, from one round trip to the store."""
        client_name(request)
        found = dict(zip(RECORD_TYPES.values(), queues.summaries(_queue_names()), strict=True))
        return Response(
            {
                "timestamp": utc_timestamp(),
                "queues": {kind.queue_label: one.depth for kind, one in found.items()},
                "detail": {
                    kind.queue_label: {
                        "queue": one.queue,
                        "depth": one.depth,
                        "oldest_age_seconds": one.oldest_age_seconds,
                        "accepted": one.accepted,
                        "rejected": one.rejected,
                    }
                    for kind, one in found.items()
                },
            }
        )


def _queue_names() -> list[str]:
    return [kind.queue for kind in RECORD_TYPES.values()]


class RootView(View):
    """GET / : what this is and where things are; a small page for a browser."""

    schema = Described(schema.root)

    def get(self, request: ApiRequest) -> HttpResponseBase:
        """JSON, or the page where the Accept header prefers HTML."""
        document = {
            "name": "TutorMax ingestion portal",
            "version": settings.VERSION,
            "status": "running",
            "endpoints": endpoints(),
        }
        if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
            return render(request._request, "root.html", document)
        return Response(document)


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

    schema = Described(schema.health)

    def get(self, request: ApiRequest) -> Response:
        """`degraded` while the store can not take records."""
        reasons = queues.health().reasons
        return Response(
            {
                "status": "degraded" if reasons else "healthy",
                "timestamp": utc_timestamp(),
                "redis_connected": Code.STORE_UNREACHABLE not in reasons,
                "version": settings.VERSION,
            }
        )


class LiveView(View):
    """GET /health/live: the process runs."""

    schema = Described(schema.live)

    def get(self, request: ApiRequest) -> Response:
        """Asks nobody."""
        return Response({"live": True, "timestamp": utc_timestamp()})


class ReadyView(View):
    """GET /health/ready: whether a request could be accepted safely."""

    schema = Described(schema.ready)

    def get(self, request: ApiRequest) -> Response:
        """200, or 503 with the reasons."""
        reasons = queues.health().reasons
        return Response(
            {"ready": not reasons, "reasons": reasons, "timestamp": utc_timestamp()},
            status=HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK,
            headers={"Retry-After": "1"} if reasons else None,
        )


class MetricsView(View):
    """GET /metrics: the queues' numbers as Prometheus text."""

    schema = Described(schema.metrics)

    def get(self, request: ApiRequest) -> HttpResponse:
        """Prometheus text, whatever the store's state."""
        client_name(request)
        return HttpResponse(
            exposition.generate_latest(REGISTRY), content_type=exposition.CONTENT_TYPE_PLAIN_0_0_4
        )


class NotFoundView(View):
    """Every address that is none of ours."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """404, before the method is looked at."""
        raise NotFound
