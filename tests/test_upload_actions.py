"""What staff do with an upload, and what becomes of it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now
from redis import Redis

from ingestion import queues
from ingestion.models import Upload
from ingestion.outcomes import FieldCode
from ingestion.uploads import actions
from ingestion.uploads.actions import NotNowError
from tests.record_types import SESSIONS, TUTORS
from tests.uploading import (
    State,
    advance,
    as_csv,
    as_json,
    queue,
    queued,
    read,
    session,
)

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


def test_a_fix_in_place_makes_a_row_ready_and_a_wrong_one_says_why(store: Redis) -> None:
    upload = read(as_csv([session(1, duration_minutes="90 min"), session(2, tutor_id="")]))
    refused = actions.fix(upload, {2: {"duration_minutes": 999}, 3: {"tutor_id": "t_1"}})
    assert [error.code for error in refused[2]] == [FieldCode.MAX_VALUE]
    assert list(refused) == [2]
    assert (upload.state, upload.fixes) == (State.REVIEW, {})
    assert actions.fix(upload, {2: {"duration_minutes": 90}, 3: {"tutor_id": "t_1"}}) == {}
    queue(advance(upload))
    assert [
        (one["data"]["duration_minutes"], one["data"]["tutor_id"]) for one in queued(store)
    ] == [(90, "tutor_00001"), (60, "t_1")]


def test_a_later_fix_of_a_row_keeps_the_earlier_ones(store: Redis) -> None:
    upload = read(as_csv([session(1, duration_minutes="90 min")]))
    actions.fix(upload, {2: {"duration_minutes": 90}})
    advance(upload)
    # The rules may have changed since then: the row is refused again, for another field.
    row = {"line": 2, "fields": json.dumps(session(1, duration_minutes=90)), "errors": []}
    Upload.objects.update(findings={**upload.findings, "bad": [row]})
    upload.refresh_from_db()
    actions.fix(upload, {2: {"subject": "Geometry"}})
    queue(advance(upload))
    (one,) = queued(store)
    assert (one["data"]["duration_minutes"], one["data"]["subject"]) == (90, "Geometry")


def test_a_fix_of_a_row_that_is_no_longer_to_fix_is_refused() -> None:
    upload = read(as_csv([session(1, duration_minutes="90 min"), session(2)]))
    with pytest.raises(NotNowError):
        actions.fix(upload, {3: {"subject": "Geometry"}})
    stale = Upload.objects.get(pk=upload.pk)
    actions.fix(upload, {2: {"duration_minutes": 90}})
    advance(upload)
    with pytest.raises(NotNowError):
        actions.fix(stale, {2: {"duration_minutes": 45}})


def test_a_list_whose_entry_holds_a_semicolon_survives_the_fix_of_another_field(
    store: Redis,
) -> None:
    tutor = {**TUTORS.serializer_class.example, "subjects": ["Maths; pure", "[x]"], "age": 7}
    upload = read(as_json([tutor]))
    assert actions.fix(upload, {1: {"age": 30}}) == {}
    queue(advance(upload))
    assert queued(store, TUTORS)[0]["data"]["subjects"] == ["Maths; pure", "[x]"]


def test_a_cancelled_upload_queues_nothing(store: Redis) -> None:
    upload = read(as_csv([session(1)]))
    actions.cancel(upload)
    with pytest.raises(NotNowError):
        actions.confirm(upload)
    assert advance(upload).state == State.CANCELLED
    assert store.llen(SESSIONS.queue) == 0


def test_rows_are_queued_once_however_often_it_is_confirmed(store: Redis) -> None:
    upload = queue(read(as_csv([session(n) for n in range(10)])))
    with pytest.raises(NotNowError):
        actions.confirm(upload)
    advance(upload)
    assert store.llen(SESSIONS.queue) == 10


def test_what_is_read_and_what_still_waits_add_up(store: Redis) -> None:
    store.lpush(SESSIONS.queue, "other")
    first = queue(read(as_csv([session(n) for n in range(10)])))
    second = queue(read(as_csv([session(n) for n in range(10, 15)])))

    def places() -> list[tuple[int, int]]:
        found = [actions.whereabouts(one) for one in (first, second)]
        assert all(one.is_exact for one in found)
        return [(one.waiting, one.read) for one in found]

    assert places() == [(10, 0), (5, 0)]
    for _ in range(4):
        store.rpop(SESSIONS.queue)
    assert places() == [(7, 3), (5, 0)]
    for _ in range(9):
        store.rpop(SESSIONS.queue)
    assert places() == [(0, 10), (3, 2)]


def test_recall_takes_what_nobody_has_read_and_nothing_else(store: Redis) -> None:
    queue(read(as_csv([session(n) for n in range(5)])))
    upload = queue(read(as_csv([session(n) for n in range(10, 20)])))
    queue(read(as_csv([session(n) for n in range(20, 25)])))
    for _ in range(8):
        store.rpop(SESSIONS.queue)
    assert actions.recall(upload) == 7
    upload.refresh_from_db()
    assert upload.rows_recalled == 7
    assert actions.whereabouts(upload).waiting == 0
    left = [one["data"]["session_id"] for one in queued(store)]
    assert left == [f"s_{n}" for n in range(20, 25)]
    assert actions.recall(upload) == 0


def test_recall_takes_every_row_whatever_the_clock_of_who_confirmed_said(store: Redis) -> None:
    upload = queue(read(as_csv([session(n) for n in range(1100)])))
    Upload.objects.update(confirmed_at=now() + timedelta(seconds=30))
    upload.refresh_from_db()
    assert actions.recall(upload) == 1100


def test_files_and_rows_are_deleted_when_their_time_is_over(settings: Any) -> None:
    upload = read(as_csv([session(1, duration_minutes=999), session(2)]))
    files = [upload.file.name, upload.error_file.name]
    storage = upload.file.storage
    assert actions.expire() == 0
    Upload.objects.update(uploaded_at=now() - timedelta(days=settings.UPLOAD_KEEP_DAYS, seconds=1))
    assert actions.expire() == 1
    upload.refresh_from_db()
    assert not any(storage.exists(name) for name in files)
    assert "s_1" not in json.dumps(upload.findings)
    assert upload.rows_invalid == 1
    assert actions.expire() == 0


def test_a_paused_queue_is_waited_for_and_nothing_is_lost(store: Redis) -> None:
    upload = read(as_csv([session(1)]))
    pause = queues.Pause(reason="Consumer update", by="otto", since=now())
    queues.pause_queue(SESSIONS.queue, pause)
    queue(upload)
    assert (upload.state, upload.waiting) == (
        State.QUEUEING,
        "The queue is paused: Consumer update",
    )
    queues.resume_queue(SESSIONS.queue)
    assert advance(upload).state == State.DONE
    assert store.llen(SESSIONS.queue) == 1
