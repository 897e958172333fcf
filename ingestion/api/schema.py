"""How the OpenAPI documentation is made: a view's schema from the `Operation` that describes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from ingestion.api import answers, shapes  # noqa: F401 (drf-spectacular learns of its extensions)
from ingestion.outcomes import Code
from ingestion.records import RECORD_TYPES

TIMESTAMP = "2024-05-14T10:00:00.123456Z"
_REQUEST_ID = "3f2c9b6e1d8a4f0c9b7e5a1d2c3b4a5f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one address, as the documentation describes it."""

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
                True  # drf-spectacular forgets this for a schema that is given as it is
            )
        return operation

    def get_auth(self) -> list[dict[str, Any]]:
        # The empty entry means a request without a key, as from this machine.
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
    description="An id of yours for this request; it comes back and stands in the log. Anything "
    "but 1 to 128 letters, digits, dots, colons, dashes or underscores is replaced by one of ours.",
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


def describe_tags(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: the groups of addresses in the order in which people need them."""
    result["tags"] = [
        *(
            {"name": path, "description": f"Goes on the queue `{record_type.queue}`."}
            for path, record_type in RECORD_TYPES.items()
        ),
        {"name": "operation", "description": "How the portal and its queues are."},
    ]
    return result


def answer_example(name: str, value: Any) -> OpenApiExample:
    """What an answer may look like."""
    return OpenApiExample(name, value=value, response_only=True)


def error_example(code: Code) -> dict[str, Any]:
    """The answer with this code."""
    value: dict[str, Any] = {
        "success": False,
        "error": code.sentence,
        "code": code.value,
        "timestamp": TIMESTAMP,
        "request_id": _REQUEST_ID,
    }
    if code is Code.INVALID_RECORD:
        value["errors"] = [
            {"field": "email", "code": "required", "message": "This field is required."}
        ]
    if code in (Code.STORE_ANSWER_LOST, Code.STORE_NOT_REPLICATED):
        value["outcome"] = "unknown"
    return value


def error_responses(*codes: Code) -> dict[int, OpenApiResponse]:
    """One response per status, with an example for each code that it may carry."""
    by_status: defaultdict[int, list[Code]] = defaultdict(list)
    for code in codes:
        by_status[code.status.value].append(code)
    return {
        status: OpenApiResponse(
            answers.Error,
            " ".join(code.sentence for code in members)
            if len(members) == 1
            else members[0].status.phrase,
            [answer_example(code.value, error_example(code)) for code in members],
        )
        for status, members in sorted(by_status.items())
    }
