"""The staff portal's site: the stock admin as shell, with our navigation and our look."""

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

# No page of ours makes an address that holds one of these characters, or a value that long.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_VALUE = 2000
# Views of the stock admin that look up whatever model and field the address names.
_CLOSED = {"autocomplete", "view_on_site"}


class PortalSite(AdminSite):
    """The admin under our own templates. Pages that are no models' are in `ingestion.portal.urls`.

    Who may come in at all is staff (`is_staff`); what somebody may do there are their rights.
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
        """Take a list in; only one that lets nobody ask for more than it shows."""
        if not issubclass(admin_class, PortalAdmin):
            raise TypeError(f"{admin_class.__name__} must be a PortalAdmin.")
        super().register(model_or_iterable, admin_class, **options)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Without the views that would look up anything for anybody."""
        return [url for url in super().get_urls() if getattr(url, "name", None) not in _CLOSED]

    def admin_view(self, view: _View, cacheable: bool = False) -> _View:
        """The view for staff alone; 400 for an address that no page of this site makes.

        All pages pass here, so what the databases and the store cannot take never reaches them.
        """

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            asked = (text for name, values in request.GET.lists() for text in (name, *values))
            if any(len(t) > _LONGEST_VALUE or _CONTROL.search(t) for t in (request.path, *asked)):
                raise BadRequest("No page of this site makes such an address.")
            return view(request, *args, **kwargs)

        return super().admin_view(cast(_View, guarded), cacheable)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """What every page gets, the stock ones included."""
        return super().each_context(request) | {
            "navigation": navigation.sections(request),
            "environment_name": settings.ENVIRONMENT_NAME,
            "version": settings.VERSION,
            # Called where a template shows it; pages that read the store by themselves do not.
            "store_trouble": _store_trouble,
        }

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page to sign in, in our words."""
        return super().login(request, {"title": "Sign in", **(extra_context or {})})

    def logout(  # type: ignore[override]  # the stubs say TemplateResponse, Django redirects as well
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Sign out, in our words."""
        return super().logout(request, {"title": "You are signed out", **(extra_context or {})})

    def app_index(  # type: ignore[override]
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The navigation knows no apps: their pages of the stock admin are the overview."""
        return redirect("admin:index")


def _store_trouble() -> str:
    """Why the store can take nothing at present; nothing if it is well. One round trip."""
    reasons = queues.health().reasons
    return reasons[0].for_staff if reasons else ""


# By this name Django's own templates find the site's addresses.
site = PortalSite(name="admin")
