"""Every answer of the API, once: what a view sends, and what the schema says of it.

The names of the classes are those of the schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ingestion import outcomes
from ingestion.outcomes import Code, FieldCode
from ingestion.queues import Durability
from ingestion.stats import Moment, Text

Reasons = Annotated[
    Sequence[Text],
    Meta(
        description="Why not, or empty. Each begins with a word of a closed list. If the "
        "operator can do something, a colon and a sentence follow."
    ),
]


class FieldError(Struct, frozen=True, kw_only=True):
    """One reason why a record was refused."""

    field: Annotated[
        Text | None,
        Meta(
            description="The field, `subjects[2]` for an entry of a list, null for the whole "
            "record."
        ),
    ]
    code: FieldCode
    message: Annotated[Text, Meta(description="For people; never repeats a value.")]


class Rejection(Struct, frozen=True, kw_only=True):
    """One record of a batch that was refused."""

    index: Annotated[int, Meta(ge=0, description="Its place in the batch, from 0.")]
    line: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType, Meta(description="Its line, from 1 (NDJSON only).")
    ] = UNSET
    id: Annotated[Text | None, Meta(description="The record's id, if it was given and is valid.")]
    errors: Sequence[FieldError]


class Receipt(Struct, frozen=True, kw_only=True):
    """The record lies on the queue."""

    success: bool = True
    message: Text
    id: Annotated[Text, Meta(description="The record's id.")]
    queued: bool = True
    timestamp: Moment
    ignored_fields: Annotated[
        Sequence[Text] | UnsetType,
        Meta(
            description="Fields that the type does not know, and that were dropped: perhaps "
            "misspelled."
        ),
    ] = UNSET


Rejections = Annotated[
    Sequence[Rejection], Meta(description="The first 1,000 rejections, in order.")
]


class BatchReceipt(Struct, frozen=True, kw_only=True):
    """What became of each record of a batch."""

    success: Annotated[bool, Meta(description="True when every record was accepted.")]
    message: Text
    count: Annotated[int, Meta(description="How many records are on the queue.")]
    rejected: Annotated[int, Meta(description="How many records were refused.")]
    queued: Annotated[bool, Meta(description="Whether anything was queued.")]
    timestamp: Moment
    errors: Rejections
    errors_truncated: Annotated[
        bool | UnsetType, Meta(description="True when there are more rejections than listed.")
    ] = UNSET
    ignored_fields: Annotated[
        Mapping[str, Annotated[int, Meta(ge=1)]] | UnsetType,
        Meta(
            description="How many queued records had each field that the type does not know, and "
            "that was dropped: perhaps misspelled."
        ),
    ] = UNSET


class Refused(Struct, frozen=True, kw_only=True):
    """What every refusal of a request says."""

    success: bool = False
    error: Annotated[Text, Meta(description="One sentence for people.")]
    code: Code
    outcome: Literal["unknown"] | UnsetType = UNSET
    timestamp: Moment
    request_id: Text


class Error(Refused, frozen=True, kw_only=True):
    """Nothing of the request was queued (unless `outcome` says that this is unknown)."""

    errors: Sequence[FieldError] | UnsetType = UNSET


class BatchError(Refused, frozen=True, kw_only=True):
    """A batch of which nothing was queued.

    If its records were validated, it has the fields of a batch as well.
    """

    message: Text | UnsetType = UNSET
    count: Annotated[int | UnsetType, Meta(description="How many records are queued: 0.")] = UNSET
    rejected: Annotated[int | UnsetType, Meta(description="How many were refused.")] = UNSET
    queued: bool | UnsetType = UNSET
    errors: Annotated[
        Sequence[Rejection] | UnsetType, Meta(description="The first 1,000 rejections, in order.")
    ] = UNSET
    errors_truncated: bool | UnsetType = UNSET


class Health(Struct, frozen=True, kw_only=True):
    """How the portal is."""

    status: Literal["healthy", "degraded"]
    timestamp: Moment
    redis_connected: bool
    version: Text
    reasons: Reasons


class Live(Struct, frozen=True, kw_only=True):
    """The process runs."""

    live: bool = True
    timestamp: Moment


class Ready(Struct, frozen=True, kw_only=True):
    """Whether a request could be accepted safely, and if not, why."""

    ready: bool
    reasons: Reasons
    durability: Annotated[
        Durability,
        Meta(description="What the store says that an acknowledgement is worth in a power cut."),
    ]
    timestamp: Moment


class Root(Struct, frozen=True, kw_only=True):
    """What this is."""

    name: Text
    version: Text
    status: Literal["running"] = "running"
    endpoints: Mapping[str, Text]


def field_errors(errors: Sequence[outcomes.FieldError]) -> list[FieldError]:
    """What is at fault in a record, for its sender."""
    return [FieldError(field=one.field, code=one.code, message=one.message) for one in errors]


def rejection(one: outcomes.Rejection) -> Rejection:
    """A refused record of a batch, for its sender."""
    return Rejection(
        index=one.index,
        line=UNSET if one.line is None else one.line,
        id=one.id,
        errors=field_errors(one.errors),
    )
