"""The Keys page: making, rotating and revoking keys in the portal."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from ingestion import api_keys
from ingestion.api_keys import is_well_formed, text
from ingestion.models import Activity, ApiClient, ApiKey
from tests.api_keys import fresh_keys, header, key_of  # noqa: F401 (a fixture)
from tests.raw_requests import send
from tests.staff import GROUPS, member, signed_in

pytestmark = pytest.mark.usefixtures("fresh_keys")

KEYS = "/admin/keys/"
NEW = {"name": "scheduler", "scopes": ["sessions", "numbers"], "days": "90"}


@pytest.fixture
def admin():
    """A browser of somebody who manages keys."""
    return signed_in(member("Admin"))


def shown_key(answer):
    """The one key on the page."""
    (key,) = set(re.findall(r"tmx_[0-9A-Za-z]{57}", html.unescape(answer.text)))
    return key


def rotate_form(admin, client, **changes):
    address = f"/admin/keys/clients/{client.pk}/rotate/"
    newest = admin.get(address).context["form"]["newest"].value()
    return address, {"days": "30", "overlap": "1d", "newest": newest, **changes}


def test_without_clients_the_page_says_what_a_key_is_for(admin):
    assert "No keys yet" in admin.get(KEYS).text


def test_a_new_key_is_shown_once_and_opens_what_was_chosen(store, admin):
    answer = admin.post(f"{KEYS}new/", NEW)
    assert answer.status_code == 200
    key = shown_key(answer)
    assert is_well_formed(key)
    elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
    assert send("GET", "/metrics", **header(key), **elsewhere).status == 200
    assert send("POST", "/api/tutors", b"{}", **header(key), **elsewhere).status == 403
    for page in (KEYS, "/admin/ingestion/activity/", "/admin/"):
        assert key[12:] not in admin.get(page).text


def test_the_page_with_a_new_key_is_kept_nowhere(admin):
    answer = admin.post(f"{KEYS}new/", NEW)
    key = shown_key(answer)
    assert "no-store" in answer["Cache-Control"]
    for session in Session.objects.all():
        assert key not in str(session.get_decoded())
    assert key not in str(list(Activity.objects.values()))
    assert key not in str(list(ApiKey.objects.values()))


def test_sending_the_form_again_makes_no_second_key(admin):
    admin.post(f"{KEYS}new/", NEW)
    again = admin.post(f"{KEYS}new/", NEW)
    assert again.status_code == 422
    assert "is in use" in again.text
    assert ApiKey.objects.count() == 1
    client = ApiClient.objects.get()
    address, form = rotate_form(admin, client)
    assert admin.post(address, form).status_code == 200
    twice = admin.post(address, form, follow=True)
    assert "Somebody has created a newer key" in twice.text
    assert ApiKey.objects.count() == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "Name the program"),
        ({"name": "Two words"}, "lower-case"),
        ({"name": "local"}, "reserved"),
        ({"scopes": []}, "Choose at least one"),
        ({"scopes": ["everything"]}, "not one of the available choices"),
        ({"days": "9999"}, "not one of the available choices"),
    ],
)
def test_a_form_that_cannot_be_used_comes_back_and_makes_nothing(admin, changes, sentence):
    answer = admin.post(f"{KEYS}new/", {**NEW, **changes})
    assert answer.status_code == 422
    assert sentence in html.unescape(answer.text)
    assert not ApiClient.objects.exists()


def test_rotation_shows_a_further_key_and_says_when_the_others_end(admin):
    old = key_of()
    address, form = rotate_form(admin, ApiClient.objects.get())
    new = shown_key(admin.post(address, form))
    assert new != old
    oldest = ApiKey.objects.get(name=text.name_of(old))
    in_a_day = timezone.now() + timedelta(days=1)
    assert abs(oldest.expires_at - in_a_day) < timedelta(minutes=1)
    assert "ends soon" in admin.get(KEYS).text


def test_revoking_wants_a_reason_and_ends_the_key(store, admin):
    key = key_of()
    address = f"{KEYS}{ApiKey.objects.get().pk}/revoke/"
    assert "It is the last key" in admin.get(address).text
    assert admin.post(address).status_code == 422
    assert send("GET", "/metrics", **header(key)).status == 200
    answer = admin.post(address, {"reason": "Leaked in a ticket"}, follow=True)
    assert "is revoked. It stops working within 5 seconds" in answer.text
    api_keys.known_keys.__init__()  # type: ignore[misc]
    assert send("GET", "/metrics", **header(key)).status == 401
    again = admin.post(address, {"reason": "Once more"}, follow=True)
    assert "has already ended" in again.text


def test_every_change_stands_in_the_activity_log(admin):
    admin.post(f"{KEYS}new/", NEW)
    client = ApiClient.objects.get()
    address, form = rotate_form(admin, client, overlap="none")
    admin.post(address, form)
    newest = ApiKey.objects.first()
    admin.post(f"{KEYS}{newest.pk}/revoke/", {"reason": "Leaked"})
    revoked, rotated, created = Activity.objects.all()
    assert [one.action for one in (created, rotated, revoked)] == [
        "key_created",
        "key_rotated",
        "key_revoked",
    ]
    assert {one.user_name for one in (created, rotated, revoked)} == {"admin"}
    assert created.facts["scopes"] == "sessions, numbers"
    assert rotated.facts["overlap_hours"] == 0
    assert (revoked.reason, revoked.facts["key"]) == ("Leaked", newest.name)
    assert "Revoked an API key" in admin.get("/admin/ingestion/activity/").text


def test_the_page_shows_who_may_what_until_when_and_what_was_used(store, admin):
    key = key_of("crm", ("tutors",))
    assert "never" in admin.get(KEYS).text
    assert send("GET", "/metrics", **header(key)).status == 403
    shown = admin.get(KEYS).text
    assert "crm" in shown
    assert "Rotate" in shown
    assert "Send tutors" in shown
    assert key[:12] in shown
    assert "never" not in shown


def test_keys_that_ended_long_ago_are_not_listed_and_their_client_still_is(admin):
    key = key_of("crm")
    long_ago = timezone.now() - timedelta(days=31)
    ApiKey.objects.update(expires_at=long_ago)
    shown = admin.get(KEYS).text
    assert key[:12] not in shown
    assert "This client has no keys" in shown
    assert "Create a key" in shown
    assert "Rotate" not in shown


def test_the_page_costs_the_same_queries_however_many_keys_there_are(
    admin, django_assert_max_num_queries
):
    for number in range(12):
        key_of(f"client-{number}")
    with django_assert_max_num_queries(8):
        assert admin.get(KEYS).status_code == 200


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "Admin"])
def test_nobody_else_makes_or_ends_keys(group):
    key_of("crm")
    browser = signed_in(member(group))
    pages = (
        KEYS,
        f"{KEYS}new/",
        f"{KEYS}clients/{ApiClient.objects.get().pk}/rotate/",
        f"{KEYS}{ApiKey.objects.get().pk}/revoke/",
    )
    for page in pages:
        assert browser.get(page).status_code == 403
    for page in pages[1:]:
        assert browser.post(page, {**NEW, "reason": "x", "overlap": "1d"}).status_code == 403
    assert ApiKey.objects.live().count() == 1
