"""Guessing passwords is slow: by account, by address, and also for unknown accounts."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import urllib3
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.test import Client

from tests.portal_process import running_portal
from tests.staff import member, signed_in
from tests.test_settings import settings_of

pytestmark = pytest.mark.django_db

LIMIT = 10
HERE = "192.0.2.1"
RIGHT = "correct horse"
WRONG = "wrong"


def sign_in(name="viewer", password=WRONG, *, peer=HERE, **headers):
    """The answer to one attempt, from a new browser."""
    form = {"username": name, "password": password}
    return Client(REMOTE_ADDR=peer).post("/admin/login/", form, headers=headers)


def statuses(tries, **how):
    """The answers to `tries` successive attempts."""
    return [sign_in(**how).status_code for _ in range(tries)]


def other_peer(number):
    """An address for each number."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@pytest.mark.slow
def test_ten_of_a_hundred_attempts_at_an_account_are_checked():
    member("Viewer")
    answers = [sign_in(peer=other_peer(n)).status_code for n in range(100)]
    assert answers == [200] * (LIMIT - 1) + [429] * (100 - LIMIT + 1)
    # Now even the right password does not work, from any address.
    assert sign_in(password=RIGHT, peer="198.51.100.7").status_code == 429


@pytest.mark.slow
def test_ten_of_a_hundred_attempts_from_an_address_are_checked():
    member("Viewer")
    answers = [sign_in(f"name-{n}").status_code for n in range(100)]
    assert answers == [200] * (LIMIT - 1) + [429] * (100 - LIMIT + 1)
    assert sign_in(password=RIGHT).status_code == 429
    assert sign_in(password=RIGHT, peer="198.51.100.7").status_code == 302


@pytest.mark.slow
def test_what_is_remembered_is_bounded_and_holds_no_password():
    for n in range(50):
        sign_in(f"name-{n}", "canary-271828")
    assert AccessAttempt.objects.count() == LIMIT
    assert not AccessLog.objects.exists()
    assert not AccessFailureLog.objects.exists()
    assert "canary" not in str(list(AccessAttempt.objects.values()))


def test_known_and_unknown_names_are_answered_the_same():
    member("Viewer")

    def told(name, peer):
        answers = [sign_in(name, peer=peer) for _ in range(LIMIT + 1)]
        return [
            (
                answer.status_code,
                sorted(set(answer.headers) - {"X-Request-ID"}),
                re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", answer.text).replace(
                    name, "NAME"
                ),
            )
            for answer in answers
        ]

    assert told("viewer", "10.0.0.1") == told("nobody", "10.0.0.2")


@pytest.mark.processes
def test_tries_at_the_same_time_and_in_two_processes_all_count(tmp_path):
    with running_portal(tmp_path / "var", WEB_WORKERS="2") as portal:

        def answer() -> int:
            with urllib3.PoolManager(retries=False, timeout=120) as browser:
                page = browser.request("GET", portal.address + "/admin/login/")
                token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.data.decode())[1]
                cookie = page.headers["Set-Cookie"].partition(";")[0]
                form = {"username": "admin", "password": WRONG, "csrfmiddlewaretoken": token}
                return browser.request(
                    "POST",
                    portal.address + "/admin/login/",
                    fields=form,
                    headers={"Cookie": cookie},
                    encode_multipart=False,
                ).status

        answers = []
        while 429 not in answers[-1:]:
            with ThreadPoolExecutor(8) as pool:
                answers += pool.map(lambda _: answer(), range(16))
        assert set(answers) <= {200, 429}
        assert answers.count(200) < LIMIT


def test_a_lock_is_a_page_of_the_portal_that_says_how_long(settings):
    settings.SIGN_IN_COOL_OFF_SECONDS = 900
    statuses(LIMIT)
    answer = sign_in()
    assert answer.status_code == 429
    assert answer["Retry-After"] == "900"
    assert "Too many attempts to sign in" in answer.text
    assert "Wait 15 min, then try again." in answer.text
    assert "Content-Security-Policy" in answer
    assert "TutorMax" in answer.text


