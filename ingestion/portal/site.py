"""The staff portal's site: the stock admin with our navigation and our design."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver

from ingestion import queues
from ingestion.portal import navigation
from ingestion.portal.lists import PortalAdmin

_View = TypeVar("_View", bound=Callable[..., HttpResponseBase])

# No page of ours makes an address with one of these characters, or with a value of this length.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_VALUE = 2000
# Views of the stock admin that look up any model and field that the address names.
_CLOSED = {"autocomplete", "view_on_site"}


class PortalSite(AdminSite):
    """The admin with our templates. Pages without a model are in `ingestion.portal.urls`.

    Only staff (`is_staff`) may enter. The permissions of a person say what they may do.
    """

    site_title = site_header = "TutorMax ingestion"
    empty_value_display = ""
    enable_nav_sidebar = False  # our own navigation stands in its place
    login_template = "portal/sign_in.html"
    logout_template = "portal/signed_out.html"
    password_change_template = "portal/password.html"  # noqa: S105 (a template's name)
    password_change_done_template = "portal/password_changed.html"  # noqa: S105

    def register(  # type: ignore[override]
        self, model_or_iterable: Any, admin_class: type[PortalAdmin], **options: Any
    ) -> None:
        """Accept a list only if nobody can ask it for more than it shows."""
        if not issubclass(admin_class, PortalAdmin):
            raise TypeError(f"{admin_class.__name__} must be a PortalAdmin.")
        super().register(model_or_iterable, admin_class, **options)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """The addresses without the views that look up anything for anybody."""
        return [url for url in super().get_urls() if getattr(url, "name", None) not in _CLOSED]

    def admin_view(self, view: _View, cacheable: bool = False) -> _View:
        """The view, for staff only; 400 for an address that no page of this site makes.

        All pages use this, so values that the database or the store cannot take never reach them.
        """

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            asked = (text for name, values in request.GET.lists() for text in (name, *values))
            if any(len(t) > _LONGEST_VALUE or _CONTROL.search(t) for t in (request.path, *asked)):
                raise BadRequest("No page of this site makes such an address.")
            return view(request, *args, **kwargs)

        return super().admin_view(cast(_View, guarded), cacheable)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """The context of every page, also of the stock pages."""
        return super().each_context(request) | {
            "navigation": navigation.sections(request),
            "environment_name": settings.ENVIRONMENT_NAME,
            "version": settings.VERSION,
            # Only a template that shows it calls it. Pages that read the store themselves do not.
            "store_trouble": _store_trouble,
        }

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The sign-in page, in our words."""
        return super().login(request, {"title": "Sign in", **(extra_context or {})})

    def logout(  # type: ignore[override]  # the stubs say TemplateResponse, Django redirects as well
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Sign out, in our words."""
        return super().logout(request, {"title": "You are signed out", **(extra_context or {})})

    def app_index(  # type: ignore[override]
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The navigation has no apps, so the stock pages of an app show the overview instead."""
        return redirect("admin:index")


def _store_trouble() -> str:
    """Why the store cannot take anything now; empty if all is well. One round trip."""
    reasons = queues.health().reasons
    return reasons[0].for_staff if reasons else ""


# Django's own templates find the site's addresses by this name.
site = PortalSite(name="admin")
