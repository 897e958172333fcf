"""What every list of the stock admin lets a person ask: what the list itself offers, no more.

The stock admin takes any lookup of any field from the address. That tells what a field holds,
letter by letter, to people who may not see it, and it hands patterns of theirs to a regular
expression engine. Here an address may hold only the parameters that the page makes by itself.
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

# The stock admin passes these over; here no page makes them.
_NOT_OURS = {IS_FACETS_VAR, IS_POPUP_VAR, TO_FIELD_VAR, ERROR_FLAG}
_LONGEST_SEARCH = 200
_MOST_DIGITS = 18  # of a number that every database can compare with its own


class _SearchForm(forms.Form):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[SEARCH_VAR] = forms.CharField(
            required=False, strip=False, max_length=_LONGEST_SEARCH
        )


class PortalChangeList(ChangeList):
    """A list that refuses (400) what it does not offer, before the database is asked."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        if not _NOT_OURS.isdisjoint(request.GET) or not _SearchForm(request.GET).is_valid():
            raise BadRequest("This list does not have this parameter.")
        super().__init__(request, *args, **kwargs)

    def get_filters(self, request: HttpRequest) -> Any:
        """What the filters and the date hierarchy of this page take; nothing else may be left."""
        try:
            found = super().get_filters(request)
        # What the stock admin refuses by itself, and a day beyond the calendar.
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
    """What all lists of the portal have in common; the site registers no other.

    A list searches, filters and sorts by what it shows, and by nothing else. `list_title` is its
    heading.
    """

    list_title = ""
    show_facets = ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The closed one."""
        return PortalChangeList

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The list; 400 for a value that no filter can take, or a page beyond the last."""
        try:
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters as fault:
            raise BadRequest("This list does not have this value.") from fault

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list under its own title."""
        return super().changelist_view(request, {"title": self.list_title, **(extra_context or {})})

    def response_action(  # type: ignore[override]  # the stubs know an argument of Django 6
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        """The action, on entries that are named by numbers."""
        for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if not (chosen.isascii() and chosen.isdigit() and len(chosen) <= _MOST_DIGITS):
                raise BadRequest("No entry has this name.")
        return super().response_action(request, queryset)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Nothing: a form begins with what it has by itself, not with what a link says."""
        return {}

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Never: no form of the portal opens another one to choose from."""
        return False


class ListOnly(PortalAdmin):
    """A list to look at, for whoever may see the portal; what it shows has pages of its own."""

    list_display_links = None
    list_per_page = 50
    show_full_result_count = False

    def get_urls(self) -> list[URLPattern]:
        """The list alone."""
        return [url for url in super().get_urls() if str(url.name).endswith("_changelist")]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whoever may see the portal."""
        return request.user.has_perm("ingestion.view_portal")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may see the portal."""
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
