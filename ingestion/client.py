"""The portal's HTTP client: it posts each record once and reports the result."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    InvalidHeader,
    ProtocolError,
    ReadTimeoutError,
)

Record = Mapping[str, Any]
Rejections = Counter[tuple[str, str]]
"""How often records were refused, by field and code."""

T = TypeVar("T")

# The portal answers with these if it validated every record. Any other status refuses the request.
_JUDGED = (HTTPStatus.CREATED, HTTPStatus.MULTI_STATUS, HTTPStatus.UNPROCESSABLE_ENTITY)
# A proxy answers with these; it does not know what the portal did.
_FROM_A_PROXY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
# After these, the same request may succeed later.
_PASSING = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
    *_FROM_A_PROXY,
)

_TIMEOUT = Timeout(connect=5, read=60)
_BACKOFF = Retry(
    total=None, allowed_methods=None, backoff_factor=0.1, backoff_jitter=0.5, backoff_max=5
)
# How long a request is tried again. This is longer than a quota's minute. If the portal never
# answered, the time is shorter: the address is probably wrong.
_PATIENCE_SECONDS = 90.0
_FIRST_PATIENCE_SECONDS = 5.0

_DOUBT = (
    " Records that were being sent may be on the queue anyway: check the portal's log before you "
    "send them again."
)


class PortalError(Exception):
    """The records could not be sent. The text tells the person who sends them why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What became of the records of some requests.

    `retries` counts every try after the first one of a request. `replayed` counts the requests that
    an earlier try had delivered although its answer was lost. That earlier try queued their
    records, and they count once here. Deliveries can be added with `+`.
    """

    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0
    replayed: int = 0
    rejections: Rejections = field(default_factory=Counter)

    def __add__(self, other: Delivery) -> Delivery:
        return Delivery(
            sent=self.sent + other.sent,
            accepted=self.accepted + other.accepted,
            rejected=self.rejected + other.rejected,
            requests=self.requests + other.requests,
            retries=self.retries + other.retries,
            replayed=self.replayed + other.replayed,
            rejections=self.rejections + other.rejections,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueNumbers:
    """One queue as the portal's statistics show it; `queue` is its key in the store."""

    queue: str
    depth: int
    oldest_age_seconds: float | None
    accepted: int
    rejected: int


