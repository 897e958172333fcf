"""What can become of a request: the closed list of codes, receipts, rejections, exceptions.

A refusal is a value (`Rejection`): one record was not valid and its sender is told why.
A fault is an exception (`IntakeError`): the request as a whole could not be judged or queued.
Both carry a `Code`, and the same word appears in the answer, in the log and in the counters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import Any


def utc_timestamp() -> str:
    """This moment in UTC as every answer and message says it: `2024-05-14T10:00:00.123456Z`."""
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class FieldCode(StrEnum):
    """Why a field, or a record as a whole, was refused. Closed and documented in docs/errors.md."""

    # the value is of the wrong kind
    REQUIRED = "required"
    NULL = "null"
    NOT_AN_OBJECT = "not_an_object"
    NOT_TEXT = "not_text"
    NOT_AN_INTEGER = "not_an_integer"
    NOT_A_NUMBER = "not_a_number"
    NOT_A_BOOLEAN = "not_a_boolean"
    NOT_A_LIST = "not_a_list"
    # the value is of the right kind and outside its rule
    BLANK = "blank"
    MIN_LENGTH = "min_length"
    MAX_LENGTH = "max_length"
    MIN_VALUE = "min_value"
    MAX_VALUE = "max_value"
    INVALID_ID = "invalid_id"
    INVALID_EMAIL = "invalid_email"
    INVALID_DATETIME = "invalid_datetime"
    INVALID_CHOICE = "invalid_choice"
    INVALID_CHARACTER = "invalid_character"
    # rules between fields
    FIRST_SESSION_MISMATCH = "first_session_mismatch"
    FIRST_SESSION_ONLY = "first_session_only"
    NO_SHOW_HAS_START = "no_show_has_start"
    # one line of many could not be read
    MALFORMED_JSON = "malformed_json"
    MALFORMED_LINE = "malformed_line"


class Code(StrEnum):
    """What a request as a whole came to when it was not accepted. Closed, see docs/errors.md."""

    MALFORMED_JSON = "malformed_json"
    MALFORMED_ENCODING = "malformed_encoding"
    MALFORMED_COMPRESSION = "malformed_compression"
    MALFORMED_REQUEST = "malformed_request"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    NOT_AN_ARRAY = "not_an_array"
    EMPTY_BODY = "empty_body"
    EMPTY_BATCH = "empty_batch"
    EMPTY_FILE = "empty_file"
    UNKNOWN_FILE_FORMAT = "unknown_file_format"
    UNKNOWN_COLUMNS = "unknown_columns"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    LENGTH_REQUIRED = "length_required"
    BODY_TOO_LARGE = "body_too_large"
    BATCH_TOO_LARGE = "batch_too_large"
    TOO_MANY_VALUES = "too_many_values"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    INVALID_RECORD = "invalid_record"
    INVALID_BATCH = "invalid_batch"
    KEY_REUSED = "key_reused"
    INVALID_KEY = "invalid_key"
    QUOTA_EXCEEDED = "quota_exceeded"
    INTERNAL_ERROR = "internal_error"
    SERVER_BUSY = "server_busy"
    QUEUE_FULL = "queue_full"
    QUEUE_PAUSED = "queue_paused"
    STORE_UNREACHABLE = "store_unreachable"
    STORE_ANSWER_LOST = "store_answer_lost"
    STORE_NOT_REPLICATED = "store_not_replicated"
    STORE_LOADING = "store_loading"
    STORE_READ_ONLY = "store_read_only"
    STORE_OUT_OF_MEMORY = "store_out_of_memory"
    STORE_ERROR = "store_error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a code is told: its HTTP status and the plain sentence for the person who reads it."""

    status: HTTPStatus
    sentence: str


