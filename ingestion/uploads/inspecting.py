"""The first step: look at the file, and ask staff about what it does not say for certain."""

from __future__ import annotations

from typing import Any

from django.utils.timezone import now

from ingestion.models import Upload
from ingestion.uploads import inspection, layouts
from ingestion.uploads.inspection import Inspection
from ingestion.uploads.work import Work

State = Upload.State


def inspect(work: Work) -> None:
    """Look at the file, with the layout that staff chose if there is one.

    If there are no questions after the first look, the file is read next. Otherwise the upload
    waits for answers. Raises `PayloadError` if it is not a file of records.
    """
    upload = work.upload
    asked = layouts.from_json(upload.layout)
    work.save(step_at=now(), waiting="")
    look = work.look(asked.shape if asked else None)
    found = inspection.inspect(look, record_type=upload.record_type, layout=asked)
    parent = upload.parent
    if parent is None and found.parent is not None:
        parent = Upload.objects.filter(pk=found.parent).first()
        if parent is not None and not _may_complete(upload, parent):
            parent = None
    if parent is not None and parent.record_type is not None and upload.record_type is None:
        found = inspection.inspect(look, record_type=parent.record_type, layout=asked)
    before = parent and layouts.from_json(parent.layout)
    if asked is None and before:
        found = inspection.as_corrected(found, before)
    goes_on = asked is None and not found.questions
    work.finish(State.READING if goes_on else State.CHECK, parent=parent, **kept(found))


def kept(found: Inspection) -> dict[str, Any]:
    """The inspection as fields of an upload."""
    return {
        "record_type": found.record_type,
        "layout": layouts.to_json(found.layout),
        "inspection": found.to_json(),
    }


def _may_complete(upload: Upload, parent: Upload) -> bool:
    """Whether the sender of a file may use it as the corrected rows of `parent`."""
    user = upload.uploaded_by
    if parent.uploaded_by_id == upload.uploaded_by_id:
        return True
    return user is not None and user.has_perm("ingestion.manage_uploads")
