"""A POST of records, step by step: what Django's view and the web server's fast lane share.

No step knows a web framework or asks the store: the caller makes the push between `judge` and
`reply`.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from typing import Any

import msgspec
from django.conf import settings
from msgspec import UNSET, Struct

from ingestion import intake
from ingestion.api import answers
from ingestion.api.errors import error
from ingestion.decoding import Payload
from ingestion.intake import Received
from ingestion.outcomes import Code, IntakeError, PayloadError, Receipt
from ingestion.queues import Once, Push, Pushed, Quota
from ingestion.records import RecordType
from ingestion.sources import Source
from ingestion.times import utc_timestamp
from ingestion.validation import Records, encode

# A batch's answer lists at most this many rejections (contract, section 2).
MOST_ERRORS = 1000

_KEY = re.compile(r"[!-~]{1,255}")


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """A request to queue records, from a `client` that may send them.

    `key` is its Idempotency-Key if it has one.
    """

    record_type: RecordType
    batch: bool
    client: str
    payload: Payload
    request_id: str
    key: str | None = None
    strict: bool = False


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Validated records with the `push` to make for them, and the answer if it succeeds.

    `answer` is the status and the body, with a space between. `code` is set if no record is valid.
    """

    received: Received
    push: Push
    answer: bytes
    code: Code | None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request, in JSON; `facts` join the request's line in the log."""

    status: int
    headers: dict[str, str]
    body: bytes
    facts: dict[str, Any]


def check_key(post: Post) -> None:
    """Raise `PayloadError` if the Idempotency-Key cannot be one; the first step."""
    if post.key is not None and not _KEY.fullmatch(post.key):
        raise PayloadError(Code.INVALID_KEY)


def judge(post: Post, records: Records) -> Judged:
    """Validate the records."""
    received = intake.receive(post.record_type, records, strict=post.strict)
    at = utc_timestamp()
    status, document, code = (_tell_of_batch if post.batch else _tell)(post, received.receipt, at)
    answer = b"%d %s" % (status, encode(document))
    once = None
    if post.key is not None:
        once = Once(
            request=_name(post, post.key),
            fingerprint=_fingerprint(post),
            answer=answer,
            ttl_seconds=settings.IDEMPOTENCY_SECONDS,
        )
    push = intake.prepare(received, source=Source(client=post.client), at=at, once=once)
    return Judged(received=received, push=push, answer=answer, code=code)


def reply(judged: Judged, outcome: Pushed | IntakeError) -> Reply:
    """The answer, once the push was made. Raises the outcome if it is an error."""
    receipt = intake.settle(judged.received, judged.push, outcome)
    status, _, body = (receipt.answer or judged.answer).partition(b" ")
    facts = intake.facts(judged.received, receipt)
    if judged.code:
        facts["code"] = judged.code.value
    headers = {"Idempotent-Replayed": "true"} if receipt.replayed else {}
    return Reply(status=int(status), headers=headers, body=body, facts=facts)


def quota_headers(quota: Quota) -> dict[str, str]:
    """What is left of a client's quota (draft-ietf-httpapi-ratelimit-headers)."""
    return {
        "RateLimit-Policy": f'"records";q={quota.per_minute};w=60',
        "RateLimit": f'"records";r={quota.left};t={quota.full_in_seconds}',
    }


def _tell(post: Post, receipt: Receipt, at: str) -> tuple[HTTPStatus, Struct, Code | None]:
    """The receipt of one record, or its errors."""
    if receipt.rejections:
        (rejection,) = receipt.rejections
        code = Code.INVALID_RECORD
        return code.status, error(code, request_id=post.request_id, errors=rejection.errors), code
    document = answers.Receipt(
        message=f"The {post.record_type.title} is queued.",
        id=receipt.ids[0],
        timestamp=at,
        ignored_fields=list(receipt.ignored_fields) or UNSET,
    )
    return HTTPStatus.CREATED, document, None


def _tell_of_batch(post: Post, receipt: Receipt, at: str) -> tuple[HTTPStatus, Struct, Code | None]:
    """A batch: counts, and the first rejections."""
    counts: dict[str, Any] = {
        "message": f"Records queued: {receipt.accepted}. Records refused: {receipt.rejected}.",
        "count": receipt.accepted,
        "rejected": receipt.rejected,
        "queued": receipt.accepted > 0,
        "timestamp": at,
        "errors": [answers.rejection(one) for one in receipt.rejections[:MOST_ERRORS]],
        "errors_truncated": True if receipt.rejected > MOST_ERRORS else UNSET,
    }
    if receipt.accepted:
        status = HTTPStatus.MULTI_STATUS if receipt.rejections else HTTPStatus.CREATED
        document = answers.BatchReceipt(
            success=not receipt.rejections,
            ignored_fields=receipt.ignored_fields or UNSET,
            **counts,
        )
        return status, document, None
    code = Code.INVALID_BATCH
    refused = answers.BatchError(
        error=code.sentence, code=code, request_id=post.request_id, **counts
    )
    return code.status, refused, code


def _name(post: Post, key: str) -> str:
    """The name of this request, from its Idempotency-Key; a key counts per client and route.

    The route has a fixed name, because its address may change between two tries (`API_PREFIX`).
    """
    # As the addresses were when answers were first remembered.
    route = f"/api/{post.record_type.path}{'/batch' if post.batch else ''}"
    return hashlib.sha256("\n".join((post.client, route, key)).encode()).hexdigest()


def _fingerprint(post: Post) -> str:
    content = hashlib.sha256(post.payload.content)
    content.update(f"{post.payload.framing} {post.strict}".encode())
    return content.hexdigest()
