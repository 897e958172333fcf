"""The keys of API clients: who has one, for what, and until when."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

from django import forms
from django.contrib import messages as notices
from django.db import transaction
from django.db.models import Prefetch, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone

from ingestion import api_keys
from ingestion.api_keys import SCOPES, RefusedError
from ingestion.models import Activity, ApiClient, ApiKey
from ingestion.portal import activity
from ingestion.portal.administration.keys.forms import CreateForm, RotateForm
from ingestion.portal.forms import ReasonForm
from ingestion.portal.pages import page, portal_view

# Keys that have ended are listed for this long.
_ENDED_SHOWN = timedelta(days=30)
_ENDS_SOON = timedelta(days=14)


@portal_view("manage_keys")
def keys(request: HttpRequest) -> HttpResponse:
    """GET /admin/keys/: every client with its keys, and what staff should do about them."""
    now = timezone.now()
    not_long_ended = Q(expires_at__gt=now - _ENDED_SHOWN) & (
        Q(revoked_at=None) | Q(revoked_at__gt=now - _ENDED_SHOWN)
    )
    shown = Prefetch("keys", ApiKey.objects.filter(not_long_ended), to_attr="shown_keys")
    clients = [
        {
            "client": client,
            "scopes": _scope_words(client),
            "keys": client.shown_keys,
            "has_live_key": any(key.is_live for key in client.shown_keys),
        }
        for client in ApiClient.objects.prefetch_related(shown)
    ]
    context = {"clients": clients, "soon": now + _ENDS_SOON}
    return page(request, "portal/administration/keys/list.html", title="Keys", context=context)


@portal_view("manage_keys", methods=["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """Ask for the client's name and rights, then show the new key; this is the only time."""
    form = CreateForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        name, scopes, days = (form.cleaned_data[field] for field in ("name", "scopes", "days"))
        facts = {"client": name, "scopes": ", ".join(scopes), "days": days}
        try:
            with transaction.atomic():
                key, text = api_keys.create(name, scopes, days=days)
                facts["key"] = key.name
                activity.record(request, Activity.Action.KEY_CREATED, facts=facts)
        except RefusedError as fault:
            form.add_error("name", str(fault))
        else:
            return _show_once(request, key, text)
    return _ask(request, form, "portal/administration/keys/new.html", "New client")


@portal_view("manage_keys", methods=["GET", "HEAD", "POST"])
def rotate(request: HttpRequest, number: int) -> HttpResponse:
    """Ask when the old keys end, then show the client's new key; this is the only time."""
    client = get_object_or_404(ApiClient, pk=number)
    newest = client.keys.order_by("pk").last()
    form = RotateForm(
        request.POST if request.method == "POST" else None,
        initial={"newest": newest.pk if newest else 0},
    )
    if form.is_valid():
        asked = form.cleaned_data
        hours = int(asked["overlap"].total_seconds() // 3600)
        facts = {"client": client.name, "days": asked["days"], "overlap_hours": hours}
        try:
            with transaction.atomic():
                key, text = api_keys.rotate(client, **asked)
                facts["key"] = key.name
                activity.record(request, Activity.Action.KEY_ROTATED, facts=facts)
        except RefusedError as fault:
            notices.warning(request, str(fault))
            return redirect("admin:keys")
        return _show_once(request, key, text)
    return _ask(
        request,
        form,
        "portal/administration/keys/rotate.html",
        f"New key for {client}",
        client=client,
    )


@portal_view("manage_keys", methods=["GET", "HEAD", "POST"])
def revoke(request: HttpRequest, number: int) -> HttpResponse:
    """Ask why, then end the key."""
    key = get_object_or_404(ApiKey.objects.select_related("client"), pk=number)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        last = not key.client.keys.live().exclude(pk=key.pk).exists()
        return _ask(
            request,
            form,
            "portal/administration/keys/revoke.html",
            f"Revoke {key}",
            key=key,
            is_last=last,
        )
    with transaction.atomic():
        was_live = bool(api_keys.revoke(key.client, key))
        if was_live:
            activity.record(
                request,
                Activity.Action.KEY_REVOKED,
                reason=form.cleaned_data["reason"],
                facts={"client": key.client.name, "key": key.name},
            )
    if was_live:
        notices.success(request, f"Key {key} is revoked. It stops working within 5 seconds.")
    else:
        notices.info(request, f"Key {key} has already ended.")
    return redirect("admin:keys")


def _show_once(request: HttpRequest, key: ApiKey, text: str) -> HttpResponse:
    """The page with the key; it is the answer to the POST itself.

    After a redirect the key would have to be stored until the browser asks for it. No cache stores
    the page, and the form cannot be sent twice.
    """
    return page(
        request,
        "portal/administration/keys/shown.html",
        title="The new key",
        context={"key": key, "text": text, "scopes": _scope_words(key.client)},
    )


def _scope_words(client: ApiClient) -> list[str]:
    return [SCOPES.get(scope, scope) for scope in client.scopes]


def _ask(
    request: HttpRequest, form: forms.Form, template: str, title: str, **context: object
) -> HttpResponse:
    return page(
        request,
        template,
        title=title,
        context={"form": form, **context},
        status=HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK,
    )
