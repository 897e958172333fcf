"""What the database keeps for staff: who did what, and the state of every uploaded file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.storage import Storage, storages
from django.db import models
from django.utils import timezone

from ingestion.records import RECORD_TYPES, RecordType


class Right(models.Model):  # noqa: DJ008 (it has no rows)
    """No table, only permissions: one for each page and action of the portal that asks for it."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("view_portal", "See queues, uploads and rejections, without payloads"),
            ("upload_files", "Upload files and queue their rows"),
            ("manage_uploads", "Act on uploads of other people"),
            ("enter_records", "Enter one record, or fix a refused one"),
            ("see_payloads", "See what messages and refused records hold"),
            ("pause_queue", "Pause and resume a queue"),
            ("discard_messages", "Discard messages and put them back"),
            ("recall_rows", "Recall rows of an upload that nobody has read yet"),
            ("manage_keys", "Create, rotate and revoke API keys"),
        ]


class AppendOnlyQuerySet(models.QuerySet["Activity"]):
    """Entries can only be created and read."""

    def update(self, **_: Any) -> int:
        """Refused."""
        raise TypeError("The activity log is append-only.")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Refused."""
        raise TypeError("The activity log is append-only.")


if TYPE_CHECKING:
    _TypeNameField = models.CharField[RecordType | None, RecordType | None]
else:
    _TypeNameField = models.CharField


class RecordTypeField(_TypeNameField):
    """A record type, stored by its path; None, and "" in the database, if it is not known.

    A type that is no longer registered reads as None. The choices are for filters. Migrations do
    not know them, so a new record type needs no migration.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        choices = {path: one.title for path, one in RECORD_TYPES.items()}
        super().__init__(*args, **{"max_length": 50, "choices": choices, **kwargs})

    def deconstruct(self) -> Any:
        """For migrations: the plain field that the database has."""
        name, _, args, kwargs = super().deconstruct()
        del kwargs["choices"]
        return name, "django.db.models.CharField", args, kwargs

    def from_db_value(self, value: str, *_: object) -> RecordType | None:
        """The type with this path."""
        return RECORD_TYPES.get(value)

    def to_python(self, value: Any) -> Any:
        """The path of a type; a path stays as it is."""
        return value.path if isinstance(value, RecordType) else value or ""


