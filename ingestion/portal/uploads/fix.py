"""Rows corrected in place: the first bad rows of an upload, with inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from rest_framework.exceptions import ValidationError

from ingestion.cells import Notation, converter
from ingestion.models import Activity, Upload
from ingestion.outcomes import FieldCode, FieldError
from ingestion.portal import activity
from ingestion.portal.pages import page, portal_view
from ingestion.portal.record_fields import Kind, RecordField, record_fields
from ingestion.portal.uploads.access import not_now, own_upload
from ingestion.records import RecordType
from ingestion.uploads import actions, layouts
from ingestion.uploads.actions import NotNowError
from ingestion.uploads.findings import field_root
from ingestion.uploads.fixes import unpacked


@portal_view("upload_files", methods=["GET", "HEAD", "POST"])
def fix(request: HttpRequest, number: int) -> HttpResponse:
    """GET and POST /admin/uploads/<n>/fix/: the first bad rows, to be corrected in place."""
    upload = own_upload(request, number)
    record_type, layout = upload.record_type, layouts.from_json(upload.layout)
    if upload.state != Upload.State.REVIEW or record_type is None or layout is None:
        return not_now(request, number)
    inputs = _Inputs(record_type, layout.notation)
    rows = [row for bad in upload.findings.get("bad", []) if (row := inputs.row(bad)).inputs]
    seen = upload.read_at.isoformat() if upload.read_at else ""
    if request.method == "POST":
        if request.POST.get("seen") != seen:
            return not_now(request, number)
        corrections = {row.line: typed for row in rows if (typed := row.typed(request.POST))}
        try:
            refused = actions.fix(upload, corrections)
        except NotNowError:
            return not_now(request, number)
        if not refused:
            return _done(request, upload, len(corrections))
        for row in rows:
            row.show_again(request.POST, refused.get(row.line), corrected=row.line in corrections)
        count = len(refused)
        words = "1 row is still wrong." if count == 1 else f"{count} rows are still wrong."
        messages.error(request, f"Nothing is saved yet: {words}")
    return page(
        request,
        "portal/uploads/fix.html",
        title="Fix rows",
        crumbs=[(f"Upload {number}", reverse("admin:upload", args=[number]))],
        context={
            "upload": upload,
            "rows": rows,
            "more": upload.rows_invalid - len(rows),
            "seen": seen,
        },
        status=HTTPStatus.UNPROCESSABLE_ENTITY if request.method == "POST" else HTTPStatus.OK,
    )


def _done(request: HttpRequest, upload: Upload, count: int) -> HttpResponse:
    if count:
        activity.record(
            request,
            Activity.Action.FIXED,
            record_type=upload.record_type,
            upload=upload,
            facts={"rows": count},
        )
    words = {0: "Nothing was changed.", 1: "1 row fixed."}.get(count, f"{count} rows fixed.")
    messages.success(request, words)
    return redirect("admin:upload", upload.pk)


class _Inputs:
    """Makes the inputs of a row: for the fields with errors, and for fields in the same rule."""

    def __init__(self, record_type: RecordType, notation: Notation) -> None:
        self._described = record_fields(record_type)
        self._fields = record_type.fields
        self._rules = record_type.serializer_class.rules
        self._notation = notation

    def row(self, bad: Mapping[str, Any]) -> _Row:
        record = unpacked(bad["fields"])
        errors = [
            FieldError(field=field or None, code=FieldCode(code), message=message)
            for field, code, message in bad["errors"]
        ]
        named = _messages(errors)
        at_fault = {(error.field, error.code) for error in errors}
        for rule in self._rules:
            if (rule.at, rule.code) in at_fault:  # any of its fields may be the wrong one
                for name in rule.fields:
                    named.setdefault(name, [])
        inputs = []
        if record is not None:
            inputs = [
                self._input(bad["line"], field, record.get(field.name), named[field.name])
                for field in self._described
                if field.name in named
            ]
        name = _shown((record or {}).get(self._described[0].name), self._described[0])
        return _Row(bad["line"], name, inputs)

    def _input(self, line: int, field: RecordField, value: Any, said: list[str]) -> _Input:
        convert = converter(self._fields[field.name], self._notation)

        def typed(text: str) -> Any:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            if not text.strip():
                return None
            if field.kind is Kind.LONG_TEXT:
                return text
            text = text.strip()
            if field.kind is Kind.LIST and not text.startswith("["):
                return [entry.strip() for entry in text.split("\n") if entry.strip()]
            return convert(text)

        one = _Input(line, field, value, said, typed)
        # A text that holds a number, or the reverse: it is converted if staff say so.
        offer = typed(one.value)
        if value is not None and said and json.dumps(offer) != json.dumps(value):
            try:
                self._fields[field.name].run_validation(offer)
            except ValidationError:
                pass
            else:
                one.offer, one.offer_text = offer, json.dumps(offer, ensure_ascii=False)
        return one


class _Input:
    """One input; if it is not touched, the value stays as it is in the file."""

    offer: Any = None
    offer_text = ""
    offer_taken = False

    def __init__(
        self, line: int, field: RecordField, value: Any, said: Sequence[str], typed: Any
    ) -> None:
        self.name = f"fix-{line}-{field.name}"
        self.offer_name = f"take-{line}-{field.name}"
        self.field = field
        self.messages = list(said)
        self.value = self.begin = _shown(value, field)
        self._typed = typed

    @property
    def takes_lines(self) -> bool:
        """Whether the input has several lines: a single-line input would lose the line ends."""
        return self.field.kind in (Kind.LIST, Kind.LONG_TEXT) or "\n" in self.value

    def correction(self, posted: Mapping[str, Any]) -> dict[str, Any]:
        """The corrected value of the field; empty if it was not touched."""
        text = posted.get(self.name)
        if text is not None and _lines(text) != _lines(self.begin):
            return {self.field.name: self._typed(text)}
        if self.offer_text and self.offer_name in posted:
            return {self.field.name: self.offer}
        return {}


class _Row:
    """A bad row with its inputs."""

    def __init__(self, line: int, name: str, inputs: list[_Input]) -> None:
        self.line = line
        self.name = name
        self.inputs = inputs

    def typed(self, posted: Mapping[str, Any]) -> dict[str, Any]:
        """The corrected values, by field."""
        found: dict[str, Any] = {}
        for one in self.inputs:
            found |= one.correction(posted)
        return found

    def show_again(
        self,
        posted: Mapping[str, Any],
        errors: tuple[FieldError, ...] | None,
        *,
        corrected: bool,
    ) -> None:
        """Keep what was typed, and show why it is not valid yet."""
        named = _messages(errors or ())
        for one in self.inputs:
            one.value = _lines(posted.get(one.name, one.begin))
            one.offer_taken = one.offer_name in posted
            if corrected:
                one.messages = named.pop(one.field.name, [])
        if self.inputs and corrected:
            # A rule may name a field that has no input here.
            self.inputs[0].messages += [word for said in named.values() for word in said]


def _messages(errors: Sequence[FieldError]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for error in errors:
        found.setdefault(field_root(error.field or ""), []).append(error.message)
    return found


def _shown(value: Any, field: RecordField) -> str:
    """A value as its input shows it; characters that a page cannot hold are replaced."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(map(_is_line, value)):
        text = "\n".join(value)
    elif not isinstance(value, str) or (field.kind is Kind.BOOLEAN and value in ("true", "false")):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = value
    return _lines(text.encode(errors="replace").decode().replace("\x00", "\ufffd"))


def _is_line(entry: Any) -> bool:
    return isinstance(entry, str) and bool(entry.strip()) and not set("\r\n[") & set(entry)


def _lines(text: str) -> str:
    """The text without changes of its line ends by a browser."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