# One sentence per code, so that no answer ever carries text of an exception or of the sender.
ANSWERS = MappingProxyType(
    {
        Code.MALFORMED_JSON: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="The body is not valid JSON (NaN and Infinity are not JSON either).",
        ),
        Code.MALFORMED_ENCODING: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="The body is not valid UTF-8. Send UTF-8 without a byte order mark.",
        ),
        Code.MALFORMED_COMPRESSION: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="The body is announced as gzip but cannot be unpacked.",
        ),
        Code.MALFORMED_REQUEST: Answer(
            status=HTTPStatus.BAD_REQUEST, sentence="The request is malformed."
        ),
        Code.TOO_DEEP: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="The JSON is nested too deeply. Records hold only plain fields and lists.",
        ),
        Code.NOT_AN_OBJECT: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="Send one record as a JSON object. Several records go to the batch address.",
        ),
        Code.NOT_AN_ARRAY: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="Send the batch as a JSON array of records, or as NDJSON.",
        ),
        Code.EMPTY_BODY: Answer(
            status=HTTPStatus.BAD_REQUEST, sentence="The body is empty: send a record as JSON."
        ),
        Code.EMPTY_BATCH: Answer(
            status=HTTPStatus.BAD_REQUEST, sentence="The batch holds no record."
        ),
        Code.EMPTY_FILE: Answer(status=HTTPStatus.BAD_REQUEST, sentence="The file is empty."),
        Code.UNKNOWN_FILE_FORMAT: Answer(
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            sentence="This file cannot be read. Save it as CSV, JSON or NDJSON.",
        ),
        Code.UNKNOWN_COLUMNS: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="No column of the file is named like a field of this record type: name the "
            "columns in its first row.",
        ),
        Code.UNAUTHENTICATED: Answer(
            status=HTTPStatus.UNAUTHORIZED,
            sentence="A valid API key is needed here: it is missing, wrong, expired or revoked. "
            "Send the header Authorization: Api-Key tmx_… with the request.",
        ),
        Code.FORBIDDEN: Answer(
            status=HTTPStatus.FORBIDDEN, sentence="You may not do this with these credentials."
        ),
        Code.NOT_FOUND: Answer(
            status=HTTPStatus.NOT_FOUND,
            sentence="Nothing is at this address. GET / lists the addresses.",
        ),
        Code.METHOD_NOT_ALLOWED: Answer(
            status=HTTPStatus.METHOD_NOT_ALLOWED,
            sentence="This address does not know this method; see the Allow header.",
        ),
        Code.REQUEST_TIMEOUT: Answer(
            status=HTTPStatus.REQUEST_TIMEOUT,
            sentence="The body did not arrive in time. Send the request again.",
        ),
        Code.LENGTH_REQUIRED: Answer(
            status=HTTPStatus.LENGTH_REQUIRED,
            sentence="This server cannot read a body without a Content-Length header.",
        ),
        Code.BODY_TOO_LARGE: Answer(
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            sentence="The body is larger than this server takes. Send it as several batches.",
        ),
        Code.BATCH_TOO_LARGE: Answer(
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            sentence="The batch holds more records than allowed. Send it as several batches.",
        ),
        Code.TOO_MANY_VALUES: Answer(
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            sentence="The JSON holds more values than a batch may. Send it as several batches.",
        ),
        Code.UNSUPPORTED_MEDIA_TYPE: Answer(
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            sentence="Send JSON in UTF-8 with Content-Type: application/json "
            "(batches also as application/x-ndjson).",
        ),
        Code.UNSUPPORTED_ENCODING: Answer(
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            sentence="This Content-Encoding is not spoken here. Send the body plain or as gzip.",
        ),
        Code.INVALID_RECORD: Answer(
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            sentence="The record is not valid; `errors` says which fields and why.",
        ),
        Code.INVALID_BATCH: Answer(
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            sentence="Nothing of the batch was queued; `errors` says which records are not valid "
            "and why.",
        ),
        Code.KEY_REUSED: Answer(
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            sentence="This Idempotency-Key came before with another body. Use a new key for a new "
            "request.",
        ),
        Code.INVALID_KEY: Answer(
            status=HTTPStatus.BAD_REQUEST,
            sentence="An Idempotency-Key has 1 to 255 visible characters and no spaces.",
        ),
        Code.QUOTA_EXCEEDED: Answer(
            status=HTTPStatus.TOO_MANY_REQUESTS,
            sentence="This client sent more records than its quota allows. Try again later.",
        ),
        Code.INTERNAL_ERROR: Answer(
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            sentence="The server made a mistake; nothing was queued. It is in the log under "
            "the request id.",
        ),
        Code.SERVER_BUSY: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The server is busy; nothing was queued. Try again shortly.",
        ),
        Code.QUEUE_FULL: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue is full; nothing was queued. Try again later.",
        ),
        Code.QUEUE_PAUSED: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue is paused by staff; nothing was queued. Try again later.",
        ),
        Code.STORE_UNREACHABLE: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue's store cannot be reached; nothing was queued. Try again shortly.",
        ),
        Code.STORE_ANSWER_LOST: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The connection to the queue's store broke after the records were sent: "
            "they may or may not be on the queue. Send the same request again with the same "
            "Idempotency-Key to be sure.",
        ),
        Code.STORE_NOT_REPLICATED: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue's store has the records, but its replica did not confirm them in "
            "time: they may be lost again. Send the same request again with the same "
            "Idempotency-Key to be sure.",
        ),
        Code.STORE_LOADING: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue's store is starting and still loads its data; nothing was "
            "queued. Try again shortly.",
        ),
        Code.STORE_READ_ONLY: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue's store takes no writes at the moment; nothing was queued.",
        ),
        Code.STORE_OUT_OF_MEMORY: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue's store is out of memory; nothing was queued. Try again later.",
        ),
        Code.STORE_ERROR: Answer(
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            sentence="The queue's store refused the push; nothing was queued. Try again later.",
        ),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldError:
    """One reason why a record was refused.

    `field` is the field's name, `subjects[2]` for an item of a list, None for the whole record.
    `message` is for people and never holds a value that was sent (it may be student data).
    """

    field: str | None
    code: FieldCode
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A record refused at the door, told to its sender and never queued.

    `index` counts records from 0; `line` counts lines of the payload from 1, where it has lines;
    `id` is the record's id where it was given and is itself valid. `record` is what was sent,
    where that was an object and is kept: for staff who may fix it, never for answers or logs.
    """

    index: int
    line: int | None = None
    id: str | None = None
    errors: tuple[FieldError, ...]
    record: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The answer of the intake: every record of the request is either accepted or rejected.

    `ids` are the record ids of what lies on the queue, in the order given; `place` is how many
    messages had ever been pushed on that queue before them, None where the store was not needed.
    `ignored_fields` are the names of fields that were dropped, with the number of records each.
    `answer` is set where the request may be repeated: what it is answered every time; `replayed`
    says that it came before, and that nothing was queued now.
    """

    ids: tuple[str, ...]
    rejections: tuple[Rejection, ...] = field(default=())
    ignored_fields: Mapping[str, int] = field(default_factory=dict)
    place: int | None = None
    answer: bytes | None = None
    replayed: bool = False

    @property
    def accepted(self) -> int:
        """How many records are on the queue."""
        return len(self.ids)

    @property
    def rejected(self) -> int:
        """How many records were refused."""
        return len(self.rejections)