class Activity(models.Model):
    """One action of a person in the portal: who, what, to which queue or upload, why, when.

    `facts` holds counts and names, never the content of a record.
    """

    class Action(models.TextChoices):
        """What was done."""

        UPLOADED = "uploaded", "Uploaded a file"
        QUEUED = "queued", "Queued the rows of a file"
        CANCELLED = "cancelled", "Cancelled an upload"
        RECALLED = "recalled", "Recalled rows"
        ENTERED = "entered", "Entered a record"
        FIXED = "fixed", "Fixed a refused record"
        PAYLOAD_SHOWN = "payload_shown", "Looked at a payload"
        PAUSED = "paused", "Paused a queue"
        RESUMED = "resumed", "Resumed a queue"
        DISCARDED = "discarded", "Discarded messages"
        PUT_BACK = "put_back", "Put messages back"
        KEY_CREATED = "key_created", "Created an API key"
        KEY_ROTATED = "key_rotated", "Rotated an API key"
        KEY_REVOKED = "key_revoked", "Revoked an API key"

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    # The name stays when the account is deleted.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    user_name = models.CharField("who", max_length=150)
    action = models.CharField("what", max_length=20, choices=Action)
    record_type = RecordTypeField(blank=True)
    upload = models.ForeignKey(
        "Upload", null=True, blank=True, on_delete=models.PROTECT, related_name="activities"
    )
    reason = models.CharField(max_length=500, blank=True)
    facts = models.JSONField(default=dict, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name_plural = "activity"

    def __str__(self) -> str:
        return f"{self.get_action_display()} by {self.user_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Create the entry; an existing one is never changed."""
        if self.pk is not None:
            raise TypeError("The activity log is append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refused."""
        raise TypeError("The activity log is append-only.")


def upload_storage() -> Storage:
    """Where uploaded files are kept; several servers share it if STORAGES says so."""
    return storages["uploads"]


class FoundText(models.JSONField):
    """JSON with text that was found in files; any database can store it.

    PostgreSQL stores no NUL and no half of a surrogate pair; SQLite does. So on both, this field
    replaces them by the sign for a character that is not valid. The field is for texts that are
    shown; text that must come back unchanged is packed first (`ingestion.uploads.fixes`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "encoder": _StorableEncoder})

    def deconstruct(self) -> Any:
        """For migrations: the plain field that the database has."""
        name, _, args, kwargs = super().deconstruct()
        del kwargs["encoder"]
        return name, "django.db.models.JSONField", args, kwargs


class _StorableEncoder(json.JSONEncoder):
    def encode(self, value: Any) -> str:
        """The JSON of the value in ASCII: every special character is an escape and is checked."""
        return _ESCAPE.sub(lambda found: found[1] or r"\ufffd", super().encode(value))


# Kept: a pair, or an escape that is not part of one. Replaced: half a pair, and NUL. An escaped
# backslash does not begin another escape.
_ESCAPE = re.compile(
    r"(\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\[^u])|\\ud[89a-f][0-9a-f]{2}|\\u0000"
)


class Upload(models.Model):
    """One file from staff, from its arrival to the outcome of every row."""

    class State(models.TextChoices):
        """Where the upload stands: some states wait for the worker, others for staff."""

        INSPECTING = "inspecting", "Being looked at"
        CHECK = "check", "Waiting for answers"
        READING = "reading", "Being read"
        REVIEW = "review", "Waiting for a decision"
        QUEUEING = "queueing", "Being queued"
        CANCELLING = "cancelling", "Being cancelled"
        DONE = "done", "Done"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Could not be read"

    # In these states, a background task works on the upload.
    RUNNING = (State.INSPECTING, State.READING, State.QUEUEING, State.CANCELLING)

    state = models.CharField(max_length=10, choices=State, default=State.INSPECTING, db_index=True)
    record_type = RecordTypeField(blank=True)
    file = models.FileField(storage=upload_storage, max_length=255)
    file_name = models.CharField("file", max_length=255)
    size_bytes = models.BigIntegerField("size")
    sha256 = models.CharField("SHA-256", max_length=64, db_index=True)
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="uploads"
    )
    uploaded_at = models.DateTimeField(auto_now_add=True, db_index=True)
    # If this file is a corrected error file: the upload that it corrects.
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )

    # How the file is read (written by `ingestion.uploads.layouts`), and what the last look at it
    # found (written by `ingestion.uploads.inspection`). Both are empty before the first look.
    layout = FoundText(default=dict)
    inspection = FoundText(default=dict)
    # Corrections made in place, as written by `ingestion.uploads.fixes`.
    fixes = models.JSONField(default=dict)

    # Rows read = ready + invalid + duplicate + blank.
    rows_read = models.PositiveIntegerField(default=0)
    rows_ready = models.PositiveIntegerField(default=0)
    rows_invalid = models.PositiveIntegerField("rows to fix", default=0)
    rows_duplicate = models.PositiveIntegerField(default=0)
    rows_blank = models.PositiveIntegerField(default=0)
    rows_queued = models.PositiveIntegerField(default=0)
    rows_recalled = models.PositiveIntegerField(default=0)
    # The review shows these: causes with counts, and the first good and bad rows.
    findings = FoundText(default=dict)
    # One letter for each row that is not blank, compressed: the verdict on it.
    verdicts = models.BinaryField(default=b"")
    error_file = models.FileField(storage=upload_storage, max_length=255, blank=True)

    # The current step: who works on it, since when, and how far it is. `beat_at` shows that the
    # worker is alive; `tries` counts the workers that stopped; `waiting` is a sentence that says
    # for what.
    claim = models.CharField(max_length=32, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    beat_at = models.DateTimeField(null=True)
    step_at = models.DateTimeField(null=True)
    progress_bytes = models.BigIntegerField(default=0)
    progress_rows = models.PositiveIntegerField(default=0)
    progress_line = models.PositiveBigIntegerField(default=0)
    waiting = models.CharField(max_length=500, blank=True)
    # The name of the chunks in the store, so that none is pushed twice, and the rows in each chunk.
    # The name is random, because a restored database may use the same upload numbers again.
    push_key = models.CharField(max_length=32, blank=True)
    chunk_rows = models.PositiveIntegerField(default=0)
    # The places of the pushed chunks, counted over all messages ever pushed: [first, count].
    places = models.JSONField(default=list)

    read_at = models.DateTimeField(null=True)
    confirmed_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expired_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"Upload {self.pk}: {self.file_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Create the row. Later changes are conditional updates: others may change it meanwhile."""
        if not self._state.adding:
            raise TypeError("An upload is changed by updates that say what it must be before.")
        super().save(*args, **kwargs)


class LooseFile(models.Model):
    """A stored file that no upload names: not yet, or no longer.

    It is listed here before it is written and until it is deleted. So no file is left behind if a
    process is killed meanwhile.
    """

    name = models.CharField(max_length=255, unique=True)
    since = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class ColumnChoice(models.Model):
    """Which field each column is; remembered for files with the same header."""

    record_type = RecordTypeField()
    header_sha256 = models.CharField(max_length=64)
    columns = models.JSONField()
    used_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["record_type", "header_sha256"], name="one_choice_per_header"
            )
        ]

    def __str__(self) -> str:
        return f"Columns of {self.record_type}"


class ApiClient(models.Model):
    """A program that sends records or reads numbers with an API key.

    `scopes` are the paths of record types that it may write, and `numbers` for statistics and
    metrics. A client stays when its keys have ended, because messages hold its name.
    """

    name = models.CharField(max_length=63, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Keys in any state."""

    def live(self) -> ApiKeyQuerySet:
        """The keys that are valid now."""
        return self.filter(revoked_at=None, expires_at__gt=timezone.now())


class ApiKey(models.Model):
    """A key of a client: only its public name and a digest of the whole text, never the text."""

    client = models.ForeignKey(ApiClient, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    # Correct to about a minute.
    last_used_at = models.DateTimeField(null=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_live(self) -> bool:
        """Whether the key is valid now."""
        return self.revoked_at is None and self.expires_at > timezone.now()