def test_a_lock_ends_by_itself_and_tries_meanwhile_do_not_prolong_it(settings):
    member("Viewer")
    statuses(LIMIT)
    assert sign_in(password=RIGHT).status_code == 429
    begun = AccessAttempt.objects.latest("attempt_time").attempt_time
    statuses(5)
    assert AccessAttempt.objects.latest("attempt_time").attempt_time == begun
    AccessAttempt.objects.update(attempt_time=begun - settings.AXES_COOLOFF_TIME)
    assert sign_in(password=RIGHT).status_code == 302
    assert not AccessAttempt.objects.exists()  # ended locks are deleted


def test_the_cool_off_is_the_setting(settings):
    expected = timedelta(seconds=settings.SIGN_IN_COOL_OFF_SECONDS)
    assert expected == settings.AXES_COOLOFF_TIME


def test_a_lock_ends_no_session():
    browser = signed_in(member("Viewer"))
    statuses(LIMIT + 1)
    assert browser.get("/admin/guide/tutors/").status_code == 200


def test_signing_in_between_gives_no_further_tries():
    """Otherwise the owner of an account could guess other passwords without end."""
    member("Viewer")
    member("Admin")
    assert statuses(LIMIT - 1, name="admin") == [200] * (LIMIT - 1)
    assert sign_in(password=RIGHT).status_code == 302
    assert sign_in("admin").status_code == 429


def test_signing_in_works_while_the_store_is_away(no_store):
    member("Viewer")
    assert sign_in().status_code == 200
    assert sign_in(password=RIGHT).status_code == 302


# --- Which address counts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "counted"),
    [
        (0, HERE, "203.0.113.5", HERE),
        (1, HERE, "203.0.113.5", "203.0.113.5"),
        (1, HERE, "198.51.100.9, 203.0.113.5", "203.0.113.5"),
        (2, HERE, "evil, 203.0.113.5,10.0.0.1", "203.0.113.5"),
        (2, HERE, "203.0.113.5", HERE),
        (1, HERE, "203.0.113.5:41234", "203.0.113.5"),
        (1, HERE, "[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::"),
        (1, HERE, "[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::"),
        (1, HERE, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (1, HERE, "fe80::1%eth0", "fe80::"),
        (1, HERE, "203.0.113.5:x", HERE),
        (1, HERE, "no address", HERE),
        (1, HERE, "", HERE),
        (0, "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::"),
        (0, "::ffff:192.0.2.1", "", HERE),
        (0, "", "", None),
    ],
)
def test_the_address_that_the_outermost_proxy_saw_counts(
    settings, proxies, peer, forwarded, counted
):
    settings.TRUSTED_PROXIES = proxies
    sign_in(peer=peer, **{"X-Forwarded-For": forwarded})
    assert AccessAttempt.objects.get().ip_address == counted


def test_behind_a_proxy_one_sender_does_not_lock_out_the_others(settings):
    settings.TRUSTED_PROXIES = 1
    member("Viewer")
    for n in range(LIMIT + 5):
        sign_in(f"name-{n}", **{"X-Forwarded-For": f"{other_peer(n)}, 203.0.113.5"})
    assert sign_in(**{"X-Forwarded-For": "203.0.113.5"}).status_code == 429
    assert sign_in(password=RIGHT, **{"X-Forwarded-For": "203.0.113.6"}).status_code == 302


@pytest.mark.processes
def test_a_site_that_speaks_https_has_one_proxy_unless_it_says_otherwise(tmp_path):
    assert settings_of(tmp_path)["TRUSTED_PROXIES"] == 0
    assert settings_of(tmp_path, HTTPS="true")["TRUSTED_PROXIES"] == 1
    assert settings_of(tmp_path, HTTPS="true", TRUSTED_PROXIES="2")["TRUSTED_PROXIES"] == 2
