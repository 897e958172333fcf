"""How a page of the portal is made: who may open it, and what surrounds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string

from ingestion.portal.site import site
from ingestion.records import RECORD_TYPES, RecordType

Rest = ParamSpec("Rest")
View = Callable[Concatenate[HttpRequest, Rest], HttpResponseBase]


class RightMissing(PermissionDenied):
    """The signed-in person lacks a permission; `right` is its codename."""

    def __init__(self, right: str) -> None:
        super().__init__(right)
        self.right = right

    @property
    def name(self) -> str | None:
        """The name of the permission for people, as `Right` declares it."""
        permission = Permission.objects.filter(
            content_type__app_label="ingestion", codename=self.right
        ).first()
        return permission.name if permission else None


def portal_view(
    right: str, *, methods: Sequence[str] = ("GET", "HEAD")
) -> Callable[[View[Rest]], View[Rest]]:
    """Make a view a page of the portal, or an action of a page.

    `right` is a codename of `ingestion.models.Right`. People who are not signed in as staff must
    sign in first and then come back. People without the right get a page with 403. A method that
    is not in `methods` gets 405. A POST needs the CSRF token, and no answer is cached.

    A page only reads, so it keeps the default methods. Each change is a separate view with its own
    address, the right for this change, and `methods=["POST"]`; it ends in a redirect. A form that
    can come back with errors is one view with `["GET", "HEAD", "POST"]`.

        @portal_view("view_portal")
        def queue(request: HttpRequest, record_type: RecordType) -> HttpResponse:
            return page(request, "portal/queues/queue.html", title="Sessions", context={"queue": …})

        @portal_view("pause_queue", methods=["POST"])
        def pause(request: HttpRequest, record_type: RecordType) -> HttpResponse:
            …
            activity.record(request, Activity.Action.PAUSED, record_type=record_type, reason=…)
            messages.success(request, "The queue is paused.")
            return redirect("admin:queue", record_type)

    In templates, `{% if perms.ingestion.pause_queue %}` hides what would be refused.
    """

    def decorate(view: View[Rest]) -> View[Rest]:
        @wraps(view)
        def guarded(
            request: HttpRequest, *args: Rest.args, **kwargs: Rest.kwargs
        ) -> HttpResponseBase:
            if request.method not in methods:
                return _only_by_a_button(request, methods)
            if not request.user.has_perm(f"ingestion.{right}"):
                raise RightMissing(right)
            return view(request, *args, **kwargs)

        guarded.right = right  # type: ignore[attr-defined]  # tests go over all pages by it
        return site.admin_view(guarded)  # type: ignore[return-value]

    return decorate


def _only_by_a_button(request: HttpRequest, methods: Sequence[str]) -> HttpResponse:
    answer = page(
        request,
        "portal/error.html",
        title="Open this page with its button",
        context={
            "sentence": "Its address alone does nothing, and nothing was changed.",
            "advice": "Go to the page of the queue or the upload and press the button there again.",
        },
        status=HTTPStatus.METHOD_NOT_ALLOWED,
    )
    answer["Allow"] = ", ".join(methods)
    return answer


def page(
    request: HttpRequest,
    template: str,
    *,
    title: str,
    crumbs: Sequence[tuple[str, str]] = (),
    context: Mapping[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    """Render `template`, which extends `portal/base.html`, with the portal's frame.

    `title` is the heading, the title of the tab, and the last breadcrumb. `crumbs` are the
    breadcrumbs (title, address) between Overview and this page.
    """
    document = render_to_string(
        template,
        {**site.each_context(request), "title": title, "crumbs": crumbs, **(context or {})},
        request,
    )
    # A file may hold what is not text. It is shown to staff, who then say how to read the file.
    return HttpResponse(document.encode(errors="replace"), status=status)


class RecordTypeConverter:
    """`<record_type:NAME>` in an address: the `RecordType` by its path; 404 for other names."""

    regex = "[a-z0-9_-]+"

    def to_python(self, value: str) -> RecordType:
        """The record type; ValueError, which becomes a 404, if there is none."""
        if value not in RECORD_TYPES:
            raise ValueError
        return RECORD_TYPES[value]

    def to_url(self, value: RecordType | str) -> str:
        """The path; accepts a record type or its path."""
        return value.path if isinstance(value, RecordType) else value
