"""What the OpenAPI documentation says of each address; the records come from their serializers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from ingestion.api.shapes import (
    BatchErrorSerializer,
    BatchReceiptSerializer,
    ErrorSerializer,
    HealthSerializer,
    LiveSerializer,
    QueueDetailSerializer,
    ReadySerializer,
    ReceiptSerializer,
    RootSerializer,
)
from ingestion.outcomes import ANSWERS, Code
from ingestion.records import RECORD_TYPES, RecordType

_TIMESTAMP = "2024-05-14T10:00:00.123456Z"
_REQUEST_ID = "3f2c9b6e1d8a4f0c9b7e5a1d2c3b4a5f"

# What may befall any request that carries records.
_INTAKE_CODES = (
    Code.MALFORMED_JSON,
    Code.MALFORMED_ENCODING,
    Code.MALFORMED_COMPRESSION,
    Code.TOO_DEEP,
    Code.EMPTY_BODY,
    Code.MALFORMED_REQUEST,
    Code.UNAUTHENTICATED,
    Code.FORBIDDEN,
    Code.REQUEST_TIMEOUT,
    Code.LENGTH_REQUIRED,
    Code.QUOTA_EXCEEDED,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.UNSUPPORTED_ENCODING,
    Code.INTERNAL_ERROR,
    Code.SERVER_BUSY,
    Code.QUEUE_FULL,
    Code.QUEUE_PAUSED,
    Code.STORE_UNREACHABLE,
    Code.STORE_ANSWER_LOST,
    Code.STORE_NOT_REPLICATED,
    Code.STORE_LOADING,
    Code.STORE_READ_ONLY,
    Code.STORE_OUT_OF_MEMORY,
    Code.STORE_ERROR,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one address, as the documentation tells it."""

    id: str
    tag: str
    summary: str
    description: str
    responses: Mapping[Any, Any]
    request: Any = None
    examples: tuple[OpenApiExample, ...] = ()
    parameters: tuple[OpenApiParameter, ...] = field(default=())
    takes_key: bool = False


class Described(AutoSchema):
    """A view's schema from an `Operation`, made by `describe` from the view."""

    def __init__(self, describe: Callable[[Any], Operation]) -> None:
        super().__init__()
        self._describe = describe

    @property
    def _operation(self) -> Operation:
        return self._describe(self.view)

    def get_operation(self, *arguments: Any) -> Any:
        operation = super().get_operation(*arguments)
        if operation and "requestBody" in operation:
            operation["requestBody"]["required"] = (
                True  # forgotten where a schema is given as it is
            )
        return operation

    def get_auth(self) -> list[dict[str, Any]]:
        # The empty one stands for a request without a key, as from this very machine.
        return [{"ApiKey": []}, {}] if self._operation.takes_key else []

    def get_operation_id(self) -> str:
        return self._operation.id

    def get_tags(self) -> list[str]:
        return [self._operation.tag]

    def get_summary(self) -> str:
        return self._operation.summary

    def get_description(self) -> str:  # type: ignore[override]
        return self._operation.description

    def get_request_serializer(self) -> Any:
        return self._operation.request

    def get_response_serializers(self) -> Any:
        return self._operation.responses

    def get_examples(self) -> list[OpenApiExample]:
        return list(self._operation.examples)

    def get_override_parameters(self) -> list[Any]:
        return [*self._operation.parameters, _REQUEST_ID_PARAMETER, *_ANSWER_HEADERS]


_REQUEST_ID_PARAMETER = OpenApiParameter(
    "X-Request-ID",
    str,
    OpenApiParameter.HEADER,
    description="An id of yours for this request; it comes back and stands in the log.",
)
# For every POST of records.
_IDEMPOTENCY_HEADERS = (
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
        OpenApiParameter.HEADER,
        description="A name of yours for this request, such as a UUID. The same request with the "
        f"same key is answered the same within {settings.IDEMPOTENCY_SECONDS:,} seconds and "
        "queued once, however often it is sent.",
    ),
    OpenApiParameter(
        "Idempotent-Replayed",
        bool,
        OpenApiParameter.HEADER,
        response=[201, 207, 422],
        description="`true` where this request came before and this is its first answer.",
    ),
)
# As the IETF's draft-ietf-httpapi-ratelimit-headers names and writes them.
_QUOTA_HEADERS = tuple(
    OpenApiParameter(
        name, str, OpenApiParameter.HEADER, response=[201, 207, 422, 429], description=description
    )
    for name, description in (
        (
            "RateLimit-Policy",
            'This client\'s quota: `"records";q=6000;w=60` is 6,000 records in 60 seconds. Only '
            "where the site sets a quota.",
        ),
        (
            "RateLimit",
            'What is left of it: with `"records";r=50;t=30`, 50 records may be sent now, and after '
            "30 seconds without any the whole quota is free. Only where the site sets a quota.",
        ),
    )
)
_ANSWER_HEADERS = (
    OpenApiParameter(
        "X-Request-ID",
        str,
        OpenApiParameter.HEADER,
        response=True,
        description="The id of this request, yours or ours.",
    ),
    OpenApiParameter(
        "Retry-After",
        int,
        OpenApiParameter.HEADER,
        response=[429, 503],
        description="Seconds after which another try makes sense.",
    ),
)


