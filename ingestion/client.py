"""The portal's HTTP client: posts records and says what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain
from typing import Any, Self, TypeVar
from uuid import uuid4

import msgspec
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError, ReadTimeoutError

Record = Mapping[str, Any]
Refusals = Counter[tuple[str, str]]
"""How often records were refused, by field and code."""

T = TypeVar("T")

# What the portal answers where it has judged every record; anything else refuses the request.
_JUDGED = (HTTPStatus.CREATED, HTTPStatus.MULTI_STATUS, HTTPStatus.UNPROCESSABLE_ENTITY)


class PortalError(Exception):
    """The records could not be sent. The text is a sentence for the person who sends them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What became of the records of some requests.

    `retries` are the tries beyond the first one of each request. Deliveries add up with `+`.
    """

    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0
    refusals: Refusals = field(default_factory=Counter)

    def __add__(self, other: Delivery) -> Delivery:
        return Delivery(
            sent=self.sent + other.sent,
            accepted=self.accepted + other.accepted,
            rejected=self.rejected + other.rejected,
            requests=self.requests + other.requests,
            retries=self.retries + other.retries,
            refusals=self.refusals + other.refusals,
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
    """A portal by its address, like http://127.0.0.1:8000. Not for several threads at once.

    `key` is an API key, which a portal on another machine asks for.
    """

    def __init__(self, url: str, *, api_prefix: str, key: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise PortalError(
                f"{url} is not the address of a portal: write it like http://127.0.0.1:8000."
            )
        self.url = url.rstrip("/")
        self._api = f"{self.url}{api_prefix}".rstrip("/")
        self._http = PoolManager(
            headers={"Authorization": f"Api-Key {key}"} if key else None,
            timeout=Timeout(connect=5, read=60),
            retries=_WhereNothingWasQueued(
                total=10,
                connect=5,
                read=0,
                other=0,
                allowed_methods=None,
                backoff_factor=0.1,
                backoff_jitter=0.1,
                backoff_max=5,
                retry_after_max=30,
                raise_on_status=False,
            ),
        )

    def post_singly(self, path: str, records: Sequence[Record]) -> Iterator[Delivery]:
        """Send each record in a request of its own and yield what became of it.

        `path` is that of the record type. The next request is sent when the next value is asked
        for. Raises `PortalError` where a request as a whole was not taken; its text says whether
        the records may be on the queue all the same.
        """
        for record in records:
            response = self._post(path, record)
            answer = self._decoded(response, _RecordAnswer)
            yield Delivery(
                sent=1,
                accepted=int(answer.success),
                rejected=int(not answer.success),
                requests=1,
                retries=_retries(response),
                refusals=_refusals(answer.errors),
            )

    def post_batches(self, path: str, records: Sequence[Record], size: int) -> Iterator[Delivery]:
        """Send the records in batches of `size` and yield what became of each batch.

        Otherwise as `post_singly`.
        """
        for first in range(0, len(records), size):
            batch = records[first : first + size]
            response = self._post(f"{path}/batch", batch)
            answer = self._decoded(response, _BatchAnswer)
            refusals = _refusals(chain.from_iterable(one.errors for one in answer.errors))
            # The portal names the first thousand of a batch.
            if unnamed := answer.rejected - len(answer.errors):
                refusals["(not named)", "(not named)"] = unnamed
            yield Delivery(
                sent=len(batch),
                accepted=answer.count,
                rejected=answer.rejected,
                requests=1,
                retries=_retries(response),
                refusals=refusals,
            )

    def queue_numbers(self) -> list[QueueNumbers]:
        """The numbers of every queue. Raises `PortalError`."""
        response = self._request("GET", "queue/stats")
        if response.status != HTTPStatus.OK:
            raise PortalError(self._refused(response))
        return list(self._decoded(response, _QueueStats).detail.values())

    def _post(self, address: str, content: Record | Sequence[Record]) -> BaseHTTPResponse:
        response = self._request(
            "POST",
            address,
            body=msgspec.json.encode(content),
            headers={
                **self._http.headers,
                "Content-Type": "application/json",
                # One key for all tries of a request, by which the portal can know it again.
                "Idempotency-Key": str(uuid4()),
            },
        )
        if response.status not in _JUDGED:
            raise PortalError(self._refused(response))
        return response

    def _request(self, method: str, address: str, **content: Any) -> BaseHTTPResponse:
        try:
            return self._http.request(method, f"{self._api}/{address}", redirect=False, **content)
        except HTTPError as fault:
            reason = (isinstance(fault, MaxRetryError) and fault.reason) or fault
            if isinstance(reason, ProtocolError | ReadTimeoutError):
                raise PortalError(
                    f"The connection to {self.url} broke before the portal answered: records that "
                    "were on their way may or may not be on the queue. Look into the portal's log "
                    "before you send them again."
                ) from fault
            why = getattr(reason.__cause__, "strerror", None) or type(reason).__name__
            raise PortalError(
                f"No portal answers at {self.url} ({why}). Start the portal with make run, or "
                "name the address of one that runs."
            ) from fault

    def _refused(self, response: BaseHTTPResponse) -> str:
        sentence = _refusal(response).error or "Is this the address of a portal?"
        return f"{self.url} answered {response.status}: {sentence}"

    def _decoded(self, response: BaseHTTPResponse, document: type[T]) -> T:
        try:
            return msgspec.json.decode(response.data, type=document)
        except msgspec.DecodeError as fault:
            raise PortalError(
                f"{self.url} does not answer like a portal. Check the address."
            ) from fault


class _WhereNothingWasQueued(Retry):
    """Tries again where no connection came about, and after 429 or 503 with Retry-After.

    A second try can then not double a push. The portal does not know Idempotency-Keys yet, so a
    request whose outcome is unknown is not tried again: neither where the connection broke
    (`read=0`), nor where the portal says so in a 503.
    """

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        response = kwargs.get("response")
        if response is not None and _refusal(response).outcome == "unknown":
            # Without raise_on_status urllib3 takes this for the last try and returns the answer.
            raise MaxRetryError(kwargs["_pool"], response.url)
        return super().increment(*args, **kwargs)


class _Refusal(msgspec.Struct):
    """The answer to a request that was refused as a whole; empty where it is not the portal's."""

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


def _refusals(errors: Iterable[_FieldError]) -> Refusals:
    return Counter((error.field or "(record)", error.code) for error in errors)


def _retries(response: BaseHTTPResponse) -> int:
    return len(response.retries.history) if response.retries else 0
