"""The dead letters of one queue: view them, put them back, or discard them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django import forms
from django.contrib import messages as notices
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from ingestion import queues
from ingestion.models import Activity
from ingestion.outcomes import StoreError
from ingestion.portal.pages import page, portal_view
from ingestion.portal.queues import figures, listing
from ingestion.portal.queues.asking import ask, failed
from ingestion.portal.queues.forms import DiscardForm, PutBackForm
from ingestion.portal.queues.listing import WINDOW
from ingestion.portal.store_changes import store_change
from ingestion.queues import MAX_ATTEMPTS, REACH, DeadLetter
from ingestion.records import RecordType

_PAGE = "admin:dead-letters"
_CHANGES = {
    Activity.Action.PUT_BACK: (queues.put_back_dead, "put back"),
    Activity.Action.DISCARDED: (queues.discard_dead, "discarded"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One dead letter in the list, without its content and the reason of its failure."""

    letter: DeadLetter
    listed: listing.Row
    dead_seconds: float | None


@portal_view("view_portal")
def dead_letters(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """GET /admin/queues/<type>/dead/: three round trips to the store for any number of them.

    `order` is `newest` or `oldest`, `page` counts from 1.
    """
    newest_first = request.GET.get("order") == "newest"
    number = listing.page_number(request)
    shown = {
        "record_type": record_type,
        "newest_first": newest_first,
        "attempts": MAX_ATTEMPTS,
        "reach": REACH,
    }
    try:
        letters = queues.dead_letters(
            record_type.queue, first=(number - 1) * WINDOW, count=WINDOW, newest_first=newest_first
        )
        total = _how_many(record_type)
    except StoreError as fault:
        shown["reading"] = figures.away(fault)
    else:
        shown |= {"rows": list(_rows(record_type, letters)), "total": total}
        shown |= listing.pager(total, len(letters), number)
    title = f"Dead letters of {record_type.path}"
    return page(request, "portal/queues/dead_letters.html", title=title, context=shown)


@portal_view("see_payloads", methods=["POST"])
def show(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """The content of one dead letter and why it failed; the reason may quote the record.

    It is a POST, because the activity log notes who looked at what.
    """
    name = request.POST.get("message", "")
    try:
        letter = _listed(record_type, newest_first=_newest_first(request)).get(name)
    except StoreError as fault:
        return failed(request, record_type, fault, _PAGE)
    if letter is None:
        notices.warning(request, "This dead letter is gone: it was put back or discarded.")
        return redirect(_PAGE, record_type)
    (row,) = _rows(record_type, [letter])
    shown = listing.opened(request, record_type, row.listed) | {"dead": row}
    return page(request, "portal/queues/dead_letter.html", title="Dead letter", context=shown)


@portal_view("discard_messages", methods=["POST"])
def put_back(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Put the chosen dead letters back on the queue, to be taken next.

    The first POST comes from the list and names them; the second has `reason` and confirms.
    """
    names = _chosen(request)
    form = PutBackForm(request.POST if "reason" in request.POST else None)
    if names and form.is_valid():
        return _settle(
            request, record_type, Activity.Action.PUT_BACK, names, form.cleaned_data["reason"]
        )
    return _confirm(request, record_type, names, form, "portal/queues/put_back_dead.html")


@portal_view("discard_messages", methods=["POST"])
def discard(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Discard the chosen dead letters for good, after a reason and their number were given.

    The first POST comes from the list and names them; the second has `count` and confirms.
    """
    names = _chosen(request)
    form = DiscardForm(request.POST if "count" in request.POST else None, chosen=len(names))
    if names and form.is_valid():
        return _settle(
            request, record_type, Activity.Action.DISCARDED, names, form.cleaned_data["reason"]
        )
    return _confirm(request, record_type, names, form, "portal/queues/discard_dead.html")


@portal_view("discard_messages", methods=["GET", "HEAD", "POST"])
def put_all_back(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Put all dead letters back on the queue, to be taken next."""
    form = PutBackForm(request.POST if request.method == "POST" else None)
    try:
        total = _how_many(record_type)
    except StoreError as fault:
        return failed(request, record_type, fault, _PAGE)
    if not total:
        notices.info(request, "There are no dead letters left.")
        return redirect(_PAGE, record_type)
    if not form.is_valid():
        title = f"Dead letters of {record_type.path}"
        return ask(
            request,
            record_type,
            form,
            "portal/queues/put_back_dead.html",
            title,
            back=_PAGE,
            total=total,
        )
    try:
        with store_change(
            request,
            Activity.Action.PUT_BACK,
            record_type=record_type,
            reason=form.cleaned_data["reason"],
            facts={"dead_letters": total},
            in_slices=True,
        ) as change:
            change.note()  # in advance: this process may be killed before all are put back
            count = queues.put_back_all_dead(record_type.queue)
    except StoreError as fault:
        return failed(request, record_type, fault, _PAGE)
    notices.success(request, f"{intcomma(count)} put back: the next consumer takes them first.")
    return redirect(_PAGE, record_type)


def _settle(
    request: HttpRequest,
    record_type: RecordType,
    what: Activity.Action,
    names: Sequence[str],
    reason: str,
) -> HttpResponse:
    """Make the change, note it, and say how many were still there."""
    settle, done = _CHANGES[what]
    newest = _newest_first(request)
    try:
        listed = _listed(record_type, newest_first=newest)
        raws = [listed[name].message.raw for name in names if name in listed]
        if newest:
            raws.reverse()
        facts = {"dead_letters": len(raws)}
        with store_change(
            request, what, record_type=record_type, reason=reason, facts=facts
        ) as change:
            count = settle(record_type.queue, raws, newest=newest)
            change.happened = bool(count)
            change.facts["dead_letters"] = count
    except StoreError as fault:
        return failed(request, record_type, fault, _PAGE)
    if not count:
        notices.warning(request, f"Nothing was {done}: somebody else was faster.")
    elif count < len(names):
        others = "somebody else was faster with the others"
        notices.warning(request, f"{count} of {len(names)} were {done}; {others}.")
    else:
        notices.success(request, f"{count} {done}.")
    return redirect(_PAGE, record_type)


def _confirm(
    request: HttpRequest,
    record_type: RecordType,
    names: Sequence[str],
    form: forms.Form,
    template: str,
) -> HttpResponse:
    if not names:
        notices.warning(request, "Select at least one dead letter.")
        return redirect(_PAGE, record_type)
    return ask(
        request,
        record_type,
        form,
        template,
        f"Dead letters of {record_type.path}",
        back=_PAGE,
        names=names,
        total=len(names),
        newest=_newest_first(request),
    )


def _chosen(request: HttpRequest) -> list[str]:
    names = request.POST.getlist("message")
    if len(names) > WINDOW:
        raise BadRequest("More dead letters than one page shows.")
    return names


def _newest_first(request: HttpRequest) -> bool:
    return request.POST.get("order") == "newest"


def _how_many(record_type: RecordType) -> int:
    (consumption,) = queues.consumption([record_type.queue])
    return consumption.dead


def _listed(record_type: RecordType, *, newest_first: bool) -> dict[str, DeadLetter]:
    """The dead letters that can be reached from one end, by name."""
    letters = queues.dead_letters(
        record_type.queue, first=0, count=REACH, newest_first=newest_first
    )
    return {one.message.name: one for one in letters}


def _rows(record_type: RecordType, letters: Sequence[DeadLetter]) -> Iterator[Row]:
    now = datetime.now(UTC)
    listed = listing.rows(record_type, [one.message for one in letters])
    for letter, row in zip(letters, listed, strict=True):
        died_at = letter.died_at
        yield Row(
            letter=letter,
            listed=row,
            dead_seconds=max(0.0, (now - died_at).total_seconds()) if died_at else None,
        )
