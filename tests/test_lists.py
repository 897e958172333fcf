"""No list reveals more than it shows: every role tries every field and lookup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db.models import Field, ForeignObjectRel, Model
from django.urls import NoReverseMatch, reverse

from ingestion.models import Activity, Upload
from ingestion.portal.site import PortalSite, site
from tests.staff import GROUPS, member, signed_in

pytestmark = pytest.mark.django_db

LISTS = {
    "/admin/uploads/": Upload,
    "/admin/ingestion/upload/": Upload,
    "/admin/ingestion/activity/": Activity,
    "/admin/auth/user/": User,
    "/admin/auth/group/": Group,
}


def paths(model: type[Model], depth: int = 2) -> Iterator[tuple[str, Any]]:
    """Every field that a person could ask the admin for, also through relations, by its path."""
    for field in model._meta.get_fields(include_hidden=True):
        yield field.name, field
        if isinstance(field, Field) and field.name != field.attname:
            yield field.attname, field
        if depth and field.related_model:
            for path, inner in paths(field.related_model, depth - 1):
                yield f"{field.name}__{path}", inner


def offered(model: type[Model]) -> set[str]:
    """The parameters that the list of this model makes itself."""
    own = {
        Upload: {"state", "record_type", "uploaded_by__id"},
        Activity: {"action", "record_type", "user__id"},
        User: {"groups__id", "is_active", "is_superuser"},
        Group: set(),
    }[model]
    empty = {name.removesuffix("__id") for name in own}
    return {f"{name}__exact" for name in own} | {f"{name}__isnull" for name in empty}


def all_lookups(model: type[Model]) -> Iterator[str]:
    """Each path with each lookup of its field, or of a part of the field."""
    for path, field in paths(model):
        yield path
        concrete = field.target_field if isinstance(field, ForeignObjectRel) else field
        for name, lookup in concrete.get_lookups().items():
            yield f"{path}__{name}"
            if hasattr(lookup, "get_lookups"):  # a transform, like the year of a date
                yield from (f"{path}__{name}__{inner}" for inner in lookup.get_lookups())


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("model", [Upload, Activity, User, Group], ids=lambda model: model.__name__)
def test_no_list_takes_a_lookup_that_it_does_not_offer(rf, model, group):
    user = member(group)
    user.get_all_permissions()
    admin = site.get_model_admin(model)
    # A person who may not open the list is refused anyway.
    admin.has_view_permission = lambda *_: True  # type: ignore[method-assign]
    asked = sorted(set(all_lookups(model)) - offered(model))
    assert len(asked) > 500
    if group != "Viewer":  # what a list offers does not depend on permissions
        asked = [lookup for lookup in asked if lookup.endswith(("__regex", "__isnull"))]
    try:
        for lookup in asked:
            request = rf.get("/", {lookup: "a"})
            request.user = user
            with pytest.raises((BadRequest, SuspiciousOperation)):
                admin.changelist_view(request)
    finally:
        del admin.has_view_permission


SECRET = "needle"


@pytest.fixture
def secretive() -> tuple[Upload, ...]:
    """Two uploads that look alike to a viewer; the first holds a word that viewers may not see."""
    root = User.objects.create_superuser("root", password="correct horse")
    pair = []
    for word in (SECRET, "hay"):
        parent = Upload.objects.create(file_name="p.csv", size_bytes=1, findings={"x": word})
        upload = Upload.objects.create(
            file_name="a.csv",
            size_bytes=1,
            uploaded_by=root,
            parent=parent,
            findings={"good": [[word]]},
            layout={"x": word},
            fixes={"1": {"name": word}},
            verdicts=word.encode(),
            file=word,
            error_file=word,
            claim=word,
            waiting=word,
            failure=word,
        )
        pair.append(upload)
    return tuple(pair)


def rows(answer: Any) -> list[int]:
    return [one.pk for one in answer.context["cl"].result_list]


GUESSES = (
    "findings__icontains",
    "layout__icontains",
    "fixes__1__name",
    "verdicts__contains",
    "file__startswith",
    "error_file",
    "failure__contains",
    "parent__findings__icontains",
    "parent__findings__x",
    "uploaded_by__password__startswith",
    "uploaded_by__password__regex",
    "uploaded_by__email",
    "activities__facts__icontains",
    "children__verdicts",
    "sha256__regex",
    "uploaded_at__year__gte",
    "uploaded_at__gte",
    "no_such_field",
)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_right_and_wrong_guesses_are_answered_the_same(secretive, group):
    browser = signed_in(member(group))
    token = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')
    for lookup in GUESSES:
        answers = [browser.get("/admin/uploads/", {lookup: text}) for text in (SECRET, "wrong")]
        assert [answer.status_code for answer in answers] == [400, 400], lookup
        right, wrong = (token.sub("", answer.text) for answer in answers)
        assert right == wrong
        assert "This request cannot be read" in wrong


@pytest.mark.parametrize("group", GROUPS)
def test_no_search_finds_what_the_list_does_not_show(secretive, group):
    browser = signed_in(member(group))
    for address in LISTS:
        answer = browser.get(address, {"q": SECRET})
        assert answer.status_code in (400, 403) or rows(answer) == []
        assert SECRET not in re.sub(f'value="{SECRET}"|q(=|%3D){SECRET}', "", answer.text)
    assert SECRET not in browser.get("/admin/uploads/").text


@pytest.mark.parametrize("group", ["Viewer", "Admin"])
def test_no_order_depends_on_what_the_list_does_not_show(secretive, group):
    browser = signed_in(member(group))
    orders = [*map(str, range(10)), "-3", "password", "-findings", "-", "1.-2..x"]
    before = {order: rows(browser.get("/admin/uploads/", {"o": order})) for order in orders}
    hidden = ("findings", "layout", "fixes", "verdicts", "file", "error_file", "claim", "failure")
    one, other = ({name: getattr(upload, name) for name in hidden} for upload in secretive)
    for upload, values in zip(secretive, (other, one), strict=True):
        Upload.objects.filter(pk=upload.pk).update(**values)
    assert before == {order: rows(browser.get("/admin/uploads/", {"o": order})) for order in orders}


def test_a_password_is_in_no_list_and_on_no_page_of_an_account():
    root = User.objects.create_superuser("root", password="correct horse")
    browser = signed_in(member("Admin"))
    digest = root.password.split("$")[-1]
    for name in ("changelist", "change", "history", "delete", "password_change"):
        parts = [] if name == "changelist" else [root.pk]
        answer = browser.get(reverse(f"admin:auth_user_{name}", args=parts))
        assert digest not in answer.text
        assert digest[:12] not in answer.text
    assert rows(browser.get("/admin/auth/user/", {"q": digest[:6]})) == []


# --- What lists do offer -----------------------------------------------------------------------


def test_what_a_list_offers_works(secretive):
    browser = signed_in(member("Viewer"))
    offers = set(re.findall(r'href="(\?[^"]+)"', browser.get("/admin/uploads/").text))
    assert len(offers) > 15
    for offer in offers:
        assert browser.get("/admin/uploads/" + offer.replace("&amp;", "&")).status_code == 200
    now = secretive[0].uploaded_at
    day = {f"uploaded_at__{part}": getattr(now, part) for part in ("year", "month", "day")}
    assert len(rows(browser.get("/admin/uploads/", day))) == 4
    assert rows(
        browser.get("/admin/uploads/", {"q": "a.csv", "state__exact": "inspecting", "o": "1"})
    )
    assert rows(browser.get("/admin/uploads/", {**day, "uploaded_at__year": 1999})) == []


UNREADABLE = (
    {"q": "a " * 2000},
    {"q": "x" * 201},
    {"q": "a\x00b"},
    {"uploaded_at__year": "99999999"},
    {"uploaded_at__year": "0"},
    {"uploaded_at__year": "9999"},
    {"uploaded_at__year": "9999", "uploaded_at__month": "12", "uploaded_at__day": "31"},
    {"uploaded_at__year": "2024", "uploaded_at__month": "13"},
    {"uploaded_at__month": "1"},
    {"uploaded_by__id__exact": "x"},
    {"verdicts": "odd"},
    {"p": "99999999999999999999"},
    {"_popup": "1"},
    {"_to_field": "id"},
    {"_facets": "True"},
    {"e": "1"},
)


def test_a_value_that_no_list_can_take_is_a_page_that_says_so(secretive, viewer):
    for number in range(60):
        Upload.objects.create(file_name=f"{number}.csv", size_bytes=1)
    for query in UNREADABLE:
        answer = viewer.get("/admin/uploads/", query)
        assert answer.status_code == 400, query
        assert "This request cannot be read" in answer.text


def test_an_action_on_what_is_no_entry_is_refused():
    browser = signed_in(member("Admin"))
    for chosen in ("x", "-1", "9" * 40, "1 or 1", "\x00"):
        crafted = {"action": "export", "_selected_action": [chosen], "index": "7"}
        assert browser.post("/admin/ingestion/activity/", crafted).status_code == 400
        crafted["action"] = "delete_selected"
        assert browser.post("/admin/auth/user/", crafted).status_code == 400


def test_only_closed_lists_can_be_registered():
    with pytest.raises(TypeError):
        PortalSite().register(Group, ModelAdmin)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["autocomplete", "view_on_site"])
def test_views_that_look_up_anything_are_not_there(name):
    with pytest.raises(NoReverseMatch):
        reverse(f"admin:{name}", args=[1, 1] if name == "view_on_site" else [])
    browser = signed_in(User.objects.create_superuser("root"))
    for address in ("/admin/autocomplete/", "/admin/r/1/1/"):
        assert browser.get(address).status_code == 404


def test_a_link_fills_in_no_form_of_an_account():
    viewer = Group.objects.get(name="Viewer")
    browser = signed_in(User.objects.create_superuser("root"))
    link: dict[str, Any] = {"username": "evil", "groups": viewer.pk, "is_superuser": "on"}
    answer = browser.get("/admin/auth/user/add/", link)
    assert "evil" not in re.sub(r"<form[^>]*>", "", answer.text)