class Portal:
    """A portal by its address, like http://127.0.0.1:8000. Use it in one thread only.

    `key` is an API key; a portal on another machine needs one. `tell` gets a sentence when the
    client waits because of an outage.

    Every temporary failure is tried again for a while: a connection that fails, breaks or stays
    silent, and a temporary refusal. A retry never queues a record twice, because all tries of a
    request carry one `Idempotency-Key`, and the portal's store remembers what it took under this
    key. There are two exceptions: a portal that does not know the header, and a store that lost its
    memory between two tries. Both would take the records twice.
    """

    def __init__(
        self,
        url: str,
        *,
        api_prefix: str,
        key: str | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise PortalError(
                f"{url} is not the address of a portal: write it like http://127.0.0.1:8000."
            )
        self.url = url.rstrip("/")
        self._api = f"{self.url}{api_prefix}".rstrip("/")
        self._tell = tell
        self._reached = False
        self._http = PoolManager(
            headers={"Authorization": f"Api-Key {key}"} if key else None,
            timeout=_TIMEOUT,
            retries=False,
        )

    def post_singly(self, path: str, records: Sequence[Record]) -> Iterator[Delivery]:
        """Send each record in its own request and yield the result.

        `path` is the path of the record type. The next request is sent when the next value is asked
        for. Raises `PortalError` if a whole request was not taken. Its text says so if the records
        may be on the queue anyway.
        """
        for record in records:
            answer, request = self._post(path, record, _RecordAnswer)
            yield request + Delivery(
                sent=1,
                accepted=int(answer.success),
                rejected=int(not answer.success),
                rejections=_rejections(answer.errors),
            )

    def post_batches(self, path: str, records: Sequence[Record], size: int) -> Iterator[Delivery]:
        """Send the records in batches of `size` and yield the result of each batch.

        The rest is as in `post_singly`.
        """
        for first in range(0, len(records), size):
            batch = records[first : first + size]
            answer, request = self._post(f"{path}/batch", batch, _BatchAnswer)
            rejections = _rejections(chain.from_iterable(one.errors for one in answer.errors))
            # The portal lists only the first thousand rejections of a batch.
            if unnamed := answer.rejected - len(answer.errors):
                rejections["(not named)", "(not named)"] = unnamed
            yield request + Delivery(
                sent=len(batch),
                accepted=answer.count,
                rejected=answer.rejected,
                rejections=rejections,
            )

    def queue_numbers(self) -> list[QueueNumbers]:
        """The numbers of every queue. Raises `PortalError`."""
        response, _ = self._request("GET", "queue/stats", (HTTPStatus.OK,))
        return list(self._decoded(response, _QueueStats).detail.values())

    def _post(
        self, address: str, content: Record | Sequence[Record], document: type[T]
    ) -> tuple[T, Delivery]:
        """The answer, and what this request adds to a delivery."""
        response, retries = self._request(
            "POST",
            address,
            _JUDGED,
            body=msgspec.json.encode(content),
            headers={
                **self._http.headers,
                "Content-Type": "application/json",
                "Idempotency-Key": str(uuid4()),
            },
        )
        replayed = response.headers.get("Idempotent-Replayed") == "true"
        return self._decoded(response, document), Delivery(
            requests=1, retries=retries, replayed=int(replayed)
        )

    def _request(
        self, method: str, address: str, wanted: Container[int], **content: Any
    ) -> tuple[BaseHTTPResponse, int]:
        """An answer with a `wanted` status, and how many retries it took. Raises `PortalError`.

        urllib3 could retry by itself. But then it would not say whether one of the tries was sent
        and never answered.
        """
        url = f"{self._api}/{address}"
        tries, in_doubt, told = _BACKOFF, False, ""
        started_at = time.monotonic()
        while True:
            answer, fault = None, None
            try:
                answer = self._http.request(method, url, redirect=False, **content)
                if answer.status in wanted:
                    self._reached = True
                    return answer, len(tries.history)
                failure = self._refused(answer)
            except HTTPError as caught:
                fault = caught
                failure = self._broken(fault)
            self._reached = self._reached or not isinstance(fault, ConnectTimeoutError)
            in_doubt = in_doubt or failure.in_doubt
            tries = tries.increment(method, url, answer, fault)
            wait = failure.asked_seconds or tries.get_backoff_time()
            patience = _PATIENCE_SECONDS if self._reached else _FIRST_PATIENCE_SECONDS
            if not failure.may_pass or time.monotonic() + wait > started_at + patience:
                doubt = _DOUBT if in_doubt and method == "POST" else ""
                raise PortalError(f"{failure.sentence}{doubt}") from fault
            if wait and failure.sentence != told:
                told = failure.sentence
                self._tell(f"{told} Trying again…")
            time.sleep(wait)

    def _refused(self, response: BaseHTTPResponse) -> _Failure:
        refusal = _refusal(response)
        sentence = refusal.error or "Is this the address of a portal?"
        return _Failure(
            sentence=f"{self.url} answered {response.status}: {sentence}",
            may_pass=response.status in _PASSING,
            in_doubt=refusal.outcome == "unknown" or response.status in _FROM_A_PROXY,
            asked_seconds=_asked_seconds(response),
        )

    def _broken(self, fault: HTTPError) -> _Failure:
        if isinstance(fault, ProtocolError | ReadTimeoutError | DecodeError):
            sentence = f"The connection to {self.url} broke before the portal answered."
            return _Failure(sentence=sentence, may_pass=True, in_doubt=True)
        why = getattr(fault.__cause__, "strerror", None) or type(fault).__name__
        return _Failure(
            sentence=f"No portal answers at {self.url} ({why}). Start the portal with make run, or "
            "name the address of one that runs.",
            may_pass=isinstance(fault, ConnectTimeoutError),
        )

    def _decoded(self, response: BaseHTTPResponse, document: type[T]) -> T:
        try:
            return msgspec.json.decode(response.data, type=document)
        except msgspec.DecodeError as fault:
            raise PortalError(
                f"{self.url} does not answer like a portal. Check the address."
            ) from fault


def _asked_seconds(response: BaseHTTPResponse) -> float | None:
    try:
        return _BACKOFF.get_retry_after(response)
    except InvalidHeader:  # a proxy may send an invalid one
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    """Why a try failed, and whether its records may be queued anyway.

    `asked_seconds` is the wait that the portal asks for, if it asks for one.
    """

    sentence: str
    may_pass: bool
    in_doubt: bool = False
    asked_seconds: float | None = None


class _Refusal(msgspec.Struct):
    """The answer that refused a whole request; empty if the answer is not from the portal."""

    error: str = ""
    outcome: str = ""


class _FieldError(msgspec.Struct):
    field: str | None
    code: str


class _RecordAnswer(msgspec.Struct):
    success: bool
    errors: list[_FieldError] = []


class _Rejection(msgspec.Struct):
    errors: list[_FieldError]


class _BatchAnswer(msgspec.Struct):
    count: int
    rejected: int
    errors: list[_Rejection]


class _QueueStats(msgspec.Struct):
    detail: dict[str, QueueNumbers]


def _refusal(response: BaseHTTPResponse) -> _Refusal:
    try:
        return msgspec.json.decode(response.data, type=_Refusal)
    except msgspec.DecodeError:
        return _Refusal()


def _rejections(errors: Iterable[_FieldError]) -> Rejections:
    return Counter((error.field or "(record)", error.code) for error in errors)
