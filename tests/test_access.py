"""Who may send records without a key: programs on this machine, or all if a setting allows it."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User

from tests.raw_requests import send
from tests.record_types import TUTORS
from tests.staff import signed_in

BODY = json.dumps(dict(TUTORS.serializer_class.example)).encode()
CLOSED = [
    ("POST", "/api/tutors"),
    ("POST", "/api/sessions/batch"),
    ("GET", "/api/queue/stats"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.8.7", "::1"])
def test_this_machine_may_send(store, peer):
    assert send("POST", "/api/tutors", BODY, REMOTE_ADDR=peer).status == 201
    assert json.loads(store.lindex(TUTORS.queue, 0))["source"] == "api:local"


@pytest.mark.parametrize(
    "peer", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "169.254.1.1", "", "unix:", "127.0.0.1.evil"]
)
@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_no_other_machine_may(store, method, path, peer):
    answer = send(method, path, BODY, REMOTE_ADDR=peer)
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Api-Key"
    assert not store.exists(TUTORS.queue)


@pytest.mark.parametrize(
    "header",
    [
        "FORWARDED",
        "X_FORWARDED_FOR",
        "X_FORWARDED_HOST",
        "X_FORWARDED_PROTO",
        "X_FORWARDED_PORT",
        "X_REAL_IP",
        "X_CLIENT_IP",
        "TRUE_CLIENT_IP",
        "VIA",
    ],
)
@pytest.mark.parametrize("value", ["127.0.0.1", "https", ""])
def test_a_proxy_on_this_machine_speaks_for_somebody_else(store, header, value):
    answer = send("POST", "/api/tutors", BODY, **{f"HTTP_{header}": value})
    assert answer.status == 401
    assert not store.exists(TUTORS.queue)


def test_an_unknown_sender_does_not_learn_what_is_wrong_with_the_request(store):
    peer = {"REMOTE_ADDR": "192.0.2.1"}
    for wrong in ({"CONTENT_TYPE": "text/plain"}, {"HTTP_CONTENT_ENCODING": "br"}):
        assert send("POST", "/api/tutors", b"{", **peer, **wrong).status == 401
    assert send("POST", "/api/tutors/batch", b"{", query="strict=maybe", **peer).status == 401


@pytest.mark.parametrize(
    "path", ["/", "/health", "/health/live", "/health/ready", "/docs", "/redoc", "/openapi.json"]
)
def test_addresses_without_numbers_are_open_to_all(store, path):
    assert send("GET", path, REMOTE_ADDR="192.0.2.1").status == 200


@pytest.mark.parametrize("environ", [{"REMOTE_ADDR": "192.0.2.1"}, {"HTTP_VIA": "1.1 proxy"}, {}])
def test_a_setting_opens_the_site_to_everybody(store, settings, environ):
    settings.OPEN_WITHOUT_KEY = True
    assert send("POST", "/api/tutors", BODY, **environ).status == 201
    assert json.loads(store.lindex(TUTORS.queue, 0))["source"] == "api:anonymous"
    assert send("GET", "/metrics", **environ).status == 200


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_being_signed_in_to_the_portal_opens_nothing_of_the_api(store, method, path):
    browser = signed_in(User.objects.create_superuser("boss"))
    assert browser.get("/admin/").status_code == 200
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in browser.cookies.items())
    answer = send(method, path, BODY, REMOTE_ADDR="192.0.2.1", HTTP_COOKIE=cookies)
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert not store.exists(TUTORS.queue)
