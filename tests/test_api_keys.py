"""API keys: what they allow, how soon a change works, and that no key leaks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest
import urllib3
from django.core.checks import Tags, run_checks
from django.utils import timezone

from ingestion import api_keys, sources
from ingestion.api_keys import NUMBERS, OVERLAPS, SCOPES, RefusedError, is_well_formed, text
from ingestion.models import ApiClient, ApiKey
from ingestion.records import RECORD_TYPES
from ingestion.sources import RESERVED, Source
from tests.api_keys import fresh_keys, header, key_of  # noqa: F401 (a fixture)
from tests.portal_process import ROOT, Portal, running_portal
from tests.raw_requests import send
from tests.record_types import TUTORS

pytestmark = pytest.mark.usefixtures("fresh_keys")

EXAMPLE = dict(TUTORS.serializer_class.example)
BODY = json.dumps(EXAMPLE).encode()
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.1"}


def status(key, **environ):
    return send("POST", "/api/tutors", BODY, **header(key), **environ).status


# --- The text of a key -------------------------------------------------------------------------


def test_a_key_is_known_by_its_form_and_its_checksum():
    key = text.new_key()
    assert re.fullmatch(r"tmx_[0-9A-Za-z]{57}", key)
    assert is_well_formed(key)
    for place in range(4, len(key)):
        other = "a" if key[place] != "a" else "b"
        assert not is_well_formed(key[:place] + other + key[place + 1 :])
    for wrong in (
        key[:-1],
        f"{key}0",
        key.upper(),
        f" {key}",
        f"{key}\n",
        key.replace("tmx", "tmy"),
    ):
        assert not is_well_formed(wrong)


def test_no_two_keys_are_alike():
    assert len({text.new_key() for _ in range(200)}) == 200


def test_nothing_is_stored_of_a_key_that_could_be_used():
    key = key_of()
    stored = json.dumps(
        [ApiClient.objects.values().get(), ApiKey.objects.values().get()], default=str
    )
    assert text.name_of(key) in stored
    assert text.digest(key) in stored
    assert key[len(text.name_of(key)) :] not in stored
    assert len(text.digest(key)) == 64


# --- What a key opens --------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["Api-Key", "api-key", "API-KEY", "Api-Key "])
def test_a_good_key_lets_its_client_in_from_anywhere_under_its_name(store, word):
    answer = send("POST", "/api/tutors", BODY, HTTP_AUTHORIZATION=f"{word} {key_of()}", **ELSEWHERE)
    assert answer.status == 201
    assert json.loads(store.lindex(TUTORS.queue, 0))["source"] == "api:scheduler"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_opens_its_own_and_nothing_else(store, scope):
    key = key_of(scopes=(scope,))
    for path, record_type in RECORD_TYPES.items():
        record = json.dumps(dict(record_type.serializer_class.example)).encode()
        for address, body in ((f"/api/{path}", record), (f"/api/{path}/batch", b"[%s]" % record)):
            answer = send("POST", address, body, **header(key), **ELSEWHERE)
            assert answer.status == (201 if scope == path else 403)
            if scope != path:
                assert answer.json()["code"] == "forbidden"
        assert store.llen(record_type.queue) == (2 if scope == path else 0)
    for address in ("/api/queue/stats", "/metrics"):
        answer = send("GET", address, **header(key), **ELSEWHERE)
        assert answer.status == (200 if scope == NUMBERS else 403)


def _wrong_keys():
    made_up = text.new_key()
    return [
        "",
        "x",
        "né",
        made_up,
        made_up[:-1],
        f"{made_up},Api-Key {made_up}",
        "tmx_" + "0" * 57,
        "x" * 10_000,
    ]


@pytest.mark.parametrize("wrong", _wrong_keys(), ids=range(len(_wrong_keys())))
@pytest.mark.parametrize("is_open", [False, True])
def test_a_wrong_key_is_never_overlooked(store, settings, wrong, is_open):
    settings.OPEN_WITHOUT_KEY = is_open
    key_of()
    for method, path in (("POST", "/api/tutors"), ("GET", "/metrics"), ("GET", "/api/queue/stats")):
        answer = send(method, path, BODY, **header(wrong))  # from this machine
        assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Api-Key"
    assert not store.exists(TUTORS.queue)


def test_a_key_with_the_name_of_another_and_a_secret_of_its_own_is_wrong(store):
    key = key_of()
    while True:
        forged = text.name_of(key) + text.new_key()[len(text.name_of(key)) : -6]
        forged += text._checksum(forged)
        if forged != key:
            break
    assert is_well_formed(forged)
    assert status(key) == 201
    assert status(forged) == 401


NOT_UNDERSTOOD = [
    {"HTTP_AUTHORIZATION": value}
    for value in ("", " ", "x", "\xff", "Api-Key", "Api-Key:x", "Bearer x", "Bearer {}", "{}")
] + [{"HTTP_X_API_KEY": "{}"}]


@pytest.mark.parametrize("shown", NOT_UNDERSTOOD, ids=str)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_key_in_another_form_is_never_overlooked_and_the_form_is_told(
    store, settings, shown, is_open
):
    """Not even on the portal's own machine, or if no key is needed."""
    settings.OPEN_WITHOUT_KEY = is_open
    key = key_of()
    environ = {name: value.format(key) for name, value in shown.items()}
    for method, path in (("POST", "/api/tutors"), ("GET", "/metrics")):
        answer = send(method, path, BODY, **environ)
        assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
        assert "Authorization: Api-Key tmx_" in answer.json()["error"]
        assert key not in answer.content.decode()
    assert not store.exists(TUTORS.queue)


