"""What checking a key costs, how soon a change is known, and a portal without its database."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta

import pytest
from django.core.signals import request_finished
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingestion import api_keys
from ingestion.api_keys import known, text
from ingestion.models import ApiClient, ApiKey
from tests.api_keys import fresh_keys, header, key_of  # noqa: F401 (a fixture)
from tests.raw_requests import send
from tests.record_types import TUTORS

pytestmark = pytest.mark.usefixtures("fresh_keys")

EXAMPLE = dict(TUTORS.serializer_class.example)
BODY = json.dumps(EXAMPLE).encode()


def status(key, **environ):
    return send("POST", "/api/tutors", BODY, **header(key), **environ).status


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the copy, which a test can move on."""
    passed = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])

    def move(seconds):
        passed[0] += seconds

    return move


@pytest.fixture
def no_database(monkeypatch):
    """Lets every query fail, as if the database were away."""

    def fail(*_):
        raise OperationalError("canary: the server closed the connection")

    def break_it():
        monkeypatch.setattr(ApiKey.objects, "live", fail)
        monkeypatch.setattr(ApiKey.objects, "filter", fail)

    return break_it


def _queries(key):
    with CaptureQueriesContext(
        connection,
    ) as found:
        assert status(key) == 201
    return len(found)


def test_steady_traffic_costs_no_query_before_its_answer(store, clock):
    key = key_of()
    assert status(key) == 201
    request_finished.disconnect(dispatch_uid="known_keys")  # the work after the answer
    try:
        clock(3.9)
        assert [_queries(key) for _ in range(20)] == [0] * 20
    finally:
        request_finished.connect(known.known_keys.after_answer, dispatch_uid="known_keys")


def test_after_an_answer_the_copy_is_refreshed_if_it_is_two_seconds_old(store, clock):
    key = key_of()
    assert status(key) == 201  # reads the copy, and notes the first use
    clock(1.9)
    assert _queries(key) == 0
    clock(0.2)
    assert _queries(key) == 1
    assert _queries(key) == 0


def test_a_revoked_key_is_dead_within_five_seconds_under_traffic(store, clock):
    key, other = key_of("one"), key_of("two")
    assert (status(key), status(other)) == (201, 201)
    api_keys.revoke(ApiClient.objects.get(name="one"))
    clock(2.1)
    status(other)  # after this answer the copy is read
    assert status(key) == 401


def test_a_revoked_key_is_dead_within_five_seconds_without_any_traffic(store, clock):
    key = key_of()
    assert status(key) == 201
    api_keys.revoke(ApiClient.objects.get())
    clock(4.1)
    assert status(key) == 401


def test_a_new_key_is_found_within_a_second(store, clock):
    assert status(key_of("one")) == 201
    new = key_of("two")
    clock(1.1)
    assert status(new) == 201


def test_made_up_keys_ask_the_database_no_more_than_once_a_second(store, clock):
    assert status(key_of()) == 201
    clock(1.1)
    with CaptureQueriesContext(connection) as found:
        assert {status(text.new_key()) for _ in range(20)} == {401}
    assert len(found) == 1


def test_without_the_database_good_keys_hold_for_four_seconds_and_then_nobody_comes_in(
    store, clock, no_database, log
):
    key = key_of()
    assert status(key) == 201
    no_database()
    clock(3.9)
    assert status(key) == 201
    clock(0.2)
    answer = send("POST", "/api/tutors", BODY, **header(key))
    assert (answer.status, answer.json()["code"]) == (503, "server_busy")
    assert answer.headers["Retry-After"] == "1"
    assert send("GET", "/metrics", **header(key)).status == 503
    assert store.llen(TUTORS.queue) == 2
    assert any("api_keys_not_read" in line for line in log())
    assert not any("canary" in line for line in log())


def test_a_database_that_is_away_is_asked_once_a_second(store, clock, monkeypatch):
    key = key_of()
    assert status(key) == 201
    asked = []

    def fail():
        asked.append(1)
        raise OperationalError

    monkeypatch.setattr(ApiKey.objects, "live", fail)
    clock(4.1)
    assert [status(key) for _ in range(5)] == [503] * 5
    clock(1.1)
    assert status(key) == 503
    assert len(asked) == 2


def test_the_intake_without_a_key_needs_no_database(store, no_database):
    no_database()
    assert send("POST", "/api/tutors", BODY).status == 201


def test_a_database_that_hangs_stops_one_request_and_not_the_others(store, monkeypatch, clock):
    key = key_of()
    assert status(key) == 201
    monkeypatch.setattr(known, "_WAIT_SECONDS", 0.05)
    hanging, done = threading.Event(), threading.Event()

    def hang():
        with known.known_keys._reading:
            hanging.set()
            done.wait(30)

    thread = threading.Thread(target=hang)
    thread.start()
    assert hanging.wait(10)
    try:
        assert status(key) == 201
        clock(4.1)
        assert status(key) == 503
    finally:
        done.set()
        thread.join()
    assert status(key) == 201


# --- When a key was last used ------------------------------------------------------------------


def test_the_last_use_is_noted_at_once_and_then_once_a_minute(store, monkeypatch):
    key = key_of()
    assert ApiKey.objects.get().last_used_at is None
    assert status(key) == 201
    first = ApiKey.objects.get().last_used_at
    assert timezone.now() - first < timedelta(minutes=1)
    moments = [(timedelta(seconds=59), first), (timedelta(seconds=61), None)]
    for after, expected in moments:
        now = first + after
        monkeypatch.setattr(timezone, "now", lambda now=now: now)
        assert status(key) == 201
        assert ApiKey.objects.get().last_used_at == (expected or now)


def test_a_key_that_is_refused_is_not_noted_as_used(store):
    key = key_of()
    api_keys.revoke(ApiClient.objects.get())
    assert status(key) == 401
    assert ApiKey.objects.get().last_used_at is None