def record(view: Any) -> Operation:
    """POST of one record."""
    kind: RecordType = view.record_type
    return Operation(
        id=f"send_{kind.path}",
        tag=kind.path,
        summary=f"Send one {kind.title}",
        description=f"Judges the {kind.title} and puts it on the queue `{kind.queue}`. "
        f"The body may be gzip (`Content-Encoding: gzip`) and holds at most "
        f"{settings.MAX_BODY_BYTES:,} bytes, packed and unpacked.",
        request={"application/json": kind.serializer_class},
        examples=(_record_example(kind),),
        takes_key=True,
        parameters=(*_IDEMPOTENCY_HEADERS, *_QUOTA_HEADERS),
        responses={
            201: OpenApiResponse(
                ReceiptSerializer,
                f"The {kind.title} is queued.",
                [
                    _example(
                        "queued",
                        {
                            "success": True,
                            "message": f"The {kind.title} is queued.",
                            "id": kind.serializer_class.example[kind.id_field],
                            "queued": True,
                            "timestamp": _TIMESTAMP,
                        },
                    )
                ],
            ),
            **_error_responses(*_INTAKE_CODES, Code.NOT_AN_OBJECT, Code.INVALID_RECORD),
        },
    )


def batch(view: Any) -> Operation:
    """POST of many records."""
    kind: RecordType = view.record_type
    example = dict(kind.serializer_class.example)
    two_records = [example, example | {kind.id_field: "another-id"}]
    rejections = [
        {
            "index": index,
            "id": None,
            "errors": [
                {"field": kind.id_field, "code": "required", "message": "This field is required."}
            ],
        }
        for index in (0, 1)
    ]
    receipt = {
        "success": True,
        "message": "Records queued: 2. Records refused: 0.",
        "count": 2,
        "rejected": 0,
        "queued": True,
        "timestamp": _TIMESTAMP,
        "errors": [],
    }
    partial = receipt | {
        "success": False,
        "message": "Records queued: 1. Records refused: 1.",
        "count": 1,
        "rejected": 1,
        "errors": rejections[1:],
    }
    refused = (
        _error_example_value(Code.INVALID_BATCH)
        | partial
        | {
            "message": "Records queued: 0. Records refused: 2.",
            "count": 0,
            "rejected": 2,
            "queued": False,
            "errors": rejections,
        }
    )
    responses = _error_responses(
        *_INTAKE_CODES,
        Code.NOT_AN_ARRAY,
        Code.EMPTY_BATCH,
        Code.BATCH_TOO_LARGE,
    )
    return Operation(
        id=f"send_{kind.path}_batch",
        takes_key=True,
        tag=kind.path,
        summary=f"Send many records ({kind.path})",
        description=f"Every record is judged by itself; the valid ones go on the queue "
        f"`{kind.queue}` together, in the order given, in one atomic push. At most "
        f"{settings.MAX_BATCH_RECORDS:,} records and {settings.MAX_BODY_BYTES:,} bytes (packed "
        f"and unpacked) a batch; send more as several batches.",
        request={
            "application/json": {
                "type": "array",
                "items": view.schema.resolve_serializer(kind.serializer_class, "request").ref,
                "minItems": 1,
                "maxItems": settings.MAX_BATCH_RECORDS,
            },
            "application/x-ndjson": OpenApiTypes.STR,
        },
        examples=(
            OpenApiExample(
                "two records",
                value=two_records,
                request_only=True,
                media_type="application/json",
            ),
            OpenApiExample(
                "two lines",
                value="\n".join(json.dumps(one) for one in two_records) + "\n",
                request_only=True,
                media_type="application/x-ndjson",
            ),
        ),
        parameters=(
            OpenApiParameter(
                "strict",
                bool,
                description="With `true`, one bad record keeps the whole batch off the queue.",
                default=False,
            ),
            *_IDEMPOTENCY_HEADERS,
            *_QUOTA_HEADERS,
        ),
        responses={
            201: OpenApiResponse(
                BatchReceiptSerializer, "Every record is queued.", [_example("all", receipt)]
            ),
            207: OpenApiResponse(
                BatchReceiptSerializer,
                "Some records are queued; `errors` tells of the others.",
                [_example("some", partial)],
            ),
            **responses,
            422: OpenApiResponse(
                BatchErrorSerializer,
                "No record is valid, or not all are and `strict` was asked for; nothing is queued.",
                [
                    _example("none", refused),
                    _example(Code.KEY_REUSED.value, _error_example_value(Code.KEY_REUSED)),
                ],
            ),
        },
    )


