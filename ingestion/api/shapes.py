"""The shapes of answers, for the documentation; records have their own serializers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from ingestion.outcomes import Code, FieldCode
from ingestion.queues import Durability


class TextFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Our text fields, with the pattern that they really hold."""

    target_class = "ingestion.fields.Text"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        """The JSON schema of the field."""
        text = self.target
        shape: dict[str, Any] = {"type": "string"}
        if not text.allow_blank:
            shape["minLength"] = 1
        if text.max_length is not None:
            shape["maxLength"] = text.max_length
        if text.format:
            shape["format"] = text.format
        if text.pattern and text.allow_blank:
            # Beside a plain `pattern` drf-spectacular offers the empty text once more, as one of
            # two forms of which only one may fit; the empty text fits both.
            shape["allOf"] = [{"pattern": text.pattern}]
        elif text.pattern:
            shape["pattern"] = text.pattern
        return shape


class FieldErrorSerializer(serializers.Serializer[Any]):
    """One reason why a record was refused."""

    field = serializers.CharField(
        allow_null=True,
        help_text="The field, `subjects[2]` for an entry of a list, null for the whole record.",
    )
    code = serializers.ChoiceField(choices=[(code.value, code.name) for code in FieldCode])
    message = serializers.CharField(help_text="For people; never repeats a value.")


class RejectionSerializer(serializers.Serializer[Any]):
    """One record of a batch that was refused."""

    index = serializers.IntegerField(min_value=0, help_text="Its place in the batch, from 0.")
    line = serializers.IntegerField(
        min_value=1, required=False, help_text="Its line, from 1 (NDJSON only)."
    )
    id = serializers.CharField(
        allow_null=True, help_text="The record's id where it was given and is valid."
    )
    errors = FieldErrorSerializer(many=True)  # type: ignore[assignment]


class ReceiptSerializer(serializers.Serializer[Any]):
    """The record lies on the queue."""

    success = serializers.BooleanField()
    message = serializers.CharField()
    id = serializers.CharField(help_text="The record's id.")
    queued = serializers.BooleanField()
    timestamp = serializers.DateTimeField()
    ignored_fields = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Fields that the type does not know, and that were dropped: perhaps misspelled.",
    )


class BatchReceiptSerializer(serializers.Serializer[Any]):
    """What became of each record of a batch."""

    success = serializers.BooleanField(help_text="True when every record was accepted.")
    message = serializers.CharField()
    count = serializers.IntegerField(help_text="How many records are on the queue.")
    rejected = serializers.IntegerField(help_text="How many records were refused.")
    queued = serializers.BooleanField(help_text="Whether anything was queued.")
    timestamp = serializers.DateTimeField()
    errors = RejectionSerializer(  # type: ignore[assignment]
        many=True, help_text="The first 1,000 rejections, in order."
    )
    errors_truncated = serializers.BooleanField(
        required=False, help_text="True when there are more rejections than listed."
    )
    ignored_fields = serializers.DictField(
        child=serializers.IntegerField(min_value=1),
        required=False,
        help_text="How many queued records had each field that the type does not know, and that "
        "was dropped: perhaps misspelled.",
    )


class ErrorSerializer(serializers.Serializer[Any]):
    """Nothing of the request was queued (unless `outcome` says that it is not known)."""

    success = serializers.BooleanField()
    error = serializers.CharField(help_text="One sentence for people.")
    code = serializers.ChoiceField(choices=[(code.value, code.name) for code in Code])
    errors = FieldErrorSerializer(many=True, required=False)  # type: ignore[assignment]
    outcome = serializers.ChoiceField(choices=["unknown"], required=False)
    timestamp = serializers.DateTimeField()
    request_id = serializers.CharField()


class BatchErrorSerializer(ErrorSerializer):
    """A batch of which nothing was queued.

    Where its records were judged, the batch's own fields stand beside those of every error.
    """

    message = serializers.CharField(required=False)
    count = serializers.IntegerField(required=False, help_text="How many records are queued: 0.")
    rejected = serializers.IntegerField(required=False, help_text="How many were refused.")
    queued = serializers.BooleanField(required=False)
    errors = RejectionSerializer(  # type: ignore[assignment]
        many=True, required=False, help_text="The first 1,000 rejections, in order."
    )
    errors_truncated = serializers.BooleanField(required=False)


class QueueDetailSerializer(serializers.Serializer[Any]):
    """One queue."""

    queue = serializers.CharField(help_text="The list's key in Redis.")
    depth = serializers.IntegerField()
    oldest_age_seconds = serializers.FloatField(allow_null=True)
    accepted = serializers.IntegerField(help_text="Since the store's data began.")
    rejected = serializers.IntegerField(help_text="Since the store's data began.")


def _reasons() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(),
        help_text="Why not, or empty. Each begins with a word of a closed list; where the operator "
        "has something to do, a colon and a sentence follow.",
    )


class HealthSerializer(serializers.Serializer[Any]):
    """How the portal is."""

    status = serializers.ChoiceField(choices=["healthy", "degraded"])
    timestamp = serializers.DateTimeField()
    redis_connected = serializers.BooleanField()
    version = serializers.CharField()
    reasons = _reasons()


class LiveSerializer(serializers.Serializer[Any]):
    """The process runs."""

    live = serializers.BooleanField()
    timestamp = serializers.DateTimeField()


class ReadySerializer(serializers.Serializer[Any]):
    """Whether a request could be accepted safely, and if not, why."""

    ready = serializers.BooleanField()
    reasons = _reasons()
    durability = serializers.ChoiceField(
        choices=[one.value for one in Durability],
        help_text="What the store says that an acknowledgement is worth in a power cut.",
    )
    timestamp = serializers.DateTimeField()


class RootSerializer(serializers.Serializer[Any]):
    """What this is."""

    name = serializers.CharField()
    version = serializers.CharField()
    status = serializers.ChoiceField(choices=["running"])
    endpoints = serializers.DictField(child=serializers.CharField())
