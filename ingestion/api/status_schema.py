"""The OpenAPI documentation of the addresses that report the state of the portal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

from ingestion.api import answers
from ingestion.api.schema import TIMESTAMP, Operation, answer_example, error_responses
from ingestion.outcomes import Code
from ingestion.records import RECORD_TYPES
from ingestion.stats import QueueStats


def queue_stats(_: Any) -> Operation:
    """GET of the queues' numbers."""
    labels = [record_type.queue_label for record_type in RECORD_TYPES.values()]
    detail = {"depth": 3, "oldest_age_seconds": 12.5, "accepted": 120, "rejected": 4}
    return Operation(
        id="get_queue_stats",
        takes_key=True,
        tag="operation",
        summary="Depth and age of every queue",
        description="Read from the store in one round trip.",
        responses={
            200: OpenApiResponse(
                QueueStats,
                "The numbers of this moment.",
                [
                    answer_example(
                        "numbers",
                        {
                            "timestamp": TIMESTAMP,
                            "queues": dict.fromkeys(labels, 3),
                            "detail": {
                                record_type.queue_label: {"queue": record_type.queue} | detail
                                for record_type in RECORD_TYPES.values()
                            },
                        },
                    )
                ],
            ),
            **error_responses(
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
                **error_responses(Code.MALFORMED_REQUEST, Code.INTERNAL_ERROR),
            },
        )

    return describe


root = _simple(
    "get_root",
    "What this is and where things are",
    "A browser gets the same as a small page.",
    {200: OpenApiResponse(answers.Root, "Name, version and addresses.")},
)
health = _simple(
    "get_health",
    "How the portal is",
    "Always 200: `status` says how it is, and `reasons` why.",
    {
        200: OpenApiResponse(
            answers.Health,
            "Healthy, or degraded while the store cannot take records or keeps "
            "them less safely than promised; `reasons` says why.",
        )
    },
)
live = _simple(
    "get_health_live",
    "Whether the process runs",
    "Asks nobody else.",
    {200: OpenApiResponse(answers.Live, "It runs.")},
)
ready = _simple(
    "get_health_ready",
    "Whether a request could be accepted safely",
    "For load balancers.",
    {
        200: OpenApiResponse(answers.Ready, "It could."),
        503: OpenApiResponse(answers.Ready, "It could not; `reasons` says why."),
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
            **error_responses(
                Code.MALFORMED_REQUEST,
                Code.UNAUTHENTICATED,
                Code.FORBIDDEN,
                Code.INTERNAL_ERROR,
                Code.SERVER_BUSY,
            ),
        },
    )
