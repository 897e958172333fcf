"""POST of records: parse, ask the intake, answer. Nothing is decided here."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from django.conf import settings
from django.http import HttpResponse
from msgspec import UNSET, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from ingestion import decoding, intake, queues, validation
from ingestion.api import answers, intake_schema
from ingestion.api.access import client_name
from ingestion.api.body import read_payload
from ingestion.api.errors import error
from ingestion.api.requests import ApiRequest
from ingestion.api.schema import Described
from ingestion.api.views import View
from ingestion.decoding import Payload
from ingestion.outcomes import (
    AccessError,
    Code,
    PayloadError,
    Receipt,
)
from ingestion.queues import Once, Quota
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.sources import Source
from ingestion.times import utc_timestamp
from ingestion.validation import Records

# A batch's answer lists so many rejections at most (contract, section 2).
MOST_ERRORS = 1000

_KEY = re.compile(r"[!-~]{1,255}")


class IntakeView(View, ABC):
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
        payload = read_payload(request, batch=self.batch)

        request_name = _request_name(request, client, self._route)
        records = self._charged_records(client, payload)
        received = intake.receive(self.record_type, records, strict=strict)
        status_code, document = self.tell(received.receipt, request)
        answer = b"%d %s" % (status_code, msgspec.json.encode(document))
        once = None
        if request_name:
            once = Once(
                request=request_name,
                fingerprint=_fingerprint(payload, strict=strict),
                answer=answer,
                ttl_seconds=settings.IDEMPOTENCY_SECONDS,
            )
        receipt = intake.queue(received, source=Source(client=client), once=once)
        status, _, body = (receipt.answer or answer).partition(b" ")
        request.log_facts.update(accepted=receipt.accepted, rejected=receipt.rejected)
        return HttpResponse(
            body,
            status=int(status),
            content_type="application/json",
            headers={"Idempotent-Replayed": "true"} if receipt.replayed else None,
        )

    @property
    def _route(self) -> str:
        # As the addresses were when answers were first remembered.
        return f"/api/{self.record_type.path}{'/batch' if self.batch else ''}"

    def _charged_records(self, client: str, payload: Payload) -> Records:
        """The records of the payload, once they are charged to the client's quota."""
        try:
            records = validation.read(self.record_type, payload)
        except PayloadError:
            self._charge(client, decoding.size_in_records(payload))
            raise
        self._charge(client, records.charged)
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
        """Every answer to a request that was counted, refusals too, says what is left."""
        response = super().finalize_response(request, response, *arguments, **named)
        if quota := self._quota:
            # draft-ietf-httpapi-ratelimit-headers
            response["RateLimit-Policy"] = f'"records";q={quota.per_minute};w=60'
            response["RateLimit"] = f'"records";r={quota.left};t={quota.full_in_seconds}'
        return response

    @abstractmethod
    def tell(self, receipt: Receipt, request: ApiRequest) -> tuple[HTTPStatus, Struct]:
        """Status and body for this receipt."""


class RecordView(IntakeView):
    """One record: 201 where it is on the queue, 422 where it is not valid."""

    schema = Described(intake_schema.record)

    def tell(self, receipt: Receipt, request: ApiRequest) -> tuple[HTTPStatus, Struct]:
        """The receipt of one record, or the fields at fault."""
        if receipt.rejections:
            (rejection,) = receipt.rejections
            code = request.log_facts["code"] = Code.INVALID_RECORD
            return code.status, error(code, request_id=request.request_id, errors=rejection.errors)
        return HTTPStatus.CREATED, answers.Receipt(
            message=f"The {self.record_type.title} is queued.",
            id=receipt.ids[0],
            timestamp=utc_timestamp(),
            ignored_fields=list(receipt.ignored_fields) or UNSET,
        )


class BatchView(IntakeView):
    """Many records, a JSON array or NDJSON: 201 where all are queued, 207 some, 422 none.

    With `?strict=true`, 422 also where not all are valid.
    """

    schema = Described(intake_schema.batch)
    batch = True
    parameters = ("strict",)

    def tell(self, receipt: Receipt, request: ApiRequest) -> tuple[HTTPStatus, Struct]:
        """Counts, and the first rejections."""
        counts: dict[str, Any] = {
            "message": f"Records queued: {receipt.accepted}. Records refused: {receipt.rejected}.",
            "count": receipt.accepted,
            "rejected": receipt.rejected,
            "queued": receipt.accepted > 0,
            "timestamp": utc_timestamp(),
            "errors": [answers.rejection(one) for one in receipt.rejections[:MOST_ERRORS]],
            "errors_truncated": True if receipt.rejected > MOST_ERRORS else UNSET,
        }
        if receipt.accepted:
            status = HTTPStatus.MULTI_STATUS if receipt.rejections else HTTPStatus.CREATED
            return status, answers.BatchReceipt(
                success=not receipt.rejections,
                ignored_fields=receipt.ignored_fields or UNSET,
                **counts,
            )
        code = request.log_facts["code"] = Code.INVALID_BATCH
        return code.status, answers.BatchError(
            error=code.sentence, code=code, request_id=request.request_id, **counts
        )


def _request_name(request: ApiRequest, client: str, route: str) -> str | None:
    """What names this request, from its Idempotency-Key; a key counts per client and route.

    The route is named by what it is: its address may change between two tries (`API_PREFIX`).
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise PayloadError(Code.INVALID_KEY)
    return hashlib.sha256("\n".join((client, route, key)).encode()).hexdigest()


def _fingerprint(payload: Payload, *, strict: bool) -> str:
    content = hashlib.sha256(payload.content)
    content.update(f"{payload.framing} {strict}".encode())
    return content.hexdigest()


def _strict(query: Mapping[str, str]) -> bool:
    """Whether `?strict=true` was asked for; a word that says neither is not guessed at."""
    word = query.get("strict", "false").lower()
    if word not in ("true", "false"):
        raise PayloadError(
            Code.MALFORMED_REQUEST, detail="Its query parameter strict must be true or false."
        )
    return word == "true"
