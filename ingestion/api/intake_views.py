"""POST of records: read the request, charge the quota, push, answer. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from ingestion import decoding, queues, validation
from ingestion.api import intake_schema, posting
from ingestion.api.access import client_name
from ingestion.api.body import read_payload
from ingestion.api.posting import Post
from ingestion.api.requests import ApiRequest
from ingestion.api.schema import Described
from ingestion.api.views import View
from ingestion.outcomes import AccessError, Code, PayloadError
from ingestion.queues import Quota
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.validation import Records


class IntakeView(View):
    """What the two ways to send records share. `record_type` comes with the route."""

    record_type: RecordType = RECORD_TYPES["sessions"]
    asks_who = True
    batch = False
    _quota: Quota | None = None  # after the charge for this request

    def post(self, request: ApiRequest) -> HttpResponse:
        """Hand the body to the intake and tell what became of it.

        With an `Idempotency-Key` the answer is remembered with the push, and the same request gets
        the same bytes again.
        """
        client = client_name(request, self.record_type.path)
        strict = _strict(self.query(request))
        post = Post(
            record_type=self.record_type,
            batch=self.batch,
            client=client,
            payload=read_payload(request, batch=self.batch),
            request_id=request.request_id,
            key=request.headers.get("Idempotency-Key"),
            strict=strict,
        )
        posting.check_key(post)
        judged = posting.judge(post, self._charged_records(post))
        (outcome,) = queues.push_together(self.record_type.queue, [judged.push])
        reply = posting.reply(judged, outcome)
        request.log_facts.update(reply.facts)
        return HttpResponse(
            reply.body, status=reply.status, content_type="application/json", headers=reply.headers
        )

    def _charged_records(self, post: Post) -> Records:
        """The records of the payload, once they are charged to the client's quota."""
        try:
            records = validation.read(post.record_type, post.payload)
        except PayloadError:
            self._charge(post.client, decoding.size_in_records(post.payload))
            raise
        self._charge(post.client, records.charged)
        return records

    def _charge(self, client: str, records: int) -> None:
        """Charge the quota of a client, if there is one. Raises `AccessError` if it is used up."""
        if per_minute := settings.CLIENT_RECORDS_PER_MINUTE:
            self._quota = quota = queues.charge(client, records, per_minute=per_minute)
            if quota.wait_seconds:
                raise AccessError(Code.QUOTA_EXCEEDED, retry_after_seconds=quota.wait_seconds)

    def finalize_response(
        self, request: Request, response: Response, *arguments: Any, **named: Any
    ) -> Response:
        """Every answer to a counted request, also a refusal, says what is left of the quota."""
        response = super().finalize_response(request, response, *arguments, **named)
        if self._quota:
            for name, value in posting.quota_headers(self._quota).items():
                response[name] = value
        return response


class RecordView(IntakeView):
    """One record: 201 if it is on the queue, 422 if it is not valid."""

    schema = Described(intake_schema.record)


class BatchView(IntakeView):
    """Many records, a JSON array or NDJSON: 201 if all are queued, 207 if some are, 422 if none is.

    With `?strict=true`, also 422 if any record is not valid.
    """

    schema = Described(intake_schema.batch)
    batch = True
    parameters = ("strict",)


def _strict(query: Mapping[str, str]) -> bool:
    """Whether `?strict=true` was sent. A value that is neither true nor false is refused."""
    word = query.get("strict", "false").lower()
    if word not in ("true", "false"):
        raise PayloadError(
            Code.MALFORMED_REQUEST, detail="Its query parameter strict must be true or false."
        )
    return word == "true"
