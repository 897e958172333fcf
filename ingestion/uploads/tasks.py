"""The background work on uploads, run by `manage.py worker`."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.db.models import Q
from django.utils.timezone import now
from django_tasks import TaskResultStatus, task
from django_tasks_db.models import DBTaskResult, get_date_max

from ingestion.files.shape import UnreadableFileError
from ingestion.models import Upload
from ingestion.outcomes import Code, PayloadError
from ingestion.uploads import inspecting, queueing, reading
from ingestion.uploads.reading import TooManyRowsError
from ingestion.uploads.work import (
    DATABASE_AWAY,
    LostError,
    StoppedError,
    WaitError,
    Watch,
    Work,
    claim,
)

State = Upload.State
logger = structlog.get_logger(__name__)

_TRY_AGAIN_SECONDS = 5
_KEEP_RESULTS_DAYS = 1
# How many times a step may be interrupted without progress, for any reason.
_TRIES = 3
_BROKE_OFF = (
    "The work was interrupted three times, so it is not tried again by itself. "
    "The file is kept: ask an administrator to look at it, and at the log of upload {number}."
)

# Why a file cannot be read to its end, in words for its sender.
_SENTENCES = {
    Code.MALFORMED_JSON: "The JSON is incomplete or malformed after {rows:,} records. Correct "
    "it there, or export it again.",
    Code.MALFORMED_ENCODING: "The file is not in UTF-8. Save it as UTF-8 and upload it again.",
    Code.NOT_AN_ARRAY: "The file must hold one JSON array of records, or a record on every line.",
    Code.TOO_DEEP: "The JSON is nested too deeply for records.",
    Code.UNKNOWN_COLUMNS: "No column is a field of this record type. Say which column is what.",
    Code.EMPTY_FILE: "The file is empty.",
}


@task()
def advance(upload: int) -> None:
    """Do the current step of the upload, unless another worker does it."""
    work = claim(upload)
    if work is None:
        return
    with work.beating():
        try:
            _do(work)
        except LostError:
            logger.info("upload_step_lost", upload=upload)
        except StoppedError:
            work.release()
            advance.enqueue(upload)
        except WaitError as wait:
            work.release(waiting=str(wait))
            later = now() + timedelta(seconds=_TRY_AGAIN_SECONDS)
            advance.using(run_after=later).enqueue(upload)
        except DATABASE_AWAY:
            logger.exception("upload_step_without_database", upload=upload)
            work.release_when_possible()


def _do(work: Work) -> None:
    upload = work.upload
    if upload.state == State.CANCELLING:
        queueing.end(work, State.CANCELLED)
        return
    if upload.tries >= _TRIES:
        _fail(work, _BROKE_OFF.format(number=upload.pk))
        return
    try:
        if upload.state == State.INSPECTING:
            inspecting.inspect(work)
            if upload.state == State.READING:
                advance.enqueue(upload.pk)
        elif upload.state == State.READING:
            reading.read(work)
        else:
            queueing.queue(work)
    except PayloadError as fault:
        _fail(work, _sentence(fault, upload))
    except TooManyRowsError:
        _fail(work, "The file has more rows than an upload may have: split it.")
    except FileNotFoundError:
        _fail(work, "The uploaded file is gone. Upload it again.")
    except (LostError, StoppedError, WaitError, *DATABASE_AWAY):
        raise
    except Exception:
        logger.exception("upload_step_crashed", upload=upload.pk)
        _fail(work, f"The server made a mistake. Its log says more about upload {upload.pk}.")


def requeue_abandoned(watch: Watch) -> None:
    """Enqueue uploads again whose worker was killed or whose task was lost.

    The task of a killed worker is marked as running for ever. Only its missing beat shows it.
    """
    watch.look()
    unclaimed = Upload.objects.filter(claim="", state__in=Upload.RUNNING)
    for number in unclaimed.values_list("pk", flat=True):
        # A task that must wait longer than any task may was created before the clock was set back.
        latest = now() + timedelta(seconds=_TRY_AGAIN_SECONDS)
        waiting = DBTaskResult.objects.filter(
            Q(run_after__lte=latest) | Q(run_after=get_date_max()),
            status=TaskResultStatus.READY,
            args_kwargs={"args": [number], "kwargs": {}},
        )
        if not waiting.exists():
            advance.enqueue(number)
            logger.info("upload_requeued", upload=number)


def forget_results() -> None:
    """Delete old results of the task queue, also of tasks that were killed days ago."""
    before = now() - timedelta(days=_KEEP_RESULTS_DAYS)
    old = Q(finished_at__lt=before) | Q(status=TaskResultStatus.RUNNING, started_at__lt=before)
    DBTaskResult.objects.filter(old).delete()


def _fail(work: Work, sentence: str) -> None:
    logger.warning("upload_failed", upload=work.upload.pk, state=work.upload.state)
    if work.upload.state in (State.INSPECTING, State.READING):
        work.finish(State.FAILED, failure=sentence)
    else:
        queueing.end(work, State.FAILED, failure=sentence)


def _sentence(fault: PayloadError, upload: Upload) -> str:
    if isinstance(fault, UnreadableFileError):
        return fault.advice
    sentence = _SENTENCES.get(fault.code, "The file cannot be read.")
    return sentence.format(rows=upload.progress_rows)
