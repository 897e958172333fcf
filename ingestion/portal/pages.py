"""How a page of the portal is made: who may open it, and the shell around it."""

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
    """The signed-in person lacks a right; `right` is its codename."""

    def __init__(self, right: str) -> None:
        super().__init__(right)
        self.right = right

    @property
    def name(self) -> str | None:
        """The right as people read it, as `Right` declares it."""
        permission = Permission.objects.filter(
            content_type__app_label="ingestion", codename=self.right
        ).first()
        return permission.name if permission else None


def portal_view(
    right: str, *, methods: Sequence[str] = ("GET", "HEAD")
) -> Callable[[View[Rest]], View[Rest]]:
    """Make a view a page of the portal, or an action of one.

    `right` is a codename of `ingestion.models.Right`. Who is not signed in as staff is sent to
    sign in and comes back; who lacks the right gets a page with 403; another method than
    `methods` gets 405. A POST needs the CSRF token, and no answer is cached.

    A page reads only, so it keeps the default methods. A change is a view of its own, at an
    address of its own, with the right of that very change and `methods=["POST"]`; it ends in a
    redirect. A form that comes back with its errors is one view with `["GET", "HEAD", "POST"]`.

        @portal_view("view_portal")
        def queue(request: HttpRequest, kind: RecordType) -> HttpResponse:
            return page(request, "portal/queues/queue.html", title="Sessions", context={"queue": …})

        @portal_view("pause_queue", methods=["POST"])
        def pause(request: HttpRequest, kind: RecordType) -> HttpResponse:
            …
            activity.record(request, Activity.Action.PAUSED, record_type=kind, reason=…)
            messages.success(request, "The queue is paused.")
            return redirect("admin:queue", kind)

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
    """Render `template`, which extends `portal/base.html`, in the shell.

    `title` is heading, tab and last crumb; `crumbs` are the (title, address) between Overview
    and it.
    """
    document = render_to_string(
        template,
        {**site.each_context(request), "title": title, "crumbs": crumbs, **(context or {})},
        request,
    )
    # What a file holds may be no text; it is shown to somebody who says what it is.
    return HttpResponse(document.encode(errors="replace"), status=status)


class RecordTypeConverter:
    """`<record_type:NAME>` in an address: the `RecordType` by its path; others are not found."""

    regex = "[a-z0-9_-]+"

    def to_python(self, value: str) -> RecordType:
        """The record type; ValueError, and so 404, if there is none."""
        if value not in RECORD_TYPES:
            raise ValueError
        return RECORD_TYPES[value]

    def to_url(self, value: RecordType | str) -> str:
        """Takes a record type as well as its path."""
        return value.path if isinstance(value, RecordType) else value
