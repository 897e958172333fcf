"""People of the staff, for the portal's tests."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import URLPattern, reverse

from ingestion.portal.urls import pages

GROUPS = ("Viewer", "Uploader", "Operator", "Admin")


def member(group: str) -> User:
    """A new account in one of the groups that the migration makes."""
    user = User.objects.create_user(group.lower(), password="correct horse", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return user


def signed_in(user: User, **options: Any) -> Client:
    """A browser in which `user` is signed in; `options` are the client's own."""
    client = Client(**options)
    client.force_login(user)
    return client


def address(page: URLPattern) -> str:
    """The page's address, with a value for each parameter."""
    given = {"record_type": "sessions", "file_format": "csv"}
    parts = {name: given.get(name, 1) for name in page.pattern.converters}
    return reverse(f"admin:{page.name}", kwargs=parts)


# Lists of the stock admin check their own permission.
_LISTS = {"uploads": "view_portal"}


def right_of(page: URLPattern) -> str:
    """The right that the page asks for."""
    return getattr(page.callback, "right", None) or _LISTS[str(page.name)]


PAGES = {page.name: page for page in pages}
"""Every page and action of the portal by its name."""
