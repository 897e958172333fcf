"""What every request leaves behind: an id, and one line in the log with nothing of its content."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
import urllib3

from ingestion.records import RECORD_TYPES
from tests.portal_process import running_portal
from tests.raw_requests import send

TUTOR = dict(RECORD_TYPES["tutors"].serializer_class.example)
CANARY = "canary-1618033988"


def requests(lines: list[str]) -> list[str]:
    """The lines that tell of a request."""
    return [line for line in lines if re.search(r"\] request +\[tutormax", line)]


# --- The id ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "order-42", "2024-05-14T10:00:00.5_x", "x" * 128])
def test_a_sane_request_id_is_taken_over(post, client, log, name):
    answer = post("/api/tutors", {}, **{"X-Request-ID": name})
    assert answer["X-Request-ID"] == answer.json()["request_id"] == name
    assert all(f"request_id={name}" in line for line in log())


@pytest.mark.parametrize(
    "name", ["", "a b", "x" * 129, "né", "a\tb", 'a"b', "a,b", "\x1b[31m", "{}"]
)
def test_another_request_id_is_replaced(client, log, name):
    answer = client.get("/health/live", headers={"X-Request-ID": name})
    assert re.fullmatch(r"[0-9a-f]{32}", answer["X-Request-ID"])
    assert f"request_id={answer['X-Request-ID']}" in log()[-1]


def test_each_request_has_an_id_of_its_own(client):
    assert len({client.get("/health/live")["X-Request-ID"] for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "address",
    ["/", "/health", "/metrics", "/docs", "/openapi.json", "/nothing", "/admin/", "/admin"],
)
def test_every_answer_carries_its_request_id(client, store, db, address):
    answer = client.get(address, headers={"X-Request-ID": "mine"})
    assert answer["X-Request-ID"] == "mine"


# --- The line ----------------------------------------------------------------------------------


def test_a_request_is_one_line_with_what_became_of_it(post, log):
    answer = post("/api/tutors/batch", [TUTOR, TUTOR, {}])
    (line,) = requests(log())
    for part in (
        "[info",
        "method=POST",
        "path=/api/tutors/batch",
        "status=207",
        "accepted=2",
        "rejected=1",
        f"request_id={answer['X-Request-ID']}",
    ):
        assert part in line
    assert float(re.search(r"duration_ms=([0-9.]+)", line)[1]) > 0


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/tutors", {}, 422, "invalid_record"),
        ("/api/tutors/batch", [{}], 422, "invalid_batch"),
        ("/api/tutors/batch", {}, 400, "not_an_array"),
        ("/nothing", {}, 404, "not_found"),
        ("/health", {}, 405, "method_not_allowed"),
    ],
)
def test_the_line_of_a_refusal_has_the_word_of_its_answer(post, log, path, body, status, code):
    assert post(path, body).json()["code"] == code
    (line,) = requests(log())
    assert f"code={code}" in line
    assert f"status={status}" in line


def test_a_refused_host_is_one_line_that_says_so(client, log):
    client.get("/health", headers={"Host": f"{CANARY}.example"})
    (line,) = log()
    assert "code=malformed_request" in line
    assert "fault=DisallowedHost" in line


def test_a_query_of_a_thousand_parameters_is_one_line(client, log):
    client.get("/?" + "&".join(f"{CANARY}{n}" for n in range(1001)))
    assert len(requests(log())) == len(log()) == 1


def test_the_ids_of_two_requests_never_mix(client, log):
    client.get("/health/live", headers={"X-Request-ID": "first"})
    client.get("/health/live")
    first, second = log()
    assert "request_id=first" in first
    assert "first" not in second


# --- What is never in it -----------------------------------------------------------------------


def canaries() -> list[dict[str, Any]]:
    """Requests with the canary in every place that a request has, as arguments of `urllib3`."""
    record = dict.fromkeys(TUTOR, CANARY) | {CANARY: CANARY}
    wrong = json.dumps(record).encode()
    right = json.dumps(TUTOR | {"name": CANARY, "location": CANARY, "tutor_id": CANARY}).encode()
    lines = b"\n".join([right, wrong, CANARY.encode(), right[:-1]])
    as_json = {"Content-Type": "application/json"}
    one, many = "/api/tutors", "/api/tutors/batch"
    posts = [
        (one, right, as_json),
        (one, wrong, as_json),
        (one, right[:-1], as_json),
        (one, CANARY.encode(), as_json),
        (one, right, {"Content-Type": f"text/{CANARY}"}),
        (one, right, as_json | {"Content-Encoding": CANARY}),
        (one, right, as_json | {"Content-Encoding": "gzip"}),
        (one, gzip.compress(wrong), as_json | {"Content-Encoding": "gzip"}),
        (one, right, as_json | {"Authorization": f"Api-Key {CANARY}", "Cookie": f"a={CANARY}"}),
        (one, right, as_json | {"Idempotency-Key": CANARY, "User-Agent": CANARY}),
        (one, right, as_json | {"Referer": f"https://{CANARY}/", "Origin": f"https://{CANARY}"}),
        (one, right, as_json | {"X-Forwarded-For": CANARY, f"X-{CANARY}": CANARY}),
        (one, right, as_json | {"X-Request-ID": f"{CANARY} with a space"}),
        (one, right, as_json | {"Host": f"{CANARY}.example"}),
        (f"{many}?strict={CANARY}", b"[" + right + b"]", as_json),
        (f"{many}?{CANARY}", b"[" + right + b"," + wrong + b"]", as_json),
        (many, lines, {"Content-Type": "application/x-ndjson"}),
        (f"/{CANARY}", right, as_json),
        (f"/api/{CANARY}", right, as_json),
        (f"/api/tutors/{CANARY}", right, as_json),
    ]
    gets = [f"/{CANARY}", f"/static/{CANARY}.css", f"/docs?lang={CANARY}", f"/?{CANARY}"]
    gets += [f"/openapi.json?version={CANARY}", f"/admin/{CANARY}/", f"/admin/auth/user/{CANARY}/"]
    gets += [f"/admin/auth/user/{CANARY}/change/", f"/admin/login/?next=/{CANARY}"]
    return [
        *({"method": "POST", "url": url, "body": body, "headers": h} for url, body, h in posts),
        *({"method": "GET", "url": url} for url in gets),
    ]


@pytest.mark.processes
@pytest.mark.parametrize(("form", "level"), [("plain", "DEBUG"), ("json", "INFO")])
def test_no_line_of_the_whole_portal_holds_a_word_of_what_was_sent(tmp_path, form, level):
    with running_portal(tmp_path / "var", LOG_FORMAT=form, LOG_LEVEL=level) as portal:
        greeting = len(portal.printed)
        http = urllib3.HTTPConnectionPool("127.0.0.1", portal.port, retries=False, timeout=120)
        sent = canaries()
        statuses = [http.urlopen(**request, redirect=False).status for request in sent]
        assert {200, 201, 207, 302, 400, 401, 404, 415, 422} <= set(statuses)
        assert 500 not in statuses
        page = http.request("GET", f"/admin/login/?next=/admin/%3F{CANARY}")
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.data.decode())[1]
        cookie = page.headers["Set-Cookie"].partition(";")[0]
        fields = {"csrfmiddlewaretoken": token, "username": CANARY, "password": CANARY}
        for headers, status in (({"Cookie": cookie}, 200), ({}, 403)):
            tried = http.request("POST", "/admin/login/", fields=fields, headers=headers)
            assert tried.status == status
        portal.wait_for(lambda: portal.printed.count("duration_ms") >= len(sent) + 3)
        assert CANARY not in http.request("GET", "/metrics").data.decode()
        written = portal.printed[greeting:]
    for secret in (CANARY, token, cookie.partition("=")[2]):
        assert secret not in written
    if form == "json":
        events = [json.loads(line) for line in written.splitlines()]
        of_requests = [event for event in events if event["event"] == "request"]
        assert [event["status"] for event in of_requests][: len(sent)] == statuses
        for event in of_requests:
            assert event.keys() >= {"method", "path", "duration_ms", "request_id", "timestamp"}


def test_a_path_of_line_feeds_and_colours_forges_no_line(log):
    forged = "/a\n2024-05-14 [info] request [tutormax.middleware] status=200\x1b[2J"
    assert send("GET", forged).status == 404
    (line,) = log()
    assert "\x1b" not in line
    assert "status=404" in line


# --- Its level ---------------------------------------------------------------------------------


@pytest.mark.processes
def test_at_a_higher_level_requests_leave_no_line(tmp_path):
    with running_portal(tmp_path / "var", LOG_LEVEL="warning") as portal:
        greeting = len(portal.printed)
        assert portal.get("/health/live").status == 200
        assert portal.post("/api/tutors", TUTOR).status == 201
    assert portal.printed[greeting:] == ""
