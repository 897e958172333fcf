"""Front ends of other origins: only those in the setting may call the API."""

from __future__ import annotations

import pytest

from ingestion.records import RECORD_TYPES

OURS = "http://localhost:3000"
STRANGE = "https://evil.example"
TUTOR = dict(RECORD_TYPES["tutors"].serializer_class.example)


def preflight(client, origin, method="POST", headers="content-type"):
    """The browser's question before it sends such a request."""
    return client.options(
        "/api/tutors",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        },
    )


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://localhost:5173", "http://localhost:8080"]
)
def test_a_front_end_of_a_known_origin_may_send(client, origin):
    answer = preflight(client, origin)
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == origin
    assert answer["Access-Control-Allow-Methods"] == "GET, POST"
    assert "origin" in answer["Vary"].lower()


def test_it_may_send_the_headers_that_the_api_knows(client):
    allowed = preflight(client, OURS)["Access-Control-Allow-Headers"].split(", ")
    assert {"authorization", "content-encoding", "content-type", "idempotency-key"} <= set(allowed)
    assert "x-request-id" in allowed


@pytest.mark.parametrize(
    "origin",
    [STRANGE, "null", "http://localhost", "https://localhost:3000", "http://localhost:3000.evil"],
)
def test_another_origin_may_not(client, origin):
    assert "Access-Control-Allow-Origin" not in preflight(client, origin)


def test_cookies_are_never_asked_for(client, post):
    for answer in (preflight(client, OURS), post("/api/tutors", TUTOR, Origin=OURS)):
        assert "Access-Control-Allow-Credentials" not in answer


def test_the_front_end_can_read_the_answer_and_its_headers(post):
    answer = post("/api/tutors", TUTOR, Origin=OURS)
    assert answer.status_code == 201
    assert answer["Access-Control-Allow-Origin"] == OURS
    assert answer["Access-Control-Expose-Headers"] == (
        "Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
    )


def test_the_front_end_can_read_a_refusal_too(post, client):
    for answer in (
        post("/api/tutors", {}, Origin=OURS),
        post("/api/tutors", TUTOR, "text/plain", Origin=OURS),
        client.get("/nothing", headers={"Origin": OURS}),
    ):
        assert answer.status_code >= 400
        assert answer["Access-Control-Allow-Origin"] == OURS


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_what_a_browser_sends_without_asking_is_never_taken(post, store, content_type):
    answer = post("/api/tutors", TUTOR, content_type, Origin=STRANGE)
    assert answer.status_code == 415
    assert not store.exists(RECORD_TYPES["tutors"].queue)
