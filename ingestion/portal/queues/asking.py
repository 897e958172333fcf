"""What the changes of queues and of dead letters share: the question before, the bad news after."""

from __future__ import annotations

from http import HTTPStatus

from django import forms
from django.contrib import messages as notices
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from ingestion.outcomes import StoreError
from ingestion.portal import outages
from ingestion.portal.pages import page
from ingestion.records import RecordType


def ask(
    request: HttpRequest,
    kind: RecordType,
    form: forms.Form,
    template: str,
    title: str,
    *,
    back: str = "admin:queue",
    **context: object,
) -> HttpResponse:
    """The page that asks before a queue is changed; `back` is where calling it off leads."""
    return page(
        request,
        template,
        title=title,
        context={"kind": kind, "form": form, "back": back, **context},
        status=HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK,
    )


def failed(
    request: HttpRequest, kind: RecordType, fault: StoreError, to: str = "admin:queue"
) -> HttpResponse:
    """Back to a page of the queue: a change, or a look, that the store did not answer to."""
    notices.error(
        request,
        f"{outages.why_away(fault.code)} Not done, as far as the portal knows: see what the queue "
        "says before you try again.",
    )
    return redirect(to, kind)
