"""What the OpenAPI documentation says of sending records; these come from their serializers."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from ingestion.api import answers
from ingestion.api.schema import (
    TIMESTAMP,
    Operation,
    answer_example,
    error_example,
    error_responses,
)
from ingestion.outcomes import Code
from ingestion.records import RecordType

# The errors that any request with records can get.
_INTAKE_CODES = (
    Code.MALFORMED_JSON,
    Code.MALFORMED_ENCODING,
    Code.MALFORMED_COMPRESSION,
    Code.TOO_DEEP,
    Code.EMPTY_BODY,
    Code.MALFORMED_REQUEST,
    Code.INVALID_KEY,
    Code.UNAUTHENTICATED,
    Code.FORBIDDEN,
    Code.REQUEST_TIMEOUT,
    Code.LENGTH_REQUIRED,
    Code.QUOTA_EXCEEDED,
    Code.BODY_TOO_LARGE,
    Code.TOO_MANY_VALUES,
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


def record(view: Any) -> Operation:
    """POST of one record."""
    record_type: RecordType = view.record_type
    return Operation(
        id=f"send_{record_type.path}",
        tag=record_type.path,
        summary=f"Send one {record_type.title}",
        description=f"Judges the {record_type.title} and puts it on the queue "
        f"`{record_type.queue}`. The body may be gzip (`Content-Encoding: gzip`) and holds at most "
        f"{settings.MAX_BODY_BYTES:,} bytes, packed and unpacked.",
        request={"application/json": record_type.serializer_class},
        examples=(_record_example(record_type),),
        takes_key=True,
        parameters=(*_IDEMPOTENCY_HEADERS, *_QUOTA_HEADERS),
        responses={
            201: OpenApiResponse(
                answers.Receipt,
                f"The {record_type.title} is queued.",
                [
                    answer_example(
                        "queued",
                        {
                            "success": True,
                            "message": f"The {record_type.title} is queued.",
                            "id": record_type.serializer_class.example[record_type.id_field],
                            "queued": True,
                            "timestamp": TIMESTAMP,
                        },
                    )
                ],
            ),
            **error_responses(
                *_INTAKE_CODES, Code.NOT_AN_OBJECT, Code.INVALID_RECORD, Code.KEY_REUSED
            ),
        },
    )


def batch(view: Any) -> Operation:
    """POST of many records."""
    record_type: RecordType = view.record_type
    example = dict(record_type.serializer_class.example)
    two_records = [example, example | {record_type.id_field: "another-id"}]
    rejections = [
        {
            "index": index,
            "id": None,
            "errors": [
                {
                    "field": record_type.id_field,
                    "code": "required",
                    "message": "This field is required.",
                }
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
        "timestamp": TIMESTAMP,
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
        error_example(Code.INVALID_BATCH)
        | partial
        | {
            "message": "Records queued: 0. Records refused: 2.",
            "count": 0,
            "rejected": 2,
            "queued": False,
            "errors": rejections,
        }
    )
    responses = error_responses(
        *_INTAKE_CODES,
        Code.NOT_AN_ARRAY,
        Code.EMPTY_BATCH,
        Code.BATCH_TOO_LARGE,
    )
    return Operation(
        id=f"send_{record_type.path}_batch",
        takes_key=True,
        tag=record_type.path,
        summary=f"Send many records ({record_type.path})",
        description=f"Every record is judged by itself; the valid ones go on the queue "
        f"`{record_type.queue}` together, in the order given, in one atomic push. At most "
        f"{settings.MAX_BATCH_RECORDS:,} records and {settings.MAX_BODY_BYTES:,} bytes (packed "
        f"and unpacked) a batch; send more as several batches.",
        request={
            "application/json": {
                "type": "array",
                "items": view.schema.resolve_serializer(
                    record_type.serializer_class, "request"
                ).ref,
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
                # By the same name as in JSON: only then Swagger UI shows it once NDJSON is chosen.
                "two records",
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
                answers.BatchReceipt, "Every record is queued.", [answer_example("all", receipt)]
            ),
            207: OpenApiResponse(
                answers.BatchReceipt,
                "Some records are queued; `errors` tells of the others.",
                [answer_example("some", partial)],
            ),
            **responses,
            422: OpenApiResponse(
                answers.BatchError,
                "No record is valid, or not all are and `strict` was asked for; nothing is queued.",
                [
                    answer_example("none", refused),
                    answer_example(Code.KEY_REUSED.value, error_example(Code.KEY_REUSED)),
                ],
            ),
        },
    )


def _record_example(record_type: RecordType) -> OpenApiExample:
    return OpenApiExample(
        f"a {record_type.title}",
        value=dict(record_type.serializer_class.example),
        request_only=True,
    )
