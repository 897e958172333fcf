"""Limits what a person can ask of a list of the stock admin to what the page itself offers.

The stock admin accepts any lookup of any field in the address. So people could find out the value
of a field that they may not see, letter by letter. They could also send their own patterns to a
regular expression engine. Here an address may hold only the parameters that the page itself makes.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin, ShowFacets
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import (
    IS_FACETS_VAR,
    IS_POPUP_VAR,
    TO_FIELD_VAR,
    IncorrectLookupParameters,
)
from django.contrib.admin.views.main import ERROR_FLAG, SEARCH_VAR, ChangeList
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern

# The stock admin ignores these. No page here makes them.
_NOT_OURS = {IS_FACETS_VAR, IS_POPUP_VAR, TO_FIELD_VAR, ERROR_FLAG}
_LONGEST_SEARCH = 200
_MOST_DIGITS = 18  # every database can compare numbers of this length


class _SearchForm(forms.Form):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[SEARCH_VAR] = forms.CharField(
            required=False, strip=False, max_length=_LONGEST_SEARCH
        )


class PortalChangeList(ChangeList):
    """A list that refuses (400) everything that it does not offer, before it asks the database."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        if not _NOT_OURS.isdisjoint(request.GET) or not _SearchForm(request.GET).is_valid():
            raise BadRequest("This list does not have this parameter.")
        super().__init__(request, *args, **kwargs)

    def get_filters(self, request: HttpRequest) -> Any:
        """The filters of the page and its date hierarchy; any other parameter is refused."""
        try:
            found = super().get_filters(request)
        # Errors with which the stock admin refuses a parameter, and a day outside the calendar.
        except (DisallowedModelAdminLookup, OverflowError, ValueError) as fault:
            raise IncorrectLookupParameters(fault) from fault
        if self.query and not self.search_fields:
            raise IncorrectLookupParameters
        day = self.date_hierarchy
        by_date = {f"{day}__gte", f"{day}__lt"} if f"{day}__year" in self.params else set()
        if found[2].keys() - by_date:
            raise IncorrectLookupParameters
        return found


class PortalAdmin(ModelAdmin):  # type: ignore[type-arg]  # generic for mypy alone
    """The base of all lists of the portal; the site registers no other.

    A person can search, filter and sort a list only by what it shows. `list_title` is its heading.
    """

    list_title = ""
    show_facets = ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list with limited parameters."""
        return PortalChangeList

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The list; 400 for a value that no filter accepts, or for a page after the last."""
        try:
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters as fault:
            raise BadRequest("This list does not have this value.") from fault

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list with its own title."""
        return super().changelist_view(request, {"title": self.list_title, **(extra_context or {})})

    def response_action(  # type: ignore[override]  # the stubs know an argument of Django 6
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        """The action; the chosen entries must be numbers."""
        for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if not (chosen.isascii() and chosen.isdigit() and len(chosen) <= _MOST_DIGITS):
                raise BadRequest("No entry has this name.")
        return super().response_action(request, queryset)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Always empty: a link cannot fill in a form."""
        return {}

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Always False: no form of the portal opens another form to choose an object."""
        return False


class ListOnly(PortalAdmin):
    """A list that can only be viewed, by all who may view the portal. Entries have own pages."""

    list_display_links = None
    list_per_page = 50
    show_full_result_count = False

    def get_urls(self) -> list[URLPattern]:
        """Only the address of the list."""
        return [url for url in super().get_urls() if str(url.name).endswith("_changelist")]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Everybody who may view the portal."""
        return request.user.has_perm("ingestion.view_portal")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Everybody who may view the portal."""
        return request.user.has_perm("ingestion.view_portal")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False
