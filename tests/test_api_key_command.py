"""`manage.py api_key`: keys from a shell."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from ingestion.api_keys import is_well_formed, text
from ingestion.models import Activity, ApiClient, ApiKey
from tests.portal_process import ROOT

pytestmark = pytest.mark.django_db


def run(*arguments):
    """What the command prints to standard output and to standard error."""
    out, beside = io.StringIO(), io.StringIO()
    call_command("api_key", *arguments, stdout=out, stderr=beside, no_color=True)
    return out.getvalue(), beside.getvalue()


def test_a_new_key_alone_goes_to_standard_output():
    out, beside = run("create", "scheduler", "--scope", "tutors", "--scope", "numbers")
    key = out.strip()
    assert out == f"{key}\n"
    assert is_well_formed(key)
    assert "shown only now" in beside
    assert key not in beside
    client, stored = ApiClient.objects.get(), ApiKey.objects.get()
    assert (client.name, client.scopes) == ("scheduler", ["tutors", "numbers"])
    assert stored.digest == text.digest(key)
    assert abs(stored.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)


def test_the_list_shows_states_and_no_secrets():
    key = run("create", "scheduler", "--scope", "tutors", "--days", "7")[0].strip()
    run("rotate", "scheduler", "--overlap", "none")
    run("create", "gone", "--scope", "feedback")
    run("revoke", "gone")
    listed, _ = run("list")
    for word in ("scheduler", "gone", "good", "expired", "revoked", "never", key[:12]):
        assert word in listed
    assert key[12:] not in listed
    assert all(len(line.split("\t")) == 6 for line in listed.splitlines())
    told = run("list", "--json")[0]
    assert key[12:] not in told
    for one in json.loads(told)["keys"]:
        assert one["key"] in listed
        assert one["state"] in ("good", "expired", "revoked")
        assert one["last_used_at"] is None


def test_an_empty_list_says_how_to_make_a_key():
    assert "manage.py api_key create" in run("list")[0]


def test_rotation_gives_a_further_key_and_ends_the_others_after_the_overlap():
    old = run("create", "scheduler", "--scope", "tutors")[0].strip()
    new = run("rotate", "scheduler", "--overlap", "1h", "--days", "30")[0].strip()
    assert is_well_formed(new)
    assert new != old
    newest, oldest = ApiKey.objects.all()
    in_an_hour = timezone.now() + timedelta(hours=1)
    assert abs(oldest.expires_at - in_an_hour) < timedelta(minutes=1)
    assert newest.is_live
    assert oldest.is_live


def test_revoking_ends_one_key_or_all():
    run("create", "scheduler", "--scope", "tutors")
    run("rotate", "scheduler")
    run("rotate", "scheduler")
    first = ApiKey.objects.last()
    assert "1 revoked" in run("revoke", "scheduler", "--key", first.name)[0]
    assert ApiKey.objects.live().count() == 2
    assert "2 revoked" in run("revoke", "scheduler")[0]
    assert not ApiKey.objects.live().exists()
    assert "0 revoked" in run("revoke", "scheduler")[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "Scheduler", "--scope", "tutors"], "lower-case"),
        (["create", "local", "--scope", "tutors"], "is reserved"),
        (["create", "scheduler"], "--scope"),
        (["create", "scheduler", "--scope", "everything"], "invalid choice"),
        (["create", "scheduler", "--scope", "tutors", "--days", "1000"], "1 to 366 days"),
        (["rotate", "nobody"], "no client of this name"),
        (["revoke", "nobody"], "no client of this name"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)
    assert not ApiClient.objects.exists()
    assert not Activity.objects.exists()


def test_a_key_of_another_client_is_not_revoked():
    run("create", "one", "--scope", "tutors")
    run("create", "two", "--scope", "tutors")
    other = ApiKey.objects.get(client__name="two")
    with pytest.raises(CommandError, match="no key of this name"):
        run("revoke", "one", "--key", other.name)
    assert ApiKey.objects.live().count() == 2


def test_every_change_stands_in_the_activity_log_and_holds_no_key():
    keys = [
        run("create", "scheduler", "--scope", "tutors")[0].strip(),
        run("rotate", "scheduler")[0].strip(),
    ]
    run("revoke", "scheduler")
    entries = list(Activity.objects.order_by("pk"))
    assert [entry.action for entry in entries] == [
        "key_created",
        "key_rotated",
        "key_revoked",
        "key_revoked",
    ]
    for entry in entries:
        assert (entry.user, entry.user_name) == (None, "manage.py api_key")
        assert entry.facts["client"] == "scheduler"
        assert not any(key[12:] in str(entry.facts) for key in keys)


@pytest.mark.processes
def test_before_the_database_is_made_the_command_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, "manage.py", "api_key", "create", "scheduler", "--scope", "tutors"],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(tmp_path / "var"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "manage.py migrate" in done.stderr
    assert "Traceback" not in done.stderr
