"""Django REST framework as it comes: APIView, Serializer, JSONParser."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.peers import django_site

django_site.configure(__name__)

from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from tests.benchmarks.peers.envelopes import (  # noqa: E402
    SESSIONS,
    batch_receipt,
    envelope,
    receipt,
    utc_now,
)

store = django_site.store()


class SessionSerializer(serializers.Serializer[Any]):
    """One tutoring session."""

    session_id = serializers.RegexField(r"^\S+$", max_length=64)
    tutor_id = serializers.RegexField(r"^\S+$", max_length=64)
    student_id = serializers.RegexField(r"^\S+$", max_length=64)
    session_number = serializers.IntegerField(min_value=1, max_value=2_147_483_647)
    is_first_session = serializers.BooleanField()
    scheduled_start = serializers.DateTimeField()
    actual_start = serializers.DateTimeField(required=False, allow_null=True)
    duration_minutes = serializers.IntegerField(min_value=0, max_value=300)
    subject = serializers.CharField(max_length=100)
    session_type = serializers.ChoiceField(["1-on-1", "group", "workshop"], default="1-on-1")
    tutor_initiated_reschedule = serializers.BooleanField()
    no_show = serializers.BooleanField()
    late_start_minutes = serializers.IntegerField(min_value=0, max_value=60)
    engagement_score = serializers.FloatField(min_value=0, max_value=1)
    learning_objectives_met = serializers.BooleanField()
    technical_issues = serializers.BooleanField()
    created_at = serializers.DateTimeField(required=False, allow_null=True)
    updated_at = serializers.DateTimeField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Hold the rules between fields."""
        if attrs["is_first_session"] != (attrs["session_number"] == 1):
            raise serializers.ValidationError("is_first_session must be session_number == 1")
        if attrs["no_show"] and attrs.get("actual_start") is not None:
            raise serializers.ValidationError("actual_start must be null when no_show is true")
        return attrs


class Sessions(APIView):
    """One record, or many with one push."""

    def post(self, request: Request) -> Response:
        """Validate and queue."""
        many = isinstance(request.data, list)
        serializer = SessionSerializer(data=request.data, many=many)
        serializer.is_valid(raise_exception=True)
        records = serializer.data if many else [serializer.data]
        at = utc_now()
        store.lpush(SESSIONS, *(envelope(record, at) for record in records))
        if many:
            return Response(batch_receipt(len(records)), status=201)
        return Response(receipt(records[0]["session_id"]), status=201)


urlpatterns = [
    path("api/sessions", Sessions.as_view()),
    path("api/sessions/batch", Sessions.as_view()),
]
app = django_site.application()