@pytest.mark.parametrize("between", [" ", "  ", "\t"])
def test_a_good_key_may_have_white_space_around_it(store, between):
    value = f" api-key{between}{key_of()}\t"
    assert send("POST", "/api/tutors", BODY, HTTP_AUTHORIZATION=value, **ELSEWHERE).status == 201


@pytest.mark.parametrize("tail", ["\xff", "\xa0", "\x85", " x", "\x00"])
def test_a_good_key_with_something_after_it_is_wrong(store, tail):
    value = f"Api-Key {key_of()}{tail}"
    assert send("POST", "/api/tutors", BODY, HTTP_AUTHORIZATION=value).status == 401


@pytest.mark.parametrize("other", ["Basic YTpi", "Digest a=b", "Negotiate YTpi"])
def test_a_site_that_is_open_leaves_the_credentials_of_its_proxy_to_the_proxy(
    store, settings, other
):
    shown = {"HTTP_AUTHORIZATION": other}
    theirs = {"HTTP_X_API_KEY": "theirs"}
    for one in (shown, theirs):
        assert send("POST", "/api/tutors", BODY, **one).status == 401
    settings.OPEN_WITHOUT_KEY = True
    for one in (shown, theirs):
        assert send("POST", "/api/tutors", BODY, **one, **ELSEWHERE).status == 201


def test_a_key_without_the_scope_is_told_which_one_is_missing(store):
    key = key_of(scopes=("tutors",))
    for method, path, scope in (
        ("POST", "/api/sessions/batch", "sessions"),
        ("GET", "/metrics", "numbers"),
    ):
        answer = send(method, path, b"[]", **header(key))
        assert answer.status == 403
        assert answer.json()["error"].endswith(f"The key lacks the scope {scope}.")


def test_a_key_counts_in_its_header_alone(store):
    key = key_of()
    body = json.dumps(EXAMPLE | {"api_key": key}).encode()
    query = f"api_key={key}&key={key}&authorization=Api-Key%20{key}"
    places = {"HTTP_X_API_KEY": key, "HTTP_COOKIE": f"api_key={key}"}
    answer = send("POST", "/api/tutors", body, query=query, **places, **ELSEWHERE)
    assert answer.status == 401


def test_on_an_open_site_a_key_still_names_its_client_and_limits_it(store, settings):
    settings.OPEN_WITHOUT_KEY = True
    key = key_of(scopes=("tutors",))
    assert status(key) == 201
    assert json.loads(store.lindex(TUTORS.queue, 0))["source"] == "api:scheduler"
    assert send("POST", "/api/sessions", b"{}", **header(key)).status == 403


def test_an_idempotency_key_counts_for_its_client_alone(store):
    keys = [key_of("one"), key_of("two")]
    first, second = (
        send("POST", "/api/tutors", BODY, HTTP_IDEMPOTENCY_KEY="same", **header(key))
        for key in keys
    )
    assert (first.status, second.status) == (201, 201)
    assert "Idempotent-Replayed" not in second.headers
    again = send("POST", "/api/tutors", BODY, HTTP_IDEMPOTENCY_KEY="same", **header(keys[0]))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert store.llen(TUTORS.queue) == 2


