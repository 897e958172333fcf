"""The frame of every page of the portal: who may enter, what is shown, which headers are sent."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest
from django.contrib.auth.models import User
from django.test import Client

from ingestion import validation
from ingestion.portal.policy import POLICY
from ingestion.times import duration
from tests.staff import GROUPS, PAGES, address, member, signed_in
from tutormax import errors

pytestmark = pytest.mark.django_db

STOCK_PAGES = (
    "/admin/ingestion/activity/",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/auth/group/",
    "/admin/password_change/",
)
# Things that can run or draw without being loaded from a file of ours.
_INLINE = re.compile(r"<style|<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=|javascript:|https?://")


def visible(group, url):
    return signed_in(member(group)).get(url)


@pytest.mark.parametrize("name", PAGES)
def test_a_person_who_is_not_signed_in_is_sent_to_sign_in_and_comes_back(client, name):
    url = address(PAGES[name])
    answer = client.get(url)
    assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={url}")


def test_signing_in_leads_to_the_page_that_was_asked_for(client):
    member("Viewer")
    answer = client.post(
        "/admin/login/?next=/admin/guide/tutors/",
        {"username": "viewer", "password": "correct horse", "next": "/admin/guide/tutors/"},
    )
    assert answer["Location"] == "/admin/guide/tutors/"


@pytest.mark.parametrize("place", ["https://example.com/", "//example.com", "javascript:1", ""])
def test_a_place_that_is_not_on_this_site_leads_to_the_overview(client, place):
    user = member("Viewer")
    secret = {"username": user.username, "password": "correct horse", "next": place}
    answer = client.post("/admin/login/", secret, QUERY_STRING=f"next={place}")
    assert answer["Location"] == "/admin/"


def test_an_account_that_is_not_staff_stays_outside(client):
    User.objects.create_user("stranger", password="correct horse")
    answer = client.post("/admin/login/", {"username": "stranger", "password": "correct horse"})
    assert answer.status_code == 200
    assert "correct username and password for a staff account" in answer.text


def test_a_signed_in_account_that_is_no_longer_staff_is_told_so():
    user = member("Viewer")
    browser = signed_in(user)
    User.objects.filter(pk=user.pk).update(is_staff=False)
    answer = browser.get("/admin/guide/tutors/", follow=True)
    assert "You are signed in as viewer. This account may not open the page." in answer.text


def test_signing_out_is_a_post_and_ends_the_session(client):
    client.force_login(member("Viewer"))
    assert client.get("/admin/logout/").status_code == 405
    assert "You are signed out" in client.post("/admin/logout/").text
    assert client.get("/admin/guide/tutors/").status_code == 302


def test_every_page_says_if_the_store_is_away(no_store):
    browser = signed_in(User.objects.create_superuser("root"))
    said = []
    for url in [*map(address, PAGES.values()), *STOCK_PAGES, "/admin/nothing/"]:
        answer = browser.get(url)
        if answer["Content-Type"].startswith("text/html") and answer.status_code != 302:
            assert "The store does not answer." in answer.text, url
            said.append(url)
    assert "/admin/upload/" in said
    assert len(said) > 30


def test_while_the_store_is_well_no_page_says_otherwise(store):
    browser = signed_in(member("Uploader"))
    assert "The store does not answer." not in browser.get("/admin/upload/").text


def test_the_own_password_can_be_changed(client):
    user = member("Viewer")
    client.force_login(user)
    new = {"new_password1": "battery staple", "new_password2": "battery staple"}
    refused = client.post("/admin/password_change/", {"old_password": "wrong", **new})
    assert "Your old password was entered incorrectly" in refused.text
    answer = client.post("/admin/password_change/", {"old_password": "correct horse", **new})
    assert answer["Location"] == "/admin/password_change/done/"
    assert client.get("/admin/password_change/done/").status_code == 200
    assert User.objects.get(pk=user.pk).check_password("battery staple")


def test_a_page_says_who_is_signed_in_and_where(settings):
    settings.ENVIRONMENT_NAME = "Rehearsal"
    text = visible("Viewer", "/admin/guide/tutors/").text
    assert "Rehearsal" in text
    assert "Signed in as <strong>viewer</strong>" in text


def in_the_navigation(browser: Client) -> set[str]:
    sections = browser.get("/admin/guide/tutors/").context["navigation"]
    return {link.url for section in sections for link, _ in section.links}


@pytest.mark.parametrize("group", GROUPS)
def test_the_navigation_holds_what_the_group_may_open_and_nothing_else(store, group):
    browser = signed_in(member(group))
    pages = in_the_navigation(signed_in(User.objects.create_superuser("root")))
    answers = {page: browser.get(page).status_code for page in pages}
    assert set(answers.values()) <= {HTTPStatus.OK, HTTPStatus.FORBIDDEN}
    assert in_the_navigation(browser) == {page for page in pages if answers[page] == HTTPStatus.OK}


@pytest.mark.parametrize(
    ("url", "title"),
    [
        ("/admin/guide/feedback/", "Field guide"),
        ("/admin/ingestion/activity/", "Activity"),
        ("/admin/auth/user/add/", "Accounts"),
    ],
)
def test_the_navigation_marks_the_entry_that_a_page_belongs_to(url, title):
    present = [
        link.title
        for section in visible("Admin", url).context["navigation"]
        for link, is_present in section.links
        if is_present
    ]
    assert present == [title]


def test_no_page_of_the_portal_may_load_or_run_anything_from_elsewhere(store):
    browser = signed_in(User.objects.create_superuser("root"))
    urls = [*map(address, PAGES.values()), *STOCK_PAGES, "/admin/no-such-page/"]
    answers = [browser.get(url) for url in urls] + [Client().get("/admin/login/")]
    assert "unsafe" not in POLICY
    for answer in answers:
        assert answer["Content-Security-Policy"] == POLICY
        if answer["Content-Type"].startswith("text/html"):
            shown = re.sub(r"<pre.*?</pre>|xmlns=\S+", "", answer.text, flags=re.DOTALL)
            assert not _INLINE.search(shown), (answer.request["PATH_INFO"], _INLINE.search(shown))


def test_no_page_is_kept_in_a_cache():
    assert "no-store" in visible("Viewer", "/admin/guide/tutors/")["Cache-Control"]


def test_the_session_cookie_is_out_of_reach_of_scripts_and_of_other_sites(client):
    member("Viewer")
    client.post("/admin/login/", {"username": "viewer", "password": "correct horse"})
    cookie = client.cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["max-age"] == 12 * 3600


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", ['"\\000' + "a" * 31 + '"', '"\\377\\303(aaaaaaaa"', "a" * 4000, "a" * 31]
)
def test_a_cookie_that_can_name_no_session_is_none_and_costs_no_query(
    client, django_assert_num_queries, value
):
    """PostgreSQL fails at the NUL that a quoted cookie may hold."""
    with django_assert_num_queries(0):
        answer = client.get("/admin/", headers={"cookie": f"sessionid={value}"})
    assert answer["Location"].startswith("/admin/login/")


def test_apps_of_the_stock_admin_have_no_pages_of_their_own():
    assert visible("Admin", "/admin/auth/")["Location"] == "/admin/"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (11_100, "3 h 5 min"),
        (3_600, "1 h"),
        (176_400, "2 d 1 h"),
    ],
)
def test_durations_are_said_in_their_two_largest_units(seconds, words):
    assert duration(seconds) == words


# --- Errors ------------------------------------------------------------------------------------


def test_an_unknown_address_is_a_page_in_the_portal_and_json_outside_it(client):
    inside = visible("Viewer", "/admin/queues/no-such-type/")
    assert inside.status_code == 404
    assert "Page not found" in inside.text
    assert "Overview" in inside.text
    outside = client.get("/nowhere")
    assert (outside.status_code, outside.json()["code"]) == (404, "not_found")


def test_a_missing_right_is_named():
    answer = visible("Viewer", "/admin/keys/")
    assert answer.status_code == 403
    assert "Create, rotate and revoke API keys" in answer.text


def test_a_request_that_cannot_be_read_is_a_page_in_the_portal(client):
    answer = client.get("/admin/", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 400
    assert "This request cannot be read" in answer.text
    assert answer["Content-Security-Policy"] == POLICY


def test_a_fault_of_ours_is_a_page_without_a_trace(monkeypatch):
    def broken(*_):
        raise RuntimeError("canary")

    monkeypatch.setattr(validation, "validate", broken)
    browser = signed_in(member("Viewer"), raise_request_exception=False)
    answer = browser.post("/admin/guide/tutors/", {"json": "{}"})
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "canary" not in answer.text
    assert answer["Content-Security-Policy"] == POLICY


def test_the_page_of_a_fault_asks_nothing_of_the_database(rf, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = errors.server_error(rf.get("/admin/"))
    assert "Something went wrong" in answer.text


def test_a_method_that_a_page_does_not_know_is_refused():
    assert signed_in(member("Viewer")).post("/admin/queues/tutors/").status_code == 405


def test_the_address_of_a_button_says_what_it_is():
    boss = signed_in(User.objects.create_superuser("boss"))
    for page in ("message", "dead/discard"):
        answer = boss.get(f"/admin/queues/tutors/{page}/")
        assert (answer.status_code, answer["Allow"]) == (405, "POST")
        assert "press the button there again" in answer.content.decode()
