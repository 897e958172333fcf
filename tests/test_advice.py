"""Every sentence of advice is followed: the portal accepts what it asks for."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from ingestion.models import ApiClient
from ingestion.outcomes import Code, FieldCode
from ingestion.records import RECORD_TYPES
from tests.api_keys import fresh_keys, header, key_of  # noqa: F401 (a fixture)
from tests.raw_requests import RawAnswer, send

ABSENT = object()
SESSION, TUTOR = (
    dict(RECORD_TYPES[path].serializer_class.example) for path in ("sessions", "tutors")
)
JSON = json.dumps(TUTOR).encode()
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.1"}

# For each code of a field: the type and field, a refused value, and what its message asks for.
FIELDS: dict[FieldCode, tuple[str, str, Any, Any]] = {
    FieldCode.REQUIRED: ("tutors", "email", ABSENT, "a@example.com"),
    FieldCode.NULL: ("tutors", "age", None, 28),
    FieldCode.NOT_TEXT: ("tutors", "name", 5, "5"),
    FieldCode.NOT_AN_INTEGER: ("tutors", "age", "62", 62.0),
    FieldCode.NOT_A_NUMBER: ("sessions", "engagement_score", "0.5", 0.5),
    FieldCode.NOT_A_BOOLEAN: ("sessions", "technical_issues", 0, False),
    FieldCode.NOT_A_LIST: ("tutors", "subjects", "Algebra", ["Algebra"]),
    FieldCode.BLANK: ("tutors", "name", " ", "Jo"),
    FieldCode.MIN_LENGTH: ("tutors", "subjects", [], ["Algebra"]),
    FieldCode.MAX_LENGTH: ("tutors", "name", "x" * 256, "x" * 255),
    FieldCode.MIN_VALUE: ("tutors", "age", 17, 18),
    FieldCode.MAX_VALUE: ("tutors", "age", 101, 100),
    FieldCode.INVALID_ID: ("tutors", "tutor_id", "a b", "ab"),
    FieldCode.INVALID_EMAIL: ("tutors", "email", "name", "name@example.com"),
    FieldCode.INVALID_DATETIME: ("tutors", "created_at", "today", "2024-05-14T15:00:00+02:00"),
    FieldCode.INVALID_CHOICE: ("tutors", "status", "Active", "active"),
    FieldCode.INVALID_CHARACTER: ("tutors", "name", "a\0", "a"),
    FieldCode.FIRST_SESSION_MISMATCH: ("sessions", "is_first_session", True, False),
    FieldCode.FIRST_SESSION_ONLY: ("feedback", "would_recommend", True, None),
    FieldCode.NO_SHOW_HAS_START: ("sessions", "actual_start", SESSION["actual_start"], None),
}
NOT_OF_A_FIELD = {FieldCode.NOT_AN_OBJECT, FieldCode.MALFORMED_JSON, FieldCode.MALFORMED_LINE}


def test_every_code_of_a_field_is_followed():
    assert FIELDS.keys() | NOT_OF_A_FIELD == set(FieldCode)


@pytest.mark.parametrize("code", FIELDS)
def test_what_a_field_asks_for_is_accepted(post, code):
    path, field, wrong, right = FIELDS[code]
    record = dict(RECORD_TYPES[path].serializer_class.example)
    if code is FieldCode.NO_SHOW_HAS_START:
        record["no_show"] = True

    def answer(value: Any) -> Any:
        given = record | {field: value}
        return post(f"/api/{path}", {name: one for name, one in given.items() if one is not ABSENT})

    (error,) = answer(wrong).json()["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert answer(right).status_code == 201
    if "Leave it out" in error["message"]:
        assert answer(ABSENT).status_code == 201
        assert "null" in error["message"]
        assert answer(None).status_code == 201


def batch(content: bytes, content_type: str = "application/json", **environ: str) -> RawAnswer:
    return send("POST", "/api/tutors/batch", content, CONTENT_TYPE=content_type, **environ)


def one(content: bytes, **environ: str) -> RawAnswer:
    return send("POST", "/api/tutors", content, **environ)


KEYS: list[str] = []


def tutors_key() -> str:
    """The same key each time: a new key is known only within a second."""
    if not ApiClient.objects.exists():
        KEYS[:] = [key_of("scoped", ("tutors",))]
    return KEYS[0]


PACKED = {"HTTP_CONTENT_ENCODING": "gzip"}
NDJSON = "application/x-ndjson"
MANY = b"[" + b",".join([JSON] * 11) + b"]"
FEW = b"[" + b",".join([JSON] * 10) + b"]"
# For each code of a request: a refused request, and the requests that its advice asks for.
REQUESTS: dict[Code, tuple[Any, ...]] = {
    Code.MALFORMED_JSON: (
        lambda: one(JSON.replace(b'"2024-05-14T10:00:00"', b"NaN")),
        lambda: one(json.dumps({k: v for k, v in TUTOR.items() if k != "updated_at"}).encode()),
    ),
    Code.MALFORMED_ENCODING: (
        lambda: one(gzip.compress(JSON)),
        lambda: one(gzip.compress(JSON), **PACKED),
        lambda: one(JSON),
    ),
    Code.MALFORMED_COMPRESSION: (
        lambda: one(JSON, **PACKED),
        lambda: one(gzip.compress(JSON), **PACKED),
        lambda: one(JSON),
    ),
    Code.MALFORMED_REQUEST: (
        lambda: send("POST", "/api/tutors/batch", FEW, query="strict=yes"),
        lambda: send("POST", "/api/tutors/batch", FEW, query="strict=true"),
        lambda: send("POST", "/api/tutors/batch", FEW, query="strict=false"),
    ),
    Code.TOO_DEEP: (lambda: one(b"[" * 5000), lambda: one(JSON)),
    Code.NOT_AN_OBJECT: (lambda: one(FEW), lambda: batch(FEW), lambda: one(JSON)),
    Code.NOT_AN_ARRAY: (
        lambda: batch(JSON),
        lambda: batch(FEW),
        lambda: batch(JSON + b"\n" + JSON, NDJSON),
    ),
    Code.EMPTY_BODY: (lambda: one(b""), lambda: one(JSON)),
    Code.EMPTY_BATCH: (lambda: batch(b"[]"), lambda: batch(b"[%s]" % JSON)),
    Code.UNAUTHENTICATED: (
        lambda: one(JSON, HTTP_AUTHORIZATION=f"Bearer {key_of('bearer')}", **ELSEWHERE),
        lambda: one(JSON, **header(key_of("right")), **ELSEWHERE),
        lambda: one(JSON),
    ),
    Code.FORBIDDEN: (
        lambda: send("POST", "/api/sessions", b"{}", **header(tutors_key())),
        lambda: one(JSON, **header(tutors_key())),
    ),
    Code.NOT_FOUND: (lambda: send("POST", "/api/tutors/", JSON), lambda: one(JSON)),
    Code.METHOD_NOT_ALLOWED: (lambda: send("PUT", "/api/tutors", JSON), lambda: one(JSON)),
    Code.LENGTH_REQUIRED: (
        lambda: one(JSON, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked"),
        lambda: one(JSON),
    ),
    Code.BODY_TOO_LARGE: (lambda: batch(MANY.ljust(20_000)), lambda: batch(FEW)),
    Code.BATCH_TOO_LARGE: (lambda: batch(MANY), lambda: batch(FEW)),
    Code.UNSUPPORTED_MEDIA_TYPE: (
        lambda: one(JSON, CONTENT_TYPE="text/plain"),
        lambda: one(JSON, CONTENT_TYPE="application/json"),
        lambda: batch(JSON, NDJSON),
    ),
    Code.UNSUPPORTED_ENCODING: (
        lambda: one(JSON, HTTP_CONTENT_ENCODING="br"),
        lambda: one(gzip.compress(JSON), **PACKED),
        lambda: one(JSON),
    ),
    Code.INVALID_RECORD: (lambda: one(b"{}"), lambda: one(JSON)),
    Code.INVALID_BATCH: (lambda: batch(b"[{}]"), lambda: batch(b"[%s]" % JSON)),
    Code.KEY_REUSED: (
        lambda: [one(body, HTTP_IDEMPOTENCY_KEY="k") for body in (JSON, b"{}")][1],
        lambda: one(JSON, HTTP_IDEMPOTENCY_KEY="k"),
        lambda: one(JSON, HTTP_IDEMPOTENCY_KEY="another"),
    ),
    Code.INVALID_KEY: (
        lambda: one(JSON, HTTP_IDEMPOTENCY_KEY="a b"),
        lambda: one(JSON, HTTP_IDEMPOTENCY_KEY="8e03978e-40d5-43e8-bc93-6894a57f9324"),
    ),
}
# The advice for these is to send the same later, or to send less. And the codes of files.
LATER = {code for code in Code if code.value.startswith(("store_", "queue_", "server_"))} | {
    Code.REQUEST_TIMEOUT,
    Code.QUOTA_EXCEEDED,
    Code.INTERNAL_ERROR,
    Code.TOO_MANY_VALUES,
}
OF_FILES = {Code.EMPTY_FILE, Code.UNKNOWN_FILE_FORMAT, Code.UNKNOWN_COLUMNS}


def test_every_code_of_a_request_is_followed():
    assert REQUESTS.keys() | LATER | OF_FILES == set(Code)


@pytest.mark.usefixtures("fresh_keys", "store")
@pytest.mark.parametrize("code", REQUESTS)
def test_what_a_request_is_asked_for_is_accepted(settings, code):
    settings.MAX_BATCH_RECORDS = 10
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000
    refused, *advised = REQUESTS[code]
    assert refused().json()["code"] == code
    for request in advised:
        assert request().status == 201
