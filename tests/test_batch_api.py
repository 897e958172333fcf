"""POST of many records: a JSON array, or NDJSON."""

from __future__ import annotations

import gc
import gzip
import json
import random
import tracemalloc
from typing import Any

import pytest

from ingestion.records import RECORD_TYPES
from tests.raw_requests import send
from tests.record_types import SESSIONS

SESSION = dict(SESSIONS.serializer_class.example)
BATCH = "/api/sessions/batch"
NDJSON = "application/x-ndjson"

# Ten ways to be wrong: what is changed, and the field and code of the expected error.
TEN_KINDS: list[tuple[dict[str, Any], str, str]] = [
    ({"tutor_id": ...}, "tutor_id", "required"),
    ({"student_id": None}, "student_id", "null"),
    ({"subject": 7}, "subject", "not_text"),
    ({"subject": "x" * 101}, "subject", "max_length"),
    ({"duration_minutes": "60"}, "duration_minutes", "not_an_integer"),
    ({"engagement_score": 1.01}, "engagement_score", "max_value"),
    ({"session_type": "2-on-1"}, "session_type", "invalid_choice"),
    ({"scheduled_start": "2024-02-30T10:00:00"}, "scheduled_start", "invalid_datetime"),
    ({"is_first_session": True}, "is_first_session", "first_session_mismatch"),
    ({"no_show": True}, "actual_start", "no_show_has_start"),
]


def session(number: int, **changes) -> dict[str, Any]:
    """The example with its own id; a field that is changed to `...` is left out."""
    record = SESSION | {"session_id": f"session-{number}"} | changes
    return {field: value for field, value in record.items() if value is not ...}


def queued_ids(store) -> list[str]:
    """The records on the queue, the next to be taken first."""
    messages = store.lrange(SESSIONS.queue, 0, -1)[::-1]
    return [json.loads(message)["data"]["session_id"] for message in messages]


def lines(*records) -> bytes:
    """The records as NDJSON; bytes stay as they are."""
    return b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records)


def as_array(records):
    """The records as a JSON array, and its media type."""
    return json.dumps(records).encode(), "application/json"


def as_lines(records):
    """The records as NDJSON, and its media type."""
    return lines(*records), NDJSON


both_framings = pytest.mark.parametrize("framed", [as_array, as_lines])


@both_framings
def test_it_works(post, store, framed):
    answer = post(BATCH, *framed([session(0), session(1), session(2)]))
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body.pop("timestamp").endswith("Z")
    assert body.pop("message") == "Records queued: 3. Records refused: 0."
    assert body == {"success": True, "count": 3, "rejected": 0, "queued": True, "errors": []}
    assert queued_ids(store) == ["session-0", "session-1", "session-2"]


def test_a_batch_of_each_record_type_goes_on_its_queue(post, store, record_type):
    example = dict(record_type.serializer_class.example)
    assert post(f"/api/{record_type.path}/batch", [example] * 3).status_code == 201
    assert [store.llen(one.queue) for one in RECORD_TYPES.values()] == [
        3 if one is record_type else 0 for one in RECORD_TYPES.values()
    ]


@both_framings
def test_963_of_a_thousand_records_are_queued_in_order_and_37_bad_ones_of_ten_types_are_not(
    post, store, framed
):
    places = sorted(random.sample(range(1000), 37))
    bad = {place: TEN_KINDS[turn % 10] for turn, place in enumerate(places)}
    records = [session(n, **bad[n][0]) if n in bad else session(n) for n in range(1000)]

    answer = post(BATCH, *framed(records))

    assert answer.status_code == 207
    body = answer.json()
    assert (body["success"], body["queued"]) == (False, True)
    assert (body["count"], body["rejected"]) == (963, 37)
    assert "errors_truncated" not in body
    assert [
        (entry["index"], entry["id"], [(e["field"], e["code"]) for e in entry["errors"]])
        for entry in body["errors"]
    ] == [(place, f"session-{place}", [bad[place][1:]]) for place in places]
    if framed is as_lines:
        assert [entry["line"] for entry in body["errors"]] == [place + 1 for place in places]
    else:
        assert not any("line" in entry for entry in body["errors"])
    assert queued_ids(store) == [f"session-{n}" for n in range(1000) if n not in bad]


@both_framings
def test_if_no_record_is_valid_the_answer_has_the_shape_of_an_error_and_of_a_batch(
    post, store, framed
):
    answer = post(BATCH, *framed([session(0, no_show=True), {}]))
    assert answer.status_code == 422
    body = answer.json()
    assert body["code"] == "invalid_batch"
    assert body["error"].startswith("Nothing of the batch was queued")
    assert body["request_id"] == answer["X-Request-ID"]
    assert (body["success"], body["queued"]) == (False, False)
    assert (body["count"], body["rejected"]) == (0, 2)
    assert [(entry["index"], entry["id"]) for entry in body["errors"]] == [
        (0, "session-0"),
        (1, None),
    ]
    assert not store.exists(SESSIONS.queue)