# --- How keys come and go ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [*sorted(RESERVED), "", "A", "Portal", "a b", "a:b", "a\n", "-a", "x" * 64]
)
def test_a_client_has_a_name_of_its_own_that_can_stand_in_a_source(name):
    with pytest.raises(RefusedError):
        api_keys.create(name, ["tutors"], days=1)
    assert not ApiClient.objects.exists()


def test_no_client_passes_for_another_sender(store):
    """Each word of every source that the code writes is reserved."""
    clients = (sources.LOCAL, sources.ANONYMOUS, sources.PORTAL)
    examples = [*(Source(client=one) for one in clients), Source(upload=7), sources.COMMAND]
    words = {word for source in examples for word in str(source).split(":")} - {"7"}
    assert words == RESERVED
    with pytest.raises(RefusedError, match="reserved"):
        key_of("portal")


def test_the_start_names_an_old_client_that_looks_like_another_sender():
    assert run_checks(tags=[Tags.database], databases=["default"]) == []
    ApiClient.objects.create(name="portal", scopes=["tutors"])
    (warning,) = run_checks(tags=[Tags.database], databases=["default"])
    assert (warning.id, "named portal" in warning.msg) == ("tutormax.W004", True)


def test_a_name_is_given_once():
    key_of("scheduler")
    with pytest.raises(RefusedError, match="in use"):
        key_of("scheduler")


@pytest.mark.parametrize("days", [0, -1, 367])
def test_every_key_ends(days):
    with pytest.raises(RefusedError):
        api_keys.create("scheduler", ["tutors"], days=days)
    assert not ApiClient.objects.exists()


def test_a_key_without_a_scope_is_not_made():
    with pytest.raises(RefusedError):
        api_keys.create("scheduler", [], days=1)


