"""The possible results of a request: the closed list of codes, receipts, rejections, exceptions.

A `Rejection` is a value: one record was not valid, and its sender is told why. A fault is an
exception (`IntakeError`): the whole request could not be validated or queued. Both carry a code,
and the same word appears in the answer, in the log and in the counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Self

import msgspec


class FieldCode(StrEnum):
    """Why a field, or a record as a whole, was refused. Closed and documented in docs/errors.md.

    `advice` tells staff who fix the record what to do.
    """

    _value_: str
    advice: str

    def __new__(cls, word: str, advice: str = "") -> Self:
        """One line for a code: its word and the advice. Its word alone finds the code again."""
        code = str.__new__(cls, word)
        code._value_ = word
        code.advice = advice
        return code

    # the value is of the wrong type
    REQUIRED = (
        "required",
        "Fill in the cell. If the whole column is empty, check that it is used for the right "
        "field.",
    )
    NULL = "null", "Fill in a value."
    NOT_AN_OBJECT = "not_an_object", "Each record must be a JSON object with named fields."
    NOT_TEXT = "not_text", "Write the value as text, in quotes."
    NOT_AN_INTEGER = "not_an_integer", "Write a whole number in digits, without units or words."
    NOT_A_NUMBER = "not_a_number", "Write a number in digits, without units or a percent sign."
    NOT_A_BOOLEAN = "not_a_boolean", "Write true or false (yes, no, 1 and 0 also work)."
    NOT_A_LIST = "not_a_list", "Write a list of texts."
    # the value is of the right type and outside its rule
    BLANK = "blank", "Fill in the cell."
    MIN_LENGTH = "min_length", "Add an entry. Separate entries with a semicolon."
    MAX_LENGTH = "max_length", "Shorten it. Separate the entries of a list with a semicolon."
    MIN_VALUE = "min_value", "Check the number: it is too small."
    MAX_VALUE = "max_value", "Check the number: it is too large."
    INVALID_ID = "invalid_id", "Remove the spaces from the id."
    INVALID_EMAIL = "invalid_email", "Write one complete address, like name@example.com."
    INVALID_DATETIME = (
        "invalid_datetime",
        "Write it like 2024-05-14 15:00. If all dates are refused, check the date order.",
    )
    INVALID_CHOICE = "invalid_choice", "Use exactly one of the words."
    INVALID_CHARACTER = (
        "invalid_character",
        "Type the text again: it has a character that cannot be stored.",
    )
    # rules between fields
    FIRST_SESSION_MISMATCH = (
        "first_session_mismatch",
        "Make is_first_session and session_number say the same.",
    )
    FIRST_SESSION_ONLY = "first_session_only", "Empty this cell: only a first session may have one."
    NO_SHOW_HAS_START = "no_show_has_start", "Empty actual_start, or set no_show to false."
    # one line of many could not be read
    MALFORMED_JSON = (
        "malformed_json",
        "Compare this line with its neighbours: a quote, comma or brace is missing or too many.",
    )
    MALFORMED_LINE = "malformed_line", "Compare this row with its neighbours in a text editor."


class Code(StrEnum):
    """Why a whole request was not accepted. Closed, see docs/errors.md.

    `sentence` is for the sender, so that no answer holds text of an exception or of the sender.
    `for_staff` tells staff in the portal why they must wait, if a code makes them wait.
    """

    _value_: str
    status: HTTPStatus
    sentence: str
    for_staff: str

    def __new__(cls, word: str, status: int = 500, sentence: str = "", for_staff: str = "") -> Self:
        """One line for a code: its word, its HTTP status, and its two sentences.

        A code can be looked up by its word alone.
        """
        code = str.__new__(cls, word)
        code._value_ = word
        code.status = HTTPStatus(status)
        code.sentence = sentence
        code.for_staff = for_staff
        return code

    MALFORMED_JSON = (
        "malformed_json",
        400,
        "The body is not valid JSON (NaN and Infinity are not JSON either).",
    )
    MALFORMED_ENCODING = (
        "malformed_encoding",
        400,
        "The body is not valid UTF-8. Send UTF-8 without a byte order mark.",
    )
    MALFORMED_COMPRESSION = (
        "malformed_compression",
        400,
        "The body is announced as gzip but cannot be unpacked.",
    )
    MALFORMED_REQUEST = "malformed_request", 400, "The request is malformed."
    TOO_DEEP = (
        "too_deep",
        400,
        "The JSON is nested too deeply. Records hold only plain fields and lists.",
    )
    NOT_AN_OBJECT = (
        "not_an_object",
        400,
        "Send one record as a JSON object. Several records go to the batch address.",
    )
    NOT_AN_ARRAY = "not_an_array", 400, "Send the batch as a JSON array of records, or as NDJSON."
    EMPTY_BODY = "empty_body", 400, "The body is empty: send a record as JSON."
    EMPTY_BATCH = "empty_batch", 400, "The batch holds no record."
    EMPTY_FILE = "empty_file", 400, "The file is empty."
    UNKNOWN_FILE_FORMAT = (
        "unknown_file_format",
        415,
        "This file cannot be read. Save it as XLSX or CSV.",
    )
    UNKNOWN_COLUMNS = (
        "unknown_columns",
        400,
        "No column of the file has the name of a field of this record type. Name the columns in "
        "its first row.",
    )
    UNAUTHENTICATED = (
        "unauthenticated",
        401,
        "A valid API key is needed here: it is missing, wrong, expired or revoked. Send the "
        "header Authorization: Api-Key tmx_… with the request.",
    )
    FORBIDDEN = "forbidden", 403, "You may not do this with these credentials."
    NOT_FOUND = "not_found", 404, "Nothing is at this address. GET / lists the addresses."
    METHOD_NOT_ALLOWED = (
        "method_not_allowed",
        405,
        "This address does not know this method; see the Allow header.",
    )
    REQUEST_TIMEOUT = (
        "request_timeout",
        408,
        "The body did not arrive in time. Send the request again.",
    )
    LENGTH_REQUIRED = (
        "length_required",
        411,
        "This server cannot read a body without a Content-Length header.",
    )
    BODY_TOO_LARGE = (
        "body_too_large",
        413,
        "The body is larger than this server takes. Send it as several batches.",
    )
    BATCH_TOO_LARGE = (
        "batch_too_large",
        413,
        "The batch holds more records than allowed. Send it as several batches.",
    )
    TOO_MANY_VALUES = (
        "too_many_values",
        413,
        "The JSON holds more values than a batch may. Send it as several batches.",
    )
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported_media_type",
        415,
        "Send JSON in UTF-8 with Content-Type: application/json (batches also as "
        "application/x-ndjson).",
    )
    UNSUPPORTED_ENCODING = (
        "unsupported_encoding",
        415,
        "This server does not support this Content-Encoding. Send the body plain or as gzip.",
    )
    INVALID_RECORD = (
        "invalid_record",
        422,
        "The record is not valid; `errors` says which fields and why.",
    )
    INVALID_BATCH = (
        "invalid_batch",
        422,
        "Nothing of the batch was queued; `errors` says which records are not valid and why.",
    )
    KEY_REUSED = (
        "key_reused",
        422,
        "This Idempotency-Key came before with another body. Use a new key for a new request.",
    )
    INVALID_KEY = (
        "invalid_key",
        400,
        "An Idempotency-Key has 1 to 255 visible characters and no spaces.",
    )
    QUOTA_EXCEEDED = (
        "quota_exceeded",
        429,
        "This client sent more records than its quota allows. Try again later.",
    )
    INTERNAL_ERROR = (
        "internal_error",
        500,
        "The server made a mistake; nothing was queued. It is in the log under the request id.",
    )
    SERVER_BUSY = "server_busy", 503, "The server is busy; nothing was queued. Try again shortly."
    QUEUE_FULL = (
        "queue_full",
        503,
        "The queue is full; nothing was queued. Try again later.",
        "The queue is full.",
    )
    QUEUE_PAUSED = (
        "queue_paused",
        503,
        "The queue is paused by staff; nothing was queued. Try again later.",
        "The queue is paused.",
    )
    STORE_UNREACHABLE = (
        "store_unreachable",
        503,
        "The queue's store cannot be reached; nothing was queued. Try again shortly.",
        "The store does not answer.",
    )
    STORE_ANSWER_LOST = (
        "store_answer_lost",
        503,
        "The connection to the queue's store broke after the records were sent: they may or may "
        "not be on the queue. Send the same request again with the same Idempotency-Key to be "
        "sure.",
        "The connection to the store broke before its answer came.",
    )
    STORE_NOT_REPLICATED = (
        "store_not_replicated",
        503,
        "The queue's store has the records, but its replica did not confirm them in time: they "
        "may be lost again. Send the same request again with the same Idempotency-Key to be sure.",
        "The store has the records, but its replica did not confirm them in time.",
    )
    STORE_LOADING = (
        "store_loading",
        503,
        "The queue's store is starting and still loads its data; nothing was queued. Try again "
        "shortly.",
        "The store is starting and still loads its data.",
    )
    STORE_READ_ONLY = (
        "store_read_only",
        503,
        "The queue's store takes no writes at the moment; nothing was queued.",
        "The store takes no writes at the moment.",
    )
    STORE_OUT_OF_MEMORY = (
        "store_out_of_memory",
        503,
        "The queue's store is out of memory; nothing was queued. Try again later.",
        "The store is out of memory.",
    )
    STORE_ERROR = (
        "store_error",
        503,
        "The queue's store refused the push; nothing was queued. Try again later.",
        "The store refuses the request; the log says why.",
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
    """A record that was refused on arrival: its sender gets the reasons, and it is not queued.

    `index` counts records from 0; `line` counts lines of the payload from 1, if it has lines. `id`
    is the record's id if it was sent and is itself valid. `record` is what was sent, if it was an
    object and is kept: for staff who may fix it, never for answers or logs.
    """

    index: int
    line: int | None = None
    id: str | None = None
    errors: tuple[FieldError, ...]
    record: Mapping[str, Any] | None = field(default=None, repr=False)


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the intake: every record of the request is either accepted or rejected.

    `ids` are the ids of the queued records, in the order given. `place` is how many messages had
    been pushed on that queue before them in all; None if the store was not needed.
    `ignored_fields` are the names of dropped fields, with the number of records that had each.
    `answer` is set if the request may be repeated: every repetition gets this answer. `replayed`
    means that this is a repetition, and nothing was queued now.
    """

    ids: tuple[str, ...]
    rejections: tuple[Rejection, ...] = ()
    ignored_fields: Mapping[str, int] = {}
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
    """The whole request could not be taken. Nothing of it was queued, unless `outcome_unknown`.

    `code` says why. `detail` is an additional sentence of ours for the person who reads the answer.
    `retry_after_seconds` is set if another try makes sense. `outcome_unknown` is True if a push was
    sent and its answer, or the answer of its replica, never came.
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
    """The payload cannot be read, has the wrong shape, or is larger than allowed."""


class StoreError(IntakeError):
    """The store did not take the push, or did not answer."""

    @property
    def for_staff(self) -> str:
        """Why the store cannot be used now."""
        return self.code.for_staff


class QueuePausedError(StoreError):
    """Staff have paused the queue; `reason` is what they wrote."""

    def __init__(self, reason: str, *, retry_after_seconds: int) -> None:
        super().__init__(
            Code.QUEUE_PAUSED, detail=f"Reason: {reason}", retry_after_seconds=retry_after_seconds
        )
        self.reason = reason

    @property
    def for_staff(self) -> str:
        """Says that the queue is paused, and why."""
        return f"The queue is paused: {self.reason}"


class AccessError(IntakeError):
    """The sender is unknown, or may not do this."""
