"""POST of one record."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from ingestion.records import RECORD_TYPES
from tests.raw_requests import send

TUTOR = dict(RECORD_TYPES["tutors"].serializer_class.example)
SESSION = dict(RECORD_TYPES["sessions"].serializer_class.example)
TUTOR_JSON = json.dumps(TUTOR).encode()
QUEUE = RECORD_TYPES["tutors"].queue
KEYED = {"Idempotency-Key": "k"}


def test_it_works(post, store, record_type):
    example = dict(record_type.serializer_class.example)
    answer = post(f"/api/{record_type.path}", example)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body["success"] is True
    assert body["queued"] is True
    assert body["id"] == example[record_type.id_field]
    (message,) = store.lrange(record_type.queue, 0, -1)
    message = json.loads(message)
    assert message["data"] == example
    assert list(message) == ["data", "queued_at", "queue", "id", "source"]
    assert message["queue"] == record_type.queue
    assert message["source"] == "api:local"


def test_the_receipt_says_what_the_contract_says_and_no_more(post):
    body = post("/api/tutors", TUTOR).json()
    assert list(body) == ["success", "message", "id", "queued", "timestamp"]
    assert body["message"] == "The tutor profile is queued."
    assert body["timestamp"].endswith("Z")
    age = datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])
    assert timedelta(0) <= age < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("path", "field", "value", "code"),
    [
        ("tutors", "email", "no address", "invalid_email"),
        ("tutors", "behavioral_archetype", "genius", "invalid_choice"),
        ("tutors", "age", 17, "min_value"),
        ("tutors", "subjects", [], "min_length"),
        ("sessions", "engagement_score", 1.5, "max_value"),
        ("sessions", "scheduled_start", "yesterday", "invalid_datetime"),
        ("sessions", "is_first_session", True, "first_session_mismatch"),
        ("sessions", "no_show", 0, "not_a_boolean"),
        ("feedback", "overall_rating", 6, "max_value"),
        ("feedback", "overall_rating", 0, "min_value"),
        ("feedback", "overall_rating", "5", "not_an_integer"),
        ("feedback", "would_recommend", True, "first_session_only"),
    ],
)
def test_a_wrong_value_is_refused_by_field_and_code(post, store, path, field, value, code):
    record_type = RECORD_TYPES[path]
    answer = post(f"/api/{path}", dict(record_type.serializer_class.example) | {field: value})
    assert answer.status_code == 422
    body = answer.json()
    assert body["code"] == "invalid_record"
    (error,) = body["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert list(error) == ["field", "code", "message"]
    assert not store.exists(record_type.queue)


def test_all_that_is_wrong_is_told_at_once(post):
    answer = post("/api/tutors", TUTOR | {"age": 17, "email": None, "subjects": ["x", 5]})
    found = [(error["field"], error["code"]) for error in answer.json()["errors"]]
    assert sorted(found) == [
        ("age", "min_value"),
        ("email", "null"),
        ("subjects[1]", "not_text"),
    ]


def test_a_record_without_any_field_is_told_of_every_one_that_it_needs(post, record_type):
    body = post(f"/api/{record_type.path}", {}).json()
    fields = record_type.serializer_class().fields
    assert {error["field"] for error in body["errors"]} == {
        name for name, field in fields.items() if field.required
    }
    assert {error["code"] for error in body["errors"]} == {"required"}


def test_no_refusal_repeats_a_value_or_an_unknown_field(post, record_type):
    canary = "canary-3141592653"
    fields = record_type.serializer_class().fields
    for wrong in ([canary], {canary: canary}, canary * 600):
        record = dict.fromkeys(fields, wrong) | {canary: canary}
        answer = post(f"/api/{record_type.path}", record)
        assert answer.status_code == 422
        assert canary.encode() not in answer.content


def test_fields_that_the_type_does_not_know_are_dropped(post, store):
    assert post("/api/tutors", TUTOR | {"shoe_size": 44, "": None}).status_code == 201
    assert json.loads(store.lindex(QUEUE, 0))["data"] == TUTOR


def test_fields_that_are_dropped_are_named(post):
    answer = post("/api/tutors", TUTOR | {"shoe_size": 44, "staus": "inactive"}, **KEYED)
    assert answer.json()["ignored_fields"] == ["shoe_size", "staus"]
    again = post("/api/tutors", TUTOR | {"shoe_size": 44, "staus": "inactive"}, **KEYED)
    assert again.content == answer.content


@pytest.mark.parametrize(
    "path", ["/api/tutors", "/api/queue/stats", "/metrics", "/health", "/health/ready", "/"]
)
def test_no_address_takes_a_parameter_that_it_does_not_know(post, client, path):
    answer = (
        post(f"{path}?strict=true", TUTOR) if path == "/api/tutors" else client.get(f"{path}?a=b")
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert answer.json()["error"].endswith("Of query parameters this address knows none.")


def test_the_same_record_sent_twice_is_queued_twice(post, store):
    assert [post("/api/tutors", TUTOR).status_code for _ in range(2)] == [201, 201]
    assert store.llen(QUEUE) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b"", 400, "empty_body", id="nothing"),
        pytest.param(b" \r\n\t", 400, "empty_body", id="white space"),
        pytest.param(b"{", 400, "malformed_json", id="cut off"),
        pytest.param(TUTOR_JSON + b"{}", 400, "malformed_json", id="two values"),
        pytest.param(b'{"age": NaN}', 400, "malformed_json", id="NaN"),
        pytest.param(b'{"age": -Infinity}', 400, "malformed_json", id="Infinity"),
        pytest.param(b'{"age": ' + b"9" * 5000 + b"}", 400, "malformed_json", id="5,000 digits"),
        pytest.param(b"[" * 1_000_000, 400, "too_deep", id="a million brackets"),
        pytest.param(b'{"a":' * 1_000_000, 400, "too_deep", id="a million objects"),
        pytest.param(b"\xef\xbb\xbf" + TUTOR_JSON, 400, "malformed_encoding", id="BOM"),
        pytest.param(json.dumps(TUTOR).encode("utf-16"), 400, "malformed_encoding", id="UTF-16"),
        pytest.param(b'{"name": "\xed\xa0\x80"}', 400, "malformed_encoding", id="CESU"),
        pytest.param(b'{"name": "\xc0\x80"}', 400, "malformed_encoding", id="overlong NUL"),
        pytest.param(b'{"name": "\x00"}', 400, "malformed_json", id="raw NUL"),
        pytest.param(b"[]", 400, "not_an_object", id="list"),
        pytest.param(b"null", 400, "not_an_object", id="null"),
        pytest.param(b'"text"', 400, "not_an_object", id="text"),
    ],
)
def test_a_body_that_is_not_a_record_is_refused_as_a_whole(store, body, status, code):
    answer = send("POST", "/api/tutors", body)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert not store.exists(QUEUE)


@pytest.mark.parametrize(
    ("field", "written", "code"),
    [
        ("name", rb'"\u0000"', "invalid_character"),
        ("name", rb'"\ud800"', "invalid_character"),
        ("name", rb'"\udfff\ud800"', "invalid_character"),
        ("age", b"1e999", "not_an_integer"),
        ("age", b"-1e999", "not_an_integer"),
        ("age", b"28.5", "not_an_integer"),
        ("age", b"9" * 4000, "max_value"),
        ("tenure_days", b"2147483648", "max_value"),
        ("tutor_id", rb'"a\u2028b"', "invalid_id"),
        ("name", rb'"\ufeff \u3000"', "blank"),
    ],
)
def test_a_hostile_value_is_a_plain_refusal(post, store, field, written, code):
    body = TUTOR_JSON.replace(json.dumps(TUTOR[field]).encode(), written, 1)
    answer = post("/api/tutors", body)
    assert answer.status_code == 422
    assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]
    assert not store.exists(QUEUE)


def test_an_infinite_score_is_no_number(post):
    body = json.dumps(SESSION).encode().replace(b"0.92", b"1e999")
    (error,) = post("/api/sessions", body).json()["errors"]
    assert (error["field"], error["code"]) == ("engagement_score", "not_a_number")


# --- Media types and charsets ------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json ; charset=utf8",
        "application/json; profile=x",
        # Django cannot read such a parameter, and would fail before anything could answer.
        "application/json; profile*=no-such-charset''x",
        "application/json; " + "x;" * 4000,
    ],
)
def test_json_in_utf_8_is_taken_however_it_is_announced(store, content_type):
    answer = send("POST", "/api/tutors", TUTOR_JSON, CONTENT_TYPE=content_type)
    assert answer.status == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "json",
        "text/plain",
        "text/json",
        "application/jsonp",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/json; charset=",
        # Python knows a codec of these names, and Django would read the query with it.
        "application/json; charset=hex",
        "application/json; charset=rot13",
        "application/json; charset*0*=x; charset*1=y",
    ],
)
def test_another_media_type_or_charset_is_refused(store, content_type):
    answer = send("POST", "/api/tutors", TUTOR_JSON, CONTENT_TYPE=content_type)
    assert (answer.status, answer.json()["code"]) == (415, "unsupported_media_type")
    assert not store.exists(QUEUE)


@pytest.mark.parametrize("charset", ["hex", "rot13", "utf-16", "utf-8"])
def test_a_query_is_read_the_same_whatever_the_charset_of_the_body(store, charset):
    content_type = f"application/json; charset={charset}"
    answer = send(
        "POST",
        "/api/tutors/batch",
        b"[%s]" % TUTOR_JSON,
        query="strict=true",
        CONTENT_TYPE=content_type,
    )
    assert answer.status == (201 if charset == "utf-8" else 415)


# --- Compression -------------------------------------------------------------------------------


def _gzip(post, content, encoding="gzip"):
    return post("/api/tutors", content, **{"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " gzip "])
def test_a_body_may_be_gzip(post, store, encoding):
    assert _gzip(post, gzip.compress(TUTOR_JSON), encoding).status_code == 201
    assert json.loads(store.lindex(QUEUE, 0))["data"] == TUTOR


def test_a_gzip_body_may_have_several_members(post):
    half = len(TUTOR_JSON) // 2
    content = gzip.compress(TUTOR_JSON[:half]) + gzip.compress(TUTOR_JSON[half:])
    assert _gzip(post, content).status_code == 201


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TUTOR_JSON, id="not packed"),
        pytest.param(gzip.compress(TUTOR_JSON)[:-1], id="cut in its checksum"),
        pytest.param(gzip.compress(TUTOR_JSON)[:-30], id="cut in its data"),
        pytest.param(gzip.compress(TUTOR_JSON)[:5], id="cut in its head"),
        pytest.param(gzip.compress(TUTOR_JSON)[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(gzip.compress(TUTOR_JSON) + b"more", id="something behind"),
        pytest.param(gzip.compress(TUTOR_JSON) + gzip.compress(b" ")[:-3], id="cut second member"),
    ],
)
def test_damaged_gzip_is_refused_although_its_beginning_may_be_a_record(post, store, content):
    answer = _gzip(post, content)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_compression")
    assert not store.exists(QUEUE)


@pytest.mark.parametrize("members", [10_000, 10_001, 700_000])
def test_a_gzip_stream_of_many_members_is_bounded_by_them(post, members):
    """Each member that holds nothing is twenty bytes, and costs as much as one with a record."""
    answer = _gzip(post, gzip.compress(b"") * (members - 1) + gzip.compress(TUTOR_JSON))
    if members <= 10_000:
        assert answer.status_code == 201
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_compression")
        assert answer.json()["error"].endswith("It has more than 10,000 members.")


def test_gzip_may_be_filled_up_with_zeros(post):
    assert _gzip(post, gzip.compress(TUTOR_JSON) + bytes(100)).status_code == 201
    assert _gzip(post, gzip.compress(TUTOR_JSON) + bytes(100) + b"x").status_code == 400


@pytest.mark.parametrize("path", ["/api/tutors", "/api/tutors/batch"])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_gzip_that_is_not_announced_is_told_what_it_looks_like(post, path, content_type):
    if path == "/api/tutors":
        content_type = "application/json"
    answer = post(path, gzip.compress(TUTOR_JSON), content_type)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_encoding")
    assert "Content-Encoding: gzip" in answer.json()["error"]
    twice = gzip.compress(gzip.compress(TUTOR_JSON))
    assert "pack it once" in _gzip(post, twice).json()["error"]


def test_packed_nothing_is_an_empty_body(post):
    assert _gzip(post, gzip.compress(b"")).json()["code"] == "empty_body"


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip;q=1", "x", ""])
def test_another_content_encoding_is_refused_and_the_known_ones_are_named(post, encoding):
    answer = _gzip(post, TUTOR_JSON, encoding)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")
    assert answer["Accept-Encoding"] == "gzip, identity"


def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_refused(post, store, settings):
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2048
    fits = TUTOR_JSON.ljust(2048)
    for content, status in ((fits, 201), (fits + b" ", 413)):
        assert post("/api/tutors", content).status_code == status
        assert _gzip(post, gzip.compress(content)).status_code == status
    assert post("/api/tutors", fits + b" ").json()["code"] == "body_too_large"
    assert store.llen(QUEUE) == 2


@pytest.mark.parametrize("members", [1, 100])
def test_a_gzip_bomb_is_refused_without_being_unpacked(post, settings, members):
    settings.MAX_BODY_BYTES = 2**20
    bomb = gzip.compress(bytes(100 * 2**20 // members)) * members
    tracemalloc.start()
    try:
        answer = _gzip(post, bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert peak_bytes < 10 * 2**20


# --- Bodies that are not there -----------------------------------------------------------------


def test_a_chunked_body_that_the_server_cannot_read_is_not_taken_for_an_empty_one(store):
    for length in ("", "0"):
        answer = send(
            "POST", "/api/tutors", CONTENT_LENGTH=length, HTTP_TRANSFER_ENCODING="chunked"
        )
        assert (answer.status, answer.json()["code"]) == (411, "length_required")


@pytest.mark.parametrize("length", ["abc", "-5", "1e3", "+8", "٣", " "])
def test_a_length_that_is_none_is_a_malformed_request(store, length):
    answer = send("POST", "/api/tutors", TUTOR_JSON, CONTENT_LENGTH=length)
    assert (answer.status, answer.json()["code"]) == (400, "malformed_request")


def test_a_body_that_breaks_off_is_refused_although_its_beginning_may_be_a_record(store):
    length = str(len(TUTOR_JSON) + 1)
    answer = send("POST", "/api/tutors", TUTOR_JSON, CONTENT_LENGTH=length)
    assert (answer.status, answer.json()["code"]) == (400, "malformed_request")
    assert not store.exists(QUEUE)


# --- The store ---------------------------------------------------------------------------------


def test_without_the_store_a_valid_record_is_refused_and_can_be_sent_again(no_store, client):
    answer = client.post("/api/tutors", TUTOR, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unreachable")
    assert int(answer["Retry-After"]) > 0
    assert "outcome" not in answer.json()


def test_a_full_queue_takes_nothing_more(post, store, settings):
    settings.QUEUE_LIMIT = 1
    assert post("/api/tutors", TUTOR).status_code == 201
    answer = post("/api/tutors", TUTOR)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert int(answer["Retry-After"]) > 0
    assert store.llen(QUEUE) == 1
