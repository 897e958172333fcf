"""The staff portal's site: the stock admin as shell, with our navigation and our look."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from ingestion.portal import navigation


class PortalSite(AdminSite):
    """The admin under our own templates. Pages that are no models' are in `ingestion.portal.urls`.

    Who may come in at all is staff (`is_staff`); what somebody may do there are his rights.
    """

    site_title = site_header = "TutorMax ingestion"
    empty_value_display = ""
    enable_nav_sidebar = False  # our own navigation stands in its place
    login_template = "portal/sign_in.html"
    logout_template = "portal/signed_out.html"
    password_change_template = "portal/password.html"  # noqa: S105 (a template's name)
    password_change_done_template = "portal/password_changed.html"  # noqa: S105

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """What every page gets, the stock ones included."""
        return super().each_context(request) | {
            "navigation": navigation.sections(request),
            "environment_name": settings.ENVIRONMENT_NAME,
            "version": settings.VERSION,
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


# By this name Django's own templates find the site's addresses.
site = PortalSite(name="admin")