def test_an_item_that_is_not_a_record_affects_no_other(post, store):
    body = post(BATCH, [session(0), None, 5, "x", [], session(1)]).json()
    assert [(entry["index"], entry["errors"][0]["code"]) for entry in body["errors"]] == [
        (place, "not_an_object") for place in (1, 2, 3, 4)
    ]
    assert {entry["errors"][0]["field"] for entry in body["errors"]} == {None}
    assert queued_ids(store) == ["session-0", "session-1"]


def test_an_id_that_is_not_valid_is_not_repeated(post):
    body = post(BATCH, [session(0, session_id="Jane Doe", no_show=1)]).json()
    assert body["errors"][0]["id"] is None
    assert "Jane" not in json.dumps(body)


# --- How many errors are listed ----------------------------------------------------------------


def test_a_thousand_errors_are_all_listed(post):
    body = post(BATCH, [{}] * 1000).json()
    assert (len(body["errors"]), body["rejected"]) == (1000, 1000)
    assert "errors_truncated" not in body


def test_more_errors_are_cut_at_a_thousand_and_the_answer_says_so(post, store):
    answer = post(BATCH, [session(0), *[{}] * 1001])
    body = answer.json()
    assert answer.status_code == 207
    assert [entry["index"] for entry in body["errors"]] == list(range(1, 1001))
    assert body["errors_truncated"] is True
    assert (body["count"], body["rejected"]) == (1, 1001)


# --- Lines -------------------------------------------------------------------------------------


def test_blank_lines_are_passed_over_and_counted_as_lines(post, store):
    content = b"\n\n" + lines(session(0), b"", {}, b" \t\r", session(1)) + b"\n\n\n"
    answer = post(BATCH, content, NDJSON)
    assert answer.status_code == 207
    (entry,) = answer.json()["errors"]
    assert (entry["index"], entry["line"]) == (1, 5)
    assert queued_ids(store) == ["session-0", "session-1"]


def test_lines_may_end_with_crlf(post, store):
    content = lines(session(0), session(1)).replace(b"\n", b"\r\n") + b"\r\n"
    assert post(BATCH, content, NDJSON).status_code == 201
    assert queued_ids(store) == ["session-0", "session-1"]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(json.dumps(SESSION).encode()[:-1], id="cut off"),
        pytest.param(b'{"name": "\xff"}', id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="absurdly deep"),
        pytest.param(b"\xef\xbb\xbf{}", id="BOM"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"{}{}", id="two in one line"),
    ],
)
def test_a_line_that_is_no_json_is_told_by_its_number_and_spoils_no_other(post, store, bad):
    answer = post(BATCH, lines(session(0), b"", session(1), bad), NDJSON)
    assert answer.status_code == 207
    (entry,) = answer.json()["errors"]
    assert (entry["index"], entry["line"], entry["id"]) == (2, 4, None)
    assert [(e["field"], e["code"]) for e in entry["errors"]] == [(None, "malformed_json")]
    assert queued_ids(store) == ["session-0", "session-1"]


# --- All or nothing ----------------------------------------------------------------------------


@both_framings
def test_strict_keeps_the_whole_batch_off_the_queue_for_one_bad_record(post, store, framed):
    records = [session(0), session(1, no_show=True), session(2)]
    answer = post(f"{BATCH}?strict=true", *framed(records))
    assert answer.status_code == 422
    body = answer.json()
    assert body["code"] == "invalid_batch"
    assert (body["count"], body["rejected"], body["queued"]) == (0, 1, False)
    assert body["message"] == "Records queued: 0. Records refused: 1."
    assert [entry["index"] for entry in body["errors"]] == [1]
    assert not store.exists(SESSIONS.queue)


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_strict_takes_a_batch_of_good_records(post, store, word):
    assert post(f"{BATCH}?strict={word}", [session(0)]).status_code == 201


@pytest.mark.parametrize("word", ["false", "FALSE"])
def test_strict_can_be_said_to_be_off(post, word):
    assert post(f"{BATCH}?strict={word}", [session(0), {}]).status_code == 207


@pytest.mark.parametrize("query", ["strict=", "strict=1", "strict=yes", "strict=true&strict=x"])
def test_strict_is_never_guessed_at(post, store, query):
    answer = post(f"{BATCH}?{query}", [session(0)])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert not store.exists(SESSIONS.queue)


@pytest.mark.parametrize(
    "query",
    [
        "STRICT=true",
        "stict=true",
        "strict=true&strict=true",
        "strict=true&x",
        "strict=true&STRICT=1",
    ],
)
def test_a_misspelled_or_doubled_parameter_never_passes_for_none(post, store, query):
    answer = post(f"{BATCH}?{query}", [session(0)])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert answer.json()["error"].endswith("this address knows strict, once.")
    assert not store.exists(SESSIONS.queue)


@pytest.mark.parametrize("query", ["", "&", "strict=false&", "%73trict=true"])
def test_a_parameter_may_be_written_in_any_way_that_means_it(post, query):
    assert post(f"{BATCH}?{query}", [session(0)]).status_code == 201


