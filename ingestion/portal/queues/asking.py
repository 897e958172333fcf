"""What the changes of queues and of dead letters share: the question, and the failure report."""

from __future__ import annotations

from http import HTTPStatus

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from ingestion.outcomes import StoreError
from ingestion.portal.pages import page
from ingestion.portal.store_changes import tell_failure
from ingestion.records import RecordType


def ask(
    request: HttpRequest,
    record_type: RecordType,
    form: forms.Form,
    template: str,
    title: str,
    *,
    back: str = "admin:queue",
    **context: object,
) -> HttpResponse:
    """The page that asks before a queue is changed; `back` is the address for "Cancel"."""
    return page(
        request,
        template,
        title=title,
        context={"record_type": record_type, "form": form, "back": back, **context},
        status=HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK,
    )


def failed(
    request: HttpRequest, record_type: RecordType, fault: StoreError, to: str = "admin:queue"
) -> HttpResponse:
    """Go back to a page of the queue, which says why the store did not make the change."""
    tell_failure(request, fault, where="queue")
    return redirect(to, record_type)
