"""Changes of a queue by staff: pause and resume it, discard messages and put them back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from django.contrib import messages as notices
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from ingestion import queues
from ingestion.models import Activity
from ingestion.outcomes import StoreError
from ingestion.portal.forms import ReasonForm
from ingestion.portal.pages import portal_view
from ingestion.portal.queues.asking import ask, failed
from ingestion.portal.queues.forms import DiscardForm, PauseForm
from ingestion.portal.queues.listing import WINDOW
from ingestion.portal.store_changes import store_change
from ingestion.queues import REACH, Pause
from ingestion.records import RecordType

logger = structlog.get_logger(__name__)

# The chosen messages may have moved on before they are discarded.
_REACH_OF_A_DISCARD = 2 * REACH


@portal_view("pause_queue", methods=["GET", "HEAD", "POST"])
def pause(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Ask for a reason and a duration, then refuse new messages on the queue."""
    form = PauseForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return ask(
            request, record_type, form, "portal/queues/pause.html", f"Pause {record_type.path}"
        )
    reason, minutes = form.cleaned_data["reason"], form.cleaned_data["minutes"]
    now = datetime.now(UTC)
    until = now + timedelta(minutes=minutes) if minutes else None
    wanted = Pause(reason=reason, by=request.user.get_username(), since=now, until=until)
    facts = {"minutes": minutes} if minutes else {}
    try:
        with store_change(
            request, Activity.Action.PAUSED, record_type=record_type, reason=reason, facts=facts
        ):
            queues.pause_queue(record_type.queue, wanted)
    except StoreError as fault:
        return failed(request, record_type, fault)
    notices.success(request, "The queue is paused: it takes nothing until it is resumed.")
    return redirect("admin:queue", record_type)


@portal_view("pause_queue", methods=["GET", "HEAD", "POST"])
def resume(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Ask for a reason, then accept new messages on the queue."""
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return ask(
            request, record_type, form, "portal/queues/resume.html", f"Resume {record_type.path}"
        )
    reason = form.cleaned_data["reason"]
    try:
        with store_change(
            request, Activity.Action.RESUMED, record_type=record_type, reason=reason
        ) as change:
            change.happened = queues.resume_queue(record_type.queue)
    except StoreError as fault:
        return failed(request, record_type, fault)
    if change.happened:
        notices.success(request, "The queue takes messages again.")
    else:
        notices.info(request, "The queue was no longer paused.")
    return redirect("admin:queue", record_type)


@portal_view("discard_messages", methods=["POST"])
def discard(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Ask for a reason and the count, then take the chosen messages off and keep copies of them.

    The first POST comes from the list and names them; the second has `count` and confirms.
    """
    names = request.POST.getlist("message")
    if len(names) > WINDOW:
        raise BadRequest("More messages than one page shows.")
    if not names:
        notices.warning(request, "Select at least one message to discard.")
        return redirect("admin:queue", record_type)
    newest = request.POST.get("order") == "newest"
    form = DiscardForm(request.POST if "count" in request.POST else None, chosen=len(names))
    if not form.is_valid():
        return ask(
            request,
            record_type,
            form,
            "portal/queues/discard.html",
            f"Discard from {record_type.path}",
            names=names,
            newest=newest,
        )
    try:
        taken = _discard(
            request, record_type, names, newest=newest, reason=form.cleaned_data["reason"]
        )
    except StoreError as fault:
        return failed(request, record_type, fault)
    if not taken:
        notices.warning(request, "Nothing was discarded: consumers have taken these messages.")
    elif taken < len(names):
        notices.warning(
            request, f"{taken} of {len(names)} were discarded; consumers took the others first."
        )
    else:
        notices.success(
            request, f"{taken} discarded. For 7 days they can be put back from this page."
        )
    return redirect("admin:queue", record_type)


@portal_view("discard_messages", methods=["POST"])
def put_back(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Put the messages of one discard back on the queue, to be taken next."""
    asked = request.POST.get("copies", "")
    discards = Activity.objects.filter(
        action=Activity.Action.DISCARDED, record_type=record_type, facts__copies=asked
    )
    entry = discards.first() if asked.isalnum() else None
    if entry is None:
        raise BadRequest("This discard does not exist.")
    name = entry.facts["copies"]
    try:
        with store_change(
            request, Activity.Action.PUT_BACK, record_type=record_type, facts={"copies": name}
        ) as change:
            count = queues.put_back(record_type.queue, name)
            change.happened = bool(count)
            change.facts["count"] = count
    except StoreError as fault:
        return failed(request, record_type, fault)
    if count:
        notices.success(request, f"{count} put back: the next consumer takes them first.")
    else:
        notices.warning(request, "There are no copies left: they were put back or have expired.")
    return redirect("admin:queue", record_type)


def _discard(
    request: HttpRequest,
    record_type: RecordType,
    names: Sequence[str],
    *,
    newest: bool,
    reason: str,
) -> int:
    """Take the messages off and note who did it; returns how many were still there."""
    found = queues.named(record_type.queue, names, newest_first=newest)
    raws = [found[name].raw for name in names if name in found]
    if not raws:
        return 0
    copies = uuid.uuid4().hex
    # Without their name the copies could not be put back, so the log gets the name before they
    # exist.
    logger.info("messages_discarding", type=record_type.path, chosen=len(raws), copies=copies)
    facts = {"count": len(raws), "copies": copies}
    with store_change(
        request, Activity.Action.DISCARDED, record_type=record_type, reason=reason, facts=facts
    ) as change:
        taken = queues.take_off(
            record_type.queue, raws, name=copies, newest=newest, within=_REACH_OF_A_DISCARD
        )
        change.happened = bool(taken)
        change.facts["count"] = taken
    return taken
