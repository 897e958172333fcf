"""Who may open and do what. The server is asked, whatever a page shows or hides."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse

from ingestion.file_rows import Layout
from ingestion.files.shape import Shape
from ingestion.models import Right, Upload
from ingestion.records import RECORD_TYPES
from ingestion.uploads import layouts
from tests.staff import GROUPS, PAGES, address, member, right_of, signed_in
from tests.test_upload_pages import as_csv, session
from tests.test_upload_pages import upload as send_upload

pytestmark = pytest.mark.django_db

VIEW = {"view_portal"}
RIGHTS = {
    "Viewer": VIEW,
    "Uploader": VIEW | {"upload_files", "enter_records"},
    "Operator": VIEW | {"see_payloads", "pause_queue", "discard_messages", "recall_rows"},
    "Admin": {codename for codename, _ in Right._meta.permissions},
}


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_opens_the_pages_of_its_rights_and_no_other(store, group):
    browser = signed_in(member(group))
    for name, page in PAGES.items():
        answer = browser.get(address(page))
        if answer.status_code == 405:
            answer = browser.post(address(page))
        assert (answer.status_code != 403) == (right_of(page) in RIGHTS[group]), name


@pytest.mark.parametrize("group", GROUPS)
def test_a_crafted_post_without_the_right_is_refused_before_anything_is_looked_at(store, group):
    browser = signed_in(member(group))
    refused = [p for p in PAGES.values() if right_of(p) not in RIGHTS[group]]
    # A page that only reads says 405 to everybody; all others check the permission first.
    assert all(browser.post(address(page)).status_code in (403, 405) for page in refused)
    if group == "Viewer":
        assert browser.post("/admin/enter/tutors/", {"tutor_id": "t"}).status_code == 403
        assert store.dbsize() == 0


def test_an_account_without_a_group_is_told_that_it_has_no_rights():
    user = User.objects.create_user("new", is_staff=True)
    answer = signed_in(user).get("/admin/")
    assert answer.status_code == 403
    assert "See queues, uploads and rejections, without payloads" in answer.text


@pytest.mark.parametrize("name", PAGES)
def test_a_post_without_the_forms_token_is_refused(store, name):
    browser = signed_in(User.objects.create_superuser("root"), enforce_csrf_checks=True)
    answer = browser.post(address(PAGES[name]))
    assert answer.status_code == 403
    assert "This form has expired" in answer.text
    assert store.dbsize() == 0


def test_the_stock_forms_want_the_token_as_well(client):
    root = User.objects.create_superuser("root", password="correct horse")
    browser = signed_in(root, enforce_csrf_checks=True)
    for url in ("login", "logout", "password_change", "auth_user_add"):
        assert browser.post(reverse(f"admin:{url}")).status_code == 403


def test_corrections_are_sent_by_who_may_act_on_what_they_correct(store):
    owner, other, admin = (
        member("Uploader"),
        User.objects.create_user("other", is_staff=True),
        member("Admin"),
    )
    other.groups.add(Group.objects.get(name="Uploader"))
    layout = layouts.to_json(Layout(shape=Shape(file_format="ndjson")))
    one = Upload.objects.create(file_name="a", size_bytes=1, uploaded_by=owner, layout=layout)
    form = {"rows": json.dumps(RECORD_TYPES["tutors"].serializer_class.example), "record_type": ""}
    for fixes in (one.pk, 999):
        assert signed_in(other).get(f"/admin/upload/?fixes={fixes}").status_code in (403, 404)
        refused = signed_in(other).post("/admin/upload/", {**form, "fixes": fixes})
        assert refused.status_code in (403, 404)
    assert not one.children.exists()
    for user in (owner, admin):
        assert f'value="{one.pk}"' in signed_in(user).get(f"/admin/upload/?fixes={one.pk}").text
        answer = signed_in(user).post("/admin/upload/", {**form, "fixes": one.pk})
        assert answer.status_code == 302
    assert [child.uploaded_by for child in one.children.order_by("pk")] == [owner, admin]


@pytest.mark.processes
def test_a_file_that_names_the_upload_of_another_is_no_correction_of_it(store):
    owner = member("Uploader")
    other = User.objects.create_user("other", is_staff=True)
    other.groups.add(Group.objects.get(name="Uploader"))
    one = send_upload(signed_in(owner), as_csv(session(1), session(2, duration_minutes=999)))
    error_file = signed_in(owner).get(reverse("admin:upload-to-fix", args=[one.pk])).getvalue()
    assert send_upload(signed_in(other), error_file).parent is None
    assert send_upload(signed_in(owner), error_file).parent == one


# --- Accounts ----------------------------------------------------------------------------------


def form_of(user, **changes):
    """The fields of the page of an account, as a browser would send them."""
    fields = {
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "is_active": "on",
        "is_staff": "on",
        "groups": [group.pk for group in user.groups.all()],
    }
    return fields | changes


def change(browser, user, **changes):
    url = reverse("admin:auth_user_change", args=[user.pk])
    return browser.post(url, form_of(user, **changes))


def pages_of(user):
    names = ("auth_user_change", "auth_user_delete", "auth_user_password_change")
    return [reverse(f"admin:{name}", args=[user.pk]) for name in names]


@pytest.fixture
def admin():
    """A browser of a person in the group Admin who is not a superuser."""
    return signed_in(member("Admin"))


@pytest.mark.parametrize("group", ["Viewer", "Uploader", "Operator"])
def test_only_admins_see_accounts(group):
    browser = signed_in(member(group))
    other = User.objects.create_user("other")
    assert browser.get("/admin/auth/user/").status_code == 403
    assert browser.get("/admin/auth/user/add/").status_code == 403
    assert all(browser.post(url, {"post": "yes"}).status_code == 403 for url in pages_of(other))
    assert User.objects.filter(username="other").exists()


def test_an_admin_makes_an_account_with_its_group_in_one_step(admin):
    uploader = Group.objects.get(name="Uploader")
    secret = {"password1": "battery staple", "password2": "battery staple"}
    admin.post(
        "/admin/auth/user/add/",
        {"username": "new", "is_staff": "on", "groups": [uploader.pk], **secret},
    )
    user = User.objects.get(username="new")
    assert user.is_staff
    assert not user.is_superuser
    assert user.has_perm("ingestion.upload_files")


def test_an_admin_changes_accounts_that_hold_no_more_than_their_own(admin):
    user = member("Operator")
    assert change(admin, user, first_name="Otto").status_code == 302
    user.refresh_from_db()
    assert user.first_name == "Otto"
    assert [group.name for group in user.groups.all()] == ["Operator"]


def test_a_superuser_is_touched_by_superusers_alone(admin):
    root = User.objects.create_superuser("root", password="correct horse")
    assert all(admin.post(url, {"post": "yes"}).status_code == 403 for url in pages_of(root))
    assert change(admin, root, first_name="Mine").status_code == 403
    many = {"action": "delete_selected", "_selected_action": [root.pk], "post": "yes"}
    admin.post("/admin/auth/user/", many)
    root.refresh_from_db()
    assert (root.first_name, root.check_password("correct horse")) == ("", True)


def test_nobody_but_a_superuser_makes_a_superuser(admin):
    user = member("Viewer")
    assert change(admin, user, is_superuser="on").status_code == 302
    user.refresh_from_db()
    assert not user.is_superuser
    root = signed_in(User.objects.create_superuser("root"))
    change(root, user, is_superuser="on")
    user.refresh_from_db()
    assert user.is_superuser


def test_nobody_gives_a_group_with_more_rights_than_their_own(admin):
    beyond = Group.objects.create(name="Beyond")
    beyond.permissions.add(Permission.objects.get(codename="delete_session"))
    user = member("Viewer")
    answer = change(admin, user, groups=[beyond.pk])
    assert answer.status_code == 200
    assert answer.context["errors"]
    assert [group.name for group in user.groups.all()] == ["Viewer"]


@pytest.mark.parametrize("is_active", [True, False])
def test_an_account_with_more_rights_is_out_of_reach_even_while_it_is_not_active(admin, is_active):
    stronger = User.objects.create_user("stronger", is_staff=True, is_active=is_active)
    stronger.user_permissions.add(Permission.objects.get(codename="delete_session"))
    assert all(admin.post(url, {"post": "yes"}).status_code == 403 for url in pages_of(stronger))
    assert User.objects.filter(username="stronger").exists()


def test_deleting_an_account_asks_about_the_account_and_nothing_inside_it(admin):
    user = member("Viewer")
    url = reverse("admin:auth_user_delete", args=[user.pk])
    asked = admin.get(url).text
    assert "Users: 1" in asked
    assert ">viewer</a>" in asked
    assert "relationship" not in asked
    admin.post(url, {"post": "yes"})
    assert not User.objects.filter(username="viewer").exists()


def test_rights_of_one_account_alone_are_not_handed_out(admin):
    user = member("Viewer")
    right = Permission.objects.get(codename="manage_keys")
    change(admin, user, user_permissions=[right.pk])
    assert not User.objects.get(pk=user.pk).has_perm("ingestion.manage_keys")


def test_groups_can_be_looked_at_and_not_changed():
    root = signed_in(User.objects.create_superuser("root"))
    group = Group.objects.get(name="Viewer")
    url = reverse("admin:auth_group_change", args=[group.pk])
    assert "See queues, uploads and rejections, without payloads" in root.get(url).text
    assert root.post(url, {"name": "Mine"}).status_code == 403
    assert root.post("/admin/auth/group/add/", {"name": "Mine"}).status_code == 403
    delete = reverse("admin:auth_group_delete", args=[group.pk])
    assert root.post(delete, {"post": "yes"}).status_code == 403
    assert set(Group.objects.values_list("name", flat=True)) == set(GROUPS)
