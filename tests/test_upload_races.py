"""Two people act on one upload at the same time: one succeeds, the other is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils.timezone import now
from redis import Redis

from ingestion import queues
from ingestion.models import Upload
from ingestion.uploads import actions, tasks
from ingestion.uploads.actions import NotNowError
from tests.record_types import SESSIONS
from tests.uploading import State, advance, as_csv, queue, queued, read, session

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


@contextmanager
def before(words: str, act: Callable[[], Any]) -> Iterator[None]:
    """Another person's act happens just before the first statement with this beginning."""
    done = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        if not done and sql.startswith(words):
            done.append(sql)
            act()
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        yield
    assert done


@contextmanager
def after_push(at: int, act: Callable[[], Any]) -> Iterator[None]:
    """Something happens after the `at`-th push has reached the store, before its answer comes."""
    push, pushes = queues.push_together, []

    def push_and_act(*facts: Any, **rest: Any) -> Any:
        found = push(*facts, **rest)
        pushes.append(facts)
        if len(pushes) == at:
            act()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queues, "push_together", push_and_act)
        yield


class Killed(BaseException):
    """The worker is killed."""


def killed_after_its_push(upload: Upload, at: int) -> None:
    """Confirm; the worker dies between the `at`-th push of rows and the note of it."""

    def die() -> None:
        raise Killed

    actions.confirm(upload)
    with after_push(at, die), pytest.raises(Killed):
        tasks.advance.call(upload.pk)


def age(upload: Upload) -> None:
    Upload.objects.filter(pk=upload.pk).update(uploaded_at=now() - timedelta(days=3000))


def test_an_upload_that_is_confirmed_while_it_expires_is_queued(store: Redis) -> None:
    upload = read(as_csv([session(1)]))
    age(upload)
    with before("SAVEPOINT", lambda: actions.confirm(Upload.objects.get(pk=upload.pk))):
        assert actions.expire() == 0
    assert advance(upload).state == State.DONE
    assert (upload.rows_queued, upload.expired_at, len(queued(store))) == (1, None, 1)
    assert actions.expire() == 1
    upload.refresh_from_db()
    assert (upload.state, upload.rows_queued) == (State.DONE, 1)


def test_an_upload_that_is_cancelled_while_a_worker_takes_it_up_queues_nothing(
    store: Redis,
) -> None:
    upload = read(as_csv([session(1)]))
    Upload.objects.filter(pk=upload.pk).update(state=State.READING)
    with before("SELECT", lambda: actions.cancel(Upload.objects.get(pk=upload.pk))):
        tasks.advance.call(upload.pk)
    upload.refresh_from_db()
    assert (upload.state, queued(store)) == (State.CANCELLED, [])


def test_nobody_goes_on_with_an_upload_whose_file_has_expired() -> None:
    upload = read(as_csv([session(1)])[:-30], SESSIONS)
    Upload.objects.filter(pk=upload.pk).update(state=State.FAILED)
    age(upload)
    actions.expire()
    upload.refresh_from_db()
    for act in (actions.retry, actions.confirm, actions.cancel):
        with pytest.raises(NotNowError):
            act(upload)


@pytest.mark.parametrize("act", [actions.confirm, actions.cancel])
def test_if_two_people_press_the_same_button_one_is_told_that_it_is_done(act: Any) -> None:
    upload = read(as_csv([session(1)]))
    other = Upload.objects.get(pk=upload.pk)
    act(upload)
    with pytest.raises(NotNowError):
        act(other)


def test_an_upload_is_never_written_as_a_whole() -> None:
    upload = read(as_csv([session(1)]))
    with pytest.raises(TypeError):
        upload.save()


def test_cancelled_while_its_rows_are_queued_it_ends_at_the_edge_of_a_chunk_and_says_how_many(
    store: Redis, settings: Any
) -> None:
    settings.MAX_BATCH_RECORDS = 2
    upload = read(as_csv([session(n) for n in range(7)]))
    actions.confirm(upload)
    with after_push(2, lambda: actions.cancel(Upload.objects.get(pk=upload.pk))):
        tasks.advance.call(upload.pk)
    upload.refresh_from_db()
    assert (upload.state, upload.rows_queued, len(queued(store))) == (State.CANCELLED, 4, 4)
    assert actions.recall(upload) == 4
    assert queued(store) == []


def test_a_chunk_that_a_killed_worker_pushed_is_told_when_the_upload_is_cancelled(
    store: Redis, settings: Any
) -> None:
    settings.MAX_BATCH_RECORDS = 2
    upload = read(as_csv([session(n) for n in range(7)]))
    killed_after_its_push(upload, 2)
    upload.refresh_from_db()
    assert (upload.rows_queued, len(queued(store))) == (2, 4)
    actions.cancel(upload)
    assert upload.state == State.CANCELLING
    Upload.objects.filter(pk=upload.pk).update(claim="")  # as after its silence was noticed
    assert advance(upload).state == State.CANCELLED
    assert (upload.rows_queued, upload.places) == (4, [[0, 4]])
    assert actions.recall(upload) == 4


def test_the_size_of_its_chunks_stays_with_the_upload(store: Redis, settings: Any) -> None:
    settings.MAX_BATCH_RECORDS = 2
    upload = read(as_csv([session(n) for n in range(7)]))
    killed_after_its_push(upload, 2)
    settings.MAX_BATCH_RECORDS = 3
    Upload.objects.filter(pk=upload.pk).update(claim="")
    assert advance(upload).state == State.DONE
    ids = [one["data"]["session_id"] for one in queued(store)]
    assert ids == [f"s_{n}" for n in range(7)]
    assert upload.rows_queued == 7


def test_a_number_that_comes_again_in_a_restored_database_is_another_upload(store: Redis) -> None:
    first = queue(read(as_csv([session(1)])))
    number = first.pk
    Upload.objects.all().delete()
    again = read(as_csv([session(1)]))
    Upload.objects.filter(pk=again.pk).update(id=number)
    upload = queue(Upload.objects.get(pk=number))
    assert (upload.state, upload.rows_queued, len(queued(store))) == (State.DONE, 1, 2)
