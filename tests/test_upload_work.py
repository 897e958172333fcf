"""Workers on an upload: killed, silent, stopped, waiting; and which files stay on the disk."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.utils.timezone import now
from django_tasks_db.models import DBTaskResult
from redis import Redis

from ingestion import queues
from ingestion.models import LooseFile, Upload, upload_storage
from ingestion.uploads import actions, reading, stored_files, tasks, work
from tests.record_types import SESSIONS
from tests.test_upload_races import Killed, after_push, age
from tests.uploading import (
    State,
    advance,
    as_csv,
    create,
    queued,
    read,
    session,
)

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


def die(*_: Any, **__: Any) -> None:
    raise Killed


def be_killed(upload: Upload) -> None:
    """A worker claims it and is killed; then its silence is noticed."""
    with pytest.raises(Killed):
        tasks.advance.call(upload.pk)
    notice()


def notice() -> None:
    watch = work.Watch()
    for _ in range(work._SILENT_LOOKS + 1):
        watch.look()


def files() -> set[str]:
    storage = upload_storage()
    return set(storage.listdir("")[1]) if storage.exists("") else set()


# --- killed, stopped, waiting ------------------------------------------------------------------


def test_a_file_that_ends_its_worker_three_times_is_failed_and_kept_for_a_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload = create(as_csv([session(1)]))
    with monkeypatch.context() as patch:
        patch.setattr(reading, "read", die)
        for _ in range(3):
            be_killed(upload)
        assert advance(upload).state == State.FAILED
    assert "was interrupted three times" in upload.failure
    assert upload.file.storage.exists(upload.file.name)
    actions.retry(upload)
    assert advance(upload).state == State.REVIEW


def test_a_row_that_ends_its_worker_three_times_fails_the_upload_with_all_that_is_queued_told(
    store: Redis, settings: Any
) -> None:
    settings.MAX_BATCH_RECORDS = 2
    upload = read(as_csv([session(n) for n in range(7)]))
    actions.confirm(upload)
    for at in (2, 1, 1):  # always at the second chunk
        with after_push(at, die):
            be_killed(upload)
    assert advance(upload).state == State.FAILED
    assert (upload.rows_queued, len(queued(store))) == (4, 4)
    actions.retry(upload)
    assert advance(upload).state == State.DONE
    ids = [one["data"]["session_id"] for one in queued(store)]
    assert ids == [f"s_{n}" for n in range(7)]


def test_workers_that_are_killed_but_get_on_fail_nothing(store: Redis, settings: Any) -> None:
    settings.MAX_BATCH_RECORDS = 1
    upload = read(as_csv([session(n) for n in range(6)]))
    actions.confirm(upload)
    for at in (1, 2, 2, 2, 2, 2):
        with after_push(at, die):
            be_killed(upload)
    assert advance(upload).state == State.DONE
    assert (upload.rows_queued, len(queued(store))) == (6, 6)


def test_neither_a_planned_stop_nor_waiting_is_a_try(
    store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = read(as_csv([session(1)]))
    actions.confirm(upload)
    pause = queues.Pause(reason="Consumer update", by="otto", since=now())
    queues.pause_queue(SESSIONS.queue, pause)
    for _ in range(4):
        assert advance(upload).waiting
    queues.resume_queue(SESSIONS.queue)
    with monkeypatch.context() as patch:
        patch.setattr(work._stopping, "is_set", lambda: True)
        for _ in range(4):
            assert advance(upload).state == State.QUEUEING
    notice()
    assert (upload.tries, upload.claim) == (0, "")
    assert advance(upload).state == State.DONE


def test_a_silent_worker_is_noticed_whatever_the_clock_says() -> None:
    upload = create(as_csv([session(1)]))
    later = now() + timedelta(hours=1)  # the clock has been set back since
    Upload.objects.filter(pk=upload.pk).update(claim="gone", beat_at=later)
    DBTaskResult.objects.update(run_after=later)
    watch = work.Watch()
    for _ in range(work._SILENT_LOOKS + 1):
        tasks.requeue_abandoned(watch)
    assert DBTaskResult.objects.exclude(run_after=later).count() == 1
    assert advance(upload).state == State.REVIEW


def test_a_worker_that_beats_keeps_the_upload() -> None:
    upload = create(as_csv([session(1)]))
    watch = work.Watch()
    for n in range(9):
        beat_at = now() - timedelta(days=n)  # the worker's clock may show any time
        Upload.objects.filter(pk=upload.pk).update(claim="alive", beat_at=beat_at)
        watch.look()
    upload.refresh_from_db()
    assert (upload.claim, upload.tries) == ("alive", 0)


# --- files -------------------------------------------------------------------------------------

BAD = as_csv([session(1, duration_minutes=999), session(2)])


def test_an_error_file_is_deleted_if_the_upload_is_cancelled_while_it_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload = create(BAD)
    before = files()
    keep = stored_files.keep

    def keep_and_cancel(content: Any) -> str:
        name = keep(content)
        actions.cancel(Upload.objects.get(pk=upload.pk))
        return name

    monkeypatch.setattr(stored_files, "keep", keep_and_cancel)
    assert advance(upload).state == State.CANCELLED
    assert files() == before
    assert not LooseFile.objects.exists()


def test_what_a_killed_worker_saved_is_deleted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    upload = create(BAD)
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(work.Work, "finish", die)
        be_killed(upload)
    (loose,) = files() - before
    stored_files.delete_left_behind()
    assert loose in files()  # an upload may be about to name it
    LooseFile.objects.update(since=now() - timedelta(hours=2))
    stored_files.delete_left_behind()
    assert files() == before
    assert advance(upload).error_file.storage.exists(upload.error_file.name)


def test_a_file_replaced_or_expired_is_deleted_even_if_the_process_dies_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = files()
    upload = read(BAD)
    age(upload)
    with monkeypatch.context() as patch:
        patch.setattr(stored_files, "_delete", die)
        with pytest.raises(Killed):
            actions.expire()
    assert len(files() - before) == 2
    LooseFile.objects.update(since=now() - timedelta(hours=2))
    stored_files.delete_left_behind()
    assert files() == before
    upload.refresh_from_db()
    assert (upload.file.name, upload.error_file.name) == ("", "")


def test_a_file_that_was_swept_away_is_never_named() -> None:
    before = files()
    name = stored_files.keep(ContentFile(b"x"))
    LooseFile.objects.all().delete()
    with pytest.raises(FileNotFoundError), stored_files.exchange(new=name):
        pass
    assert files() == before


def test_a_worker_without_news_keeps_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a chunk of rows that takes long to be pushed would lose the upload."""
    monkeypatch.setattr(work, "_TELL_EVERY_SECONDS", 0.0)
    upload = read(as_csv([session(1)]))
    actions.confirm(upload)
    mine = work.claim(upload.pk)
    assert mine is not None
    mine.tell()
    mine.release()
    with pytest.raises(work.LostError):
        mine.tell()
