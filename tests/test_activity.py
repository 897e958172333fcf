"""The activity log: entries are noted once, never changed, and exported as harmless CSV."""

from __future__ import annotations

import csv
import io
import re

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from ingestion.models import Activity, Upload
from ingestion.portal import activity
from ingestion.records import RECORD_TYPES
from tests.staff import member, signed_in

pytestmark = pytest.mark.django_db

LIST = "/admin/ingestion/activity/"


def note(rf, user, what=Activity.Action.PAUSED, **details):
    request = rf.post("/admin/")
    request.user = user
    activity.record(request, what, **details)
    return Activity.objects.first()


def export(browser, **also):
    every = list(Activity.objects.values_list("pk", flat=True))
    answer = browser.post(LIST, {"action": "export", "_selected_action": every, **also})
    return answer, list(csv.reader(io.StringIO(answer.getvalue().decode("utf-8-sig"))))


def test_an_entry_says_who_did_what_to_what_and_why(rf):
    user = member("Operator")
    upload = Upload.objects.create(file_name="a.csv", size_bytes=1, sha256="0" * 64)
    entry = note(
        rf,
        user,
        record_type=RECORD_TYPES["feedback"],
        upload=upload,
        reason="Deploying",
        facts={"count": 3},
    )
    assert (entry.user, entry.user_name, entry.action) == (user, "operator", "paused")
    assert (entry.record_type, entry.upload, entry.reason) == (
        RECORD_TYPES["feedback"],
        upload,
        "Deploying",
    )
    assert entry.facts == {"count": 3}


def test_an_action_needs_a_signed_in_person(rf):
    with pytest.raises(TypeError):
        note(rf, AnonymousUser())


def test_an_entry_is_never_changed_or_removed(rf):
    entry = note(rf, member("Operator"))
    entry.reason = "Another"
    with pytest.raises(TypeError):
        entry.save()
    with pytest.raises(TypeError):
        entry.delete()
    with pytest.raises(TypeError):
        Activity.objects.update(reason="Another")
    with pytest.raises(TypeError):
        Activity.objects.filter(pk=entry.pk).delete()
    assert Activity.objects.get().reason == ""


def test_the_portal_offers_no_way_to_change_it_either(rf):
    entry = note(rf, member("Operator"))
    root = signed_in(User.objects.create_superuser("root"))
    assert root.post(f"{LIST}{entry.pk}/change/", {"reason": "Another"}).status_code == 404
    assert root.post(f"{LIST}{entry.pk}/delete/", {"post": "yes"}).status_code == 404
    assert root.post(f"{LIST}add/", {"reason": "Another"}).status_code == 404
    root.post(LIST, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})
    assert Activity.objects.get() == entry


def test_the_name_stays_when_the_account_goes(rf):
    user = member("Operator")
    note(rf, user)
    root = signed_in(User.objects.create_superuser("root"))
    root.post(reverse("admin:auth_user_delete", args=[user.pk]), {"post": "yes"})
    assert not User.objects.filter(username="operator").exists()
    entry = Activity.objects.get()
    assert (entry.user, entry.user_name) == (None, "operator")
    assert "operator" in root.get(LIST).text


def test_the_list_is_searched_filtered_and_links_to_uploads(rf):
    upload = Upload.objects.create(file_name="a.csv", size_bytes=1, sha256="0" * 64)
    note(rf, member("Uploader"), Activity.Action.UPLOADED, upload=upload)
    note(rf, member("Operator"), Activity.Action.PAUSED, reason="Deploying at noon")
    browser = signed_in(member("Viewer"))

    def shown(query):
        return [entry.user_name for entry in browser.get(LIST + query).context["cl"].result_list]

    assert shown("") == ["operator", "uploader"]
    assert shown("?q=noon") == ["operator"]
    assert shown("?action__exact=uploaded") == ["uploader"]
    assert reverse("admin:upload", args=[upload.pk]) in browser.get(LIST).text
    assert "No results" in browser.get(f"{LIST}?q=nobody").text


def test_a_long_id_is_cut_in_the_list_and_complete_in_the_export(rf):
    facts = {"dead_letters": 3, "copies": "0123456789abcdef" * 2, "scopes": "tutors and sessions"}
    note(rf, member("Operator"), facts=facts)
    answer = signed_in(member("Viewer")).get(LIST)
    details = "copies 01234567…, dead letters 3, scopes tutors and sessions"
    assert details in re.sub("<[^>]*>", "", answer.text)
    _, (_, row) = export(signed_in(User.objects.create_superuser("root")))
    assert facts["copies"] in row[-1]


def test_the_filters_offer_only_values_that_exist_and_have_a_name(rf):
    note(rf, member("Operator"))
    answer = signed_in(member("Viewer")).get(LIST)
    filters = answer.text.partition('id="changelist-filter"')[2]
    assert ">operator</a>" in filters
    assert not re.search(r">(None)?</a>", filters)


def test_an_empty_log_says_what_will_stand_in_it():
    assert "No activity yet" in signed_in(member("Viewer")).get(LIST).text


def test_the_log_is_seen_by_those_who_see_the_portal_and_by_no_others():
    outsider = User.objects.create_user("outsider", is_staff=True)
    assert signed_in(outsider).get(LIST).status_code == 403
    assert signed_in(outsider).post(LIST, {"action": "export"}).status_code == 403


def test_the_export_has_every_column_and_nothing_that_runs(rf):
    upload = Upload.objects.create(file_name="@a.csv", size_bytes=1, sha256="0" * 64)
    facts = {"rows": 3, "bytes": 7}
    note(rf, member("Operator"), reason='=HYPERLINK("http://x")', upload=upload, facts=facts)
    answer, (header, row) = export(signed_in(member("Viewer")))
    assert answer["Content-Disposition"].startswith('attachment; filename="activity-')
    assert header == ["at", "who", "what", "record type", "upload", "reason", "facts"]
    assert row[1:] == [
        "operator",
        "Paused a queue",
        "",
        "'@a.csv",
        '\'=HYPERLINK("http://x")',
        '{"bytes": 7, "rows": 3}',
    ]


@pytest.mark.parametrize(
    ("reason", "cell"),
    [
        ("=1", "'=1"),
        ("+1+1", "'+1+1"),
        ("-1+1", "'-1+1"),
        ("@x", "'@x"),
        ("\t=1", "\t'=1"),
        ("\r=1", "\r'=1"),
        ("x;=1", "x;'=1"),
        ('x"\t"=1', 'x"\t"\'=1'),
    ],
)
def test_nothing_that_staff_wrote_runs_in_a_spreadsheet(rf, reason, cell):
    note(rf, member("Operator"), reason=reason)
    _, (_, row) = export(signed_in(member("Viewer")))
    assert cell in row


def test_the_list_costs_the_same_queries_however_long_it_is(rf, django_assert_max_num_queries):
    user = member("Operator")
    upload = Upload.objects.create(file_name="a.csv", size_bytes=1, sha256="0" * 64)
    for _ in range(30):
        note(rf, user, upload=upload)
    browser = signed_in(member("Viewer"))
    with django_assert_max_num_queries(14):
        assert len(browser.get(LIST).context["cl"].result_list) == 30