def queue_stats(_: Any) -> Operation:
    """GET of the queues' numbers."""
    labels = [kind.queue_label for kind in RECORD_TYPES.values()]
    detail = {"depth": 3, "oldest_age_seconds": 12.5, "accepted": 120, "rejected": 4}
    depths = type(
        "QueueDepthsSerializer",
        (serializers.Serializer,),
        {label: serializers.IntegerField(min_value=0) for label in labels},
    )
    details = type(
        "QueueDetailsSerializer",
        (serializers.Serializer,),
        {label: QueueDetailSerializer() for label in labels},
    )
    stats = type(
        "QueueStatsSerializer",
        (serializers.Serializer,),
        {"timestamp": serializers.DateTimeField(), "queues": depths(), "detail": details()},
    )
    return Operation(
        id="get_queue_stats",
        takes_key=True,
        tag="operation",
        summary="Depth and age of every queue",
        description="Read from the store in one round trip.",
        responses={
            200: OpenApiResponse(
                stats,
                "The numbers of this moment.",
                [
                    _example(
                        "numbers",
                        {
                            "timestamp": _TIMESTAMP,
                            "queues": dict.fromkeys(labels, 3),
                            "detail": {
                                kind.queue_label: {"queue": kind.queue} | detail
                                for kind in RECORD_TYPES.values()
                            },
                        },
                    )
                ],
            ),
            **_error_responses(
                Code.MALFORMED_REQUEST,
                Code.UNAUTHENTICATED,
                Code.FORBIDDEN,
                Code.INTERNAL_ERROR,
                Code.SERVER_BUSY,
                Code.STORE_UNREACHABLE,
                Code.STORE_LOADING,
                Code.STORE_ERROR,
            ),
        },
    )


def _simple(
    operation_id: str, summary: str, description: str, responses: Mapping[Any, Any]
) -> Callable[[Any], Operation]:
    def describe(_: Any) -> Operation:
        return Operation(
            id=operation_id,
            tag="operation",
            summary=summary,
            description=description,
            responses={
                **responses,
                **_error_responses(Code.MALFORMED_REQUEST, Code.INTERNAL_ERROR),
            },
        )

    return describe


root = _simple(
    "get_root",
    "What this is and where things are",
    "A browser gets the same as a small page.",
    {200: OpenApiResponse(RootSerializer, "Name, version and addresses.")},
)
health = _simple(
    "get_health",
    "How the portal is",
    "Always 200: `status` says how it is.",
    {
        200: OpenApiResponse(
            HealthSerializer,
            "Healthy, or degraded while the store can not take records or keeps "
            "them less safely than promised (`/health/ready` says why).",
        )
    },
)
live = _simple(
    "get_health_live",
    "Whether the process runs",
    "Asks nobody else.",
    {200: OpenApiResponse(LiveSerializer, "It runs.")},
)
ready = _simple(
    "get_health_ready",
    "Whether a request could be accepted safely",
    "For load balancers.",
    {
        200: OpenApiResponse(ReadySerializer, "It could."),
        503: OpenApiResponse(ReadySerializer, "It could not; `reasons` says why."),
    },
)


def metrics(_: Any) -> Operation:
    """GET of the Prometheus text."""
    return Operation(
        id="get_metrics",
        takes_key=True,
        tag="operation",
        summary="Numbers for Prometheus",
        description="Prometheus text format.",
        responses={
            (200, "text/plain"): OpenApiResponse(OpenApiTypes.STR, "The numbers of this moment."),
            **_error_responses(
                Code.MALFORMED_REQUEST,
                Code.UNAUTHENTICATED,
                Code.FORBIDDEN,
                Code.INTERNAL_ERROR,
                Code.SERVER_BUSY,
            ),
        },
    )


def describe_tags(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: the groups of addresses in the order in which people need them."""
    result["tags"] = [
        *(
            {"name": path, "description": f"Goes on the queue `{kind.queue}`."}
            for path, kind in RECORD_TYPES.items()
        ),
        {"name": "operation", "description": "How the portal and its queues are."},
    ]
    return result


def _example(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value=value, response_only=True)


def _record_example(kind: RecordType) -> OpenApiExample:
    return OpenApiExample(
        f"a {kind.title}", value=dict(kind.serializer_class.example), request_only=True
    )


def _error_example_value(code: Code) -> dict[str, Any]:
    value: dict[str, Any] = {
        "success": False,
        "error": ANSWERS[code].sentence,
        "code": code.value,
        "timestamp": _TIMESTAMP,
        "request_id": _REQUEST_ID,
    }
    if code is Code.INVALID_RECORD:
        value["errors"] = [
            {"field": "email", "code": "required", "message": "This field is required."}
        ]
    if code in (Code.STORE_ANSWER_LOST, Code.STORE_NOT_REPLICATED):
        value["outcome"] = "unknown"
    return value


def _error_responses(*codes: Code) -> dict[int, OpenApiResponse]:
    """One response per status, with an example for each code that it may carry."""
    by_status: defaultdict[int, list[Code]] = defaultdict(list)
    for code in codes:
        by_status[ANSWERS[code].status.value].append(code)
    return {
        status: OpenApiResponse(
            ErrorSerializer,
            " ".join(ANSWERS[code].sentence for code in members)
            if len(members) == 1
            else ANSWERS[members[0]].status.phrase,
            [_example(code.value, _error_example_value(code)) for code in members],
        )
        for status, members in sorted(by_status.items())
    }