class IntakeError(Exception):
    """The request as a whole could not be taken; nothing of it was queued, unless said.

    `code` says why. `detail` is a further sentence for the person who reads the answer, in words
    of ours. `retry_after_seconds` is set where trying again makes sense.
    `outcome_unknown` is True where a push was sent and its answer, or its replica's, never came.
    """

    def __init__(
        self,
        code: Code,
        *,
        detail: str = "",
        retry_after_seconds: int | None = None,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(code.value)
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.outcome_unknown = outcome_unknown


class PayloadError(IntakeError):
    """The payload cannot be read, is of the wrong shape, or is larger than allowed."""


class StoreError(IntakeError):
    """The store did not take the push, or did not answer."""


class QueuePausedError(StoreError):
    """Staff have paused the queue; `reason` is what they wrote."""

    def __init__(self, reason: str, *, retry_after_seconds: int) -> None:
        super().__init__(
            Code.QUEUE_PAUSED, detail=f"Reason: {reason}", retry_after_seconds=retry_after_seconds
        )
        self.reason = reason


def trouble(fault: StoreError) -> str:
    """What is waited for, without the advice that the sender of a request is given."""
    if isinstance(fault, QueuePausedError):
        return f"The queue is paused: {fault.reason}"
    return re.split("[;:.]", ANSWERS[fault.code].sentence)[0] + "."


class AccessError(IntakeError):
    """The sender is not known, or may not do this."""
