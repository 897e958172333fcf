"""django-ninja, and Django REST framework as it comes, in one small Django project."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for the benchmark alone",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
    DATA_UPLOAD_MAX_MEMORY_SIZE=2**26,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from ninja import NinjaAPI  # noqa: E402
from redis import Redis  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from tests.benchmarks.peers.envelopes import (  # noqa: E402
    QUEUE,
    batch_receipt,
    envelope,
    receipt,
    utc_now,
)
from tests.benchmarks.peers.models import Session  # noqa: E402

store = Redis.from_url(os.environ["REDIS_URL"])
ninja = NinjaAPI()


@ninja.post("/sessions", response={201: dict})
def one(request: Any, session: Session) -> tuple[int, dict[str, Any]]:
    """One record."""
    store.lpush(QUEUE, envelope(session.model_dump(mode="json"), utc_now()))
    return 201, receipt(session.session_id)


@ninja.post("/sessions/batch", response={201: dict})
def batch(request: Any, sessions: list[Session]) -> tuple[int, dict[str, Any]]:
    """Many records, one push."""
    at = utc_now()
    store.lpush(QUEUE, *(envelope(one.model_dump(mode="json"), at) for one in sessions))
    return 201, batch_receipt(len(sessions))


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


class Sessions(APIView):
    """One record, or many with one push."""

    def post(self, request: Request) -> Response:
        """Validate and queue."""
        many = isinstance(request.data, list)
        serializer = SessionSerializer(data=request.data, many=many)
        serializer.is_valid(raise_exception=True)
        records = serializer.data if many else [serializer.data]
        at = utc_now()
        store.lpush(QUEUE, *(envelope(record, at) for record in records))
        if many:
            return Response(batch_receipt(len(records)), status=201)
        return Response(receipt(records[0]["session_id"]), status=201)


urlpatterns = [
    path("api/", ninja.urls),
    path("drf/sessions", Sessions.as_view()),
    path("drf/sessions/batch", Sessions.as_view()),
]
application = get_wsgi_application()