def test_a_query_of_a_thousand_parameters_is_a_malformed_request(post, store):
    query = "&".join(f"p{number}=x" for number in range(1001))
    answer = post(f"{BATCH}?{query}", [session(0)])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert not store.exists(SESSIONS.queue)


# --- Fields that are dropped -------------------------------------------------------------------


@both_framings
def test_fields_that_are_dropped_are_named_with_their_records(post, store, framed):
    records = [
        session(0, sesion_type="group", note=1),
        session(1, sesion_type="group"),
        session(2),
        session(3, no_show=True, only_in_a_refused_one=1),
    ]
    body = post(BATCH, *framed(records)).json()
    assert body["ignored_fields"] == {"sesion_type": 2, "note": 1}
    assert "ignored_fields" not in post(BATCH, *framed([session(0)])).json()


def test_some_dropped_names_are_listed_and_the_others_counted(post):
    odd = {"x" * 65: 1, "line\nfeed": 1, "\ud800": 1, "": 1}
    many = {f"field_{number}": 1 for number in range(100)}
    answer = post(BATCH, [session(0, **odd), session(1, **many)])
    told = answer.json()["ignored_fields"]
    assert len(told) == 21
    assert told["(a name that cannot be shown)"] == 4
    assert sum(told.values()) == 104
    assert "x" * 65 not in answer.text


# --- What is refused as a whole ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"[]", "application/json", 400, "empty_batch"),
        (b" ", "application/json", 400, "empty_body"),
        (b"\n \r\n", NDJSON, 400, "empty_batch"),
        (b"{}", "application/json", 400, "not_an_array"),
        (b"null", "application/json", 400, "not_an_array"),
        (b"{}\n{}", "application/json", 400, "malformed_json"),
        (b"[{}", "application/json", 400, "malformed_json"),
        (b"[NaN]", "application/json", 400, "malformed_json"),
        (b'["\xff"]', "application/json", 400, "malformed_encoding"),
        (b"[" * 1_000_000, "application/json", 400, "too_deep"),
        (b"[]", "text/csv", 415, "unsupported_media_type"),
        (b"{}", "application/x-ndjson; charset=utf-16", 415, "unsupported_media_type"),
        (b"{}", "application/ndjson", 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_is_not_a_batch_is_refused_as_a_whole(
    post, store, content, content_type, status, code
):
    answer = post(BATCH, content, content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not store.exists(SESSIONS.queue)


@both_framings
def test_a_batch_of_the_limit_is_taken_and_one_record_more_is_refused(
    post, store, settings, framed
):
    settings.MAX_BATCH_RECORDS = 5
    assert post(BATCH, *framed([session(n) for n in range(5)])).status_code == 201
    answer = post(BATCH, *framed([session(n) for n in range(6)]))
    assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")
    assert store.llen(SESSIONS.queue) == 5


@both_framings
def test_a_body_over_the_limit_is_refused_packed_or_not(post, store, settings, framed):
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100_000
    content, content_type = framed([session(n) for n in range(1000)])
    packed = gzip.compress(content)
    assert len(packed) < 100_000 < len(content)
    for body, headers in ((content, {}), (packed, {"Content-Encoding": "gzip"})):
        answer = post(BATCH, body, content_type, **headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert not store.exists(SESSIONS.queue)


@both_framings
def test_a_batch_may_be_gzip(post, store, framed):
    content, content_type = framed([session(n) for n in range(100)])
    headers = {"Content-Encoding": "gzip"}
    assert post(BATCH, gzip.compress(content), content_type, **headers).status_code == 201
    assert len(queued_ids(store)) == 100


def test_gzip_that_is_cut_after_its_first_lines_queues_none_of_them(post, store):
    packed = gzip.compress(lines(*[session(n) for n in range(100)]))[:-20]
    answer = post(BATCH, packed, NDJSON, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_compression")
    assert not store.exists(SESSIONS.queue)


# --- The store ---------------------------------------------------------------------------------


def test_without_the_store_nothing_is_accepted(no_store, client):
    answer = client.post(BATCH, [session(0), {}], "application/json")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unreachable")
    assert int(answer["Retry-After"]) > 0


def test_the_verdict_on_a_batch_without_a_good_record_needs_no_store(no_store, client):
    answer = client.post(BATCH, [{}], "application/json")
    assert (answer.status_code, answer.json()["rejected"]) == (422, 1)


def test_a_full_queue_takes_no_part_of_a_batch(post, store, settings):
    settings.QUEUE_LIMIT = 2
    assert post(BATCH, [session(n) for n in range(3)]).status_code == 201
    answer = post(BATCH, [session(3), {}])
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert int(answer["Retry-After"]) > 0
    assert store.llen(SESSIONS.queue) == 3


def test_a_body_is_not_kept_until_the_garbage_is_collected(store):
    """Django's requests are in cycles, and a large body is no reason to collect them."""
    body = b" " * 2_000_000 + b"[]"
    send("POST", "/api/tutors/batch", body)  # what is made once is made now
    gc.disable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            sent = bytes(bytearray(body))  # a copy of its own
            assert send("POST", "/api/tutors/batch", sent).json()["code"] == "empty_batch"
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 2 * len(body)