def test_an_expired_key_is_dead_at_once(store, monkeypatch):
    key = key_of(days=1)
    assert status(key) == 201
    later = timezone.now() + timedelta(days=1, seconds=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert status(key) == 401


def test_rotation_keeps_the_old_key_for_the_overlap_and_no_longer(store, monkeypatch):
    old = key_of(days=90)
    _, new = api_keys.rotate(ApiClient.objects.get(), days=90, overlap=OVERLAPS["1h"])
    assert (status(old), status(new)) == (201, 201)
    later = timezone.now() + timedelta(hours=1, seconds=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert (status(old), status(new)) == (401, 201)


def test_rotation_never_makes_a_key_live_longer():
    key_of(days=1)
    before = ApiKey.objects.get().expires_at
    api_keys.rotate(ApiClient.objects.get(), days=90, overlap=OVERLAPS["7d"])
    assert ApiKey.objects.order_by("pk")[0].expires_at == before


def test_rotation_without_overlap_ends_the_old_key(store):
    old = key_of()
    _, new = api_keys.rotate(ApiClient.objects.get(), days=90, overlap=OVERLAPS["none"])
    assert (status(old), status(new)) == (401, 201)


def test_revoking_one_key_leaves_the_others(store):
    old = key_of()
    client = ApiClient.objects.get()
    _, new = api_keys.rotate(client, days=90, overlap=OVERLAPS["7d"])
    assert api_keys.revoke(client, ApiKey.objects.order_by("pk")[0]) == [text.name_of(old)]
    assert api_keys.revoke(client, ApiKey.objects.order_by("pk")[0]) == []
    assert (status(old), status(new)) == (401, 201)


def test_a_client_whose_keys_have_all_ended_gets_a_new_one(store):
    old = key_of()
    client = ApiClient.objects.get()
    api_keys.revoke(client)
    _, new = api_keys.rotate(client, days=30, overlap=OVERLAPS["1d"])
    assert (status(old), status(new)) == (401, 201)


# --- In a running portal -----------------------------------------------------------------------


def _manage(portal: Portal, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", "api_key", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(portal.data_dir),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def _post(portal: Portal, key: str, path: str = "/api/tutors") -> int:
    answer = urllib3.request(
        "POST",
        portal.address + path,
        json=EXAMPLE,
        headers={"Authorization": f"Api-Key {key}"},
        retries=False,
        timeout=120,
    )
    return answer.status


@pytest.mark.processes
def test_in_a_running_portal_a_revoked_key_is_dead_in_every_process_within_five_seconds(tmp_path):
    with running_portal(tmp_path / "var", WEB_WORKERS="2") as portal:
        key = _manage(portal, "create", "one", "--scope", "tutors")
        other = _manage(portal, "create", "two", "--scope", "sessions")
        for _ in range(20):  # both processes know it
            assert _post(portal, key) == 201
        assert _post(portal, other) == 403
        _manage(portal, "revoke", "one")
        revoked_at = time.monotonic()
        while time.monotonic() - revoked_at < 5:  # traffic goes on
            assert _post(portal, key) in (201, 401)
        assert [_post(portal, key) for _ in range(20)] == [401] * 20
        assert _post(portal, other) == 403


def _canaries(key: str) -> list[dict[str, Any]]:
    as_json = {"Content-Type": "application/json"}
    with_key = as_json | {"Authorization": f"Api-Key {key}"}
    body = json.dumps(EXAMPLE).encode()
    in_body = json.dumps(EXAMPLE | {"name": key, "age": key, key: key}).encode()
    path = "/api/tutors"
    posts = [
        (path, body, with_key),
        (path, b"{", with_key),
        (path, body, with_key | {"Content-Encoding": "gzip"}),
        ("/api/sessions", body, with_key),  # the key has another scope
        ("/api/queue/stats", body, with_key),
        (path, body, as_json | {"Authorization": f"Api-Key {key}x"}),
        (path, body, as_json | {"Authorization": key}),
        (path, body, as_json | {"Authorization": f"Bearer {key}"}),
        (path, body, as_json | {f"X-{key}": key, "X-Api-Key": key, "Cookie": f"key={key}"}),
        (path, body, as_json | {"Idempotency-Key": key, "User-Agent": key, "Referer": key}),
        (path, body, as_json | {"X-Request-ID": key}),
        (path, in_body, with_key),
        (path, key.encode(), as_json),
        (f"{path}?key={key}&{key}=1", body, as_json),
        (f"{path}/batch?strict={key}", body, as_json),
        (f"{path}/{key}", body, as_json),
        (f"/{key}", body, as_json),
        (f"/admin/keys/{key}/", body, as_json),
        (f"/admin/login/?next=/{key}", body, as_json),
    ]
    gets = [f"/{key}", f"/admin/{key}", f"/metrics?{key}={key}", f"/docs/{key}", f"/static/{key}"]
    return [
        *({"method": "POST", "url": url, "body": b, "headers": h} for url, b, h in posts),
        *(
            {"method": "GET", "url": url, "headers": {"Authorization": f"Api-Key {key}"}}
            for url in gets
        ),
    ]


@pytest.mark.processes
@pytest.mark.parametrize("form", ["plain", "json"])
def test_no_log_line_metric_or_error_page_of_a_running_portal_holds_a_key(tmp_path, form):
    with running_portal(tmp_path / "var", LOG_FORMAT=form, LOG_LEVEL="DEBUG") as portal:
        good = _manage(portal, "create", "one", "--scope", "tutors")
        http = urllib3.HTTPConnectionPool("127.0.0.1", portal.port, retries=False, timeout=120)
        statuses, keys = set(), (good, text.new_key())
        for key in keys:
            secret = key[12:40]
            for request in _canaries(key):
                answer = http.urlopen(**request, redirect=False)
                statuses.add(answer.status)
                if answer.status >= 400:
                    assert secret not in answer.data.decode(), request
        assert {201, 400, 401, 403, 404, 422} <= statuses
        assert 500 not in statuses
        portal.wait_for(lambda: portal.printed.count("duration_ms") >= 2 * len(_canaries(good)))
        metrics = http.request("GET", "/metrics").data.decode()
    for key in keys:
        assert key[12:40] not in metrics
        assert key[12:40] not in portal.printed
    assert "client=one" in portal.printed or '"client": "one"' in portal.printed


def test_keys_are_in_the_schema_of_what_asks_for_them(client):
    schema = client.get("/openapi.json").json()
    scheme = schema["components"]["securitySchemes"]["ApiKey"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "Authorization")
    for path, methods in schema["paths"].items():
        (operation,) = methods.values()
        asks = path in ("/metrics", "/api/queue/stats") or "post" in methods
        assert (operation.get("security") == [{"ApiKey": []}, {}]) == asks, path
        assert ("403" in operation["responses"]) == asks, path
