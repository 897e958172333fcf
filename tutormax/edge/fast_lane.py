"""The fast lane: plain POSTs of valid records are answered beside Django, many at a time.

A plain request is a POST to an address of the intake as clients send it: a little JSON, from a
client that is known at this moment, in which every record is certainly valid. All other requests go
to Django untouched. The steps are those of Django's view (`ingestion.api.posting`), and so are the
answers, their headers and the log lines.

It is fast because no framework is on the way, and because all requests that wait for one queue are
pushed in one call of the store. Each of them is still all or nothing and has its own outcome.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

import msgspec
import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.signals import request_finished
from django.http import HttpRequest
from django.urls import reverse
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from ingestion import queues, validation
from ingestion.api import posting
from ingestion.api.access import client_of
from ingestion.api.errors import error, explained
from ingestion.api.posting import Judged, Post
from ingestion.api_keys import known_keys
from ingestion.decoding import BYTES_CHARGED_AS_A_RECORD, Framing, Payload
from ingestion.outcomes import AccessError, Code, IntakeError, StoreError
from ingestion.queues import Pushed, Quota
from ingestion.records import RECORD_TYPES, RecordType
from tutormax.edge import log_lines
from tutormax.edge.log_lines import Line
from tutormax.edge.request import Request
from tutormax.middleware import logged_path
from tutormax.request_id import request_id

# The event loop parses the body, and serves nobody else meanwhile.
_MOST_BYTES = BYTES_CHARGED_AS_A_RECORD
# At most this many requests are pushed in one call of the store.
_MOST_TOGETHER = 128
# With one of these headers a request may need more than the steps here.
_FOR_DJANGO = frozenset(
    {"content-encoding", "cookie", "expect", "origin", "transfer-encoding", "upgrade"}
)
_OF_ONE_ANSWER = frozenset(
    {"content-length", "content-type", "idempotent-replayed", "ratelimit", "ratelimit-policy"}
    | {"retry-after", "x-request-id"}
)
# How a body is read, by its Content-Type as clients write it.
_JSON = ("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8")
_OF_RECORDS = dict.fromkeys(_JSON, Framing.RECORD)
_OF_BATCHES = dict.fromkeys(_JSON, Framing.ARRAY) | {"application/x-ndjson": Framing.LINES}
_LONGEST_HOST = 300
# How often the copy of the keys is looked at.
_KEYS_SECONDS = 1.0

_Outcome = Pushed | IntakeError

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Route:
    """An address of the intake: what is posted there, by its Content-Type."""

    record_type: RecordType
    batch: bool
    framings: dict[str, Framing]
    logged: str


@dataclass(kw_only=True, slots=True)
class _Arrived:
    """A request that may be plain. `answered` tells whether the lane has answered it."""

    request: Request
    route: _Route
    answered: asyncio.Future[bool]


@dataclass(kw_only=True, slots=True)
class Plain:
    """A plain request: its records are validated and not pushed yet."""

    request: Request
    route: _Route
    answered: asyncio.Future[bool]
    post: Post
    facts: dict[str, Any]
    judged: Judged
    charged: int
    quota: Quota | None = None


Group = Sequence[Plain]


class FastLane:
    """The fast lane of one web worker. Use it in one event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._routes = dict(_routes())
        self._headers: list[tuple[str, str]] | None = None
        self._arrived: list[_Arrived] = []
        self._count = 0  # of requests that wait
        self._writers = {
            one.queue: _Writer(loop, partial(self._push, one.queue))
            for one in RECORD_TYPES.values()
        }
        self._keys = ThreadPoolExecutor(1, thread_name_prefix="keys")
        self._keys_due = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    def takes(self, request: Request) -> bool:
        """Whether the request may be plain, and there is room for it."""
        scope = request.scope
        return (
            scope.path in self._routes
            and scope.method == "POST"
            and not scope.query_string
            and not scope.authority
            and 0 < request.size_bytes <= _MOST_BYTES
            and self._count < settings.MAX_WAITING_REQUESTS
        )

    async def answer(self, request: Request) -> bool:
        """Answer the request, together with others, if it is plain; False if it is not."""
        arrived = _Arrived(
            request=request,
            route=self._routes[request.scope.path],
            answered=self._loop.create_future(),
        )
        if not self._arrived:
            self._loop.call_soon(self._judge)  # the others of this turn of the loop join it
        self._arrived.append(arrived)
        self._count += 1
        self._idle.clear()
        try:
            return await arrived.answered
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()
            if time.monotonic() > self._keys_due:
                self._keys_due = time.monotonic() + _KEYS_SECONDS
                # As after each answer of Django: it keeps the copy of the keys young.
                self._keys.submit(request_finished.send, sender=type(self))

    def _judge(self) -> None:
        """Push what is plain of that which has arrived, and hand back the rest."""
        group, self._arrived = self._arrived, []
        try:
            found = _judged(group)
        except Exception:  # a mistake of ours with one of them: Django answers each by itself
            logger.exception("fast_lane_failed")
            found = [None] * len(group)
        for arrived, plain in zip(group, found, strict=True):
            arrived.request.is_plain = plain is not None
            if plain and self._headers:
                self._writers[plain.post.record_type.queue].add(plain)
            elif not arrived.answered.done():
                arrived.answered.set_result(False)

    def learn(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Take over the headers of Django's answer to a plain request."""
        fixed = [(name.lower(), value) for name, value in headers]
        if status == 201 and not any(name == "set-cookie" for name, _ in fixed):
            self._headers = [
                ("content-type", "application/json"),
                *((name, value) for name, value in fixed if name not in _OF_ONE_ANSWER),
            ]

    async def finish(self) -> None:
        """Return when no request waits; no further one may come."""
        await self._idle.wait()
        for writer in self._writers.values():
            writer.finish()
        self._keys.shutdown(cancel_futures=True)

    def _push(self, queue: str, group: Group) -> None:
        """Push the records of all, and answer each; called in the queue's thread."""
        outcomes = _pushed(queue, group)
        lines, answers = [], []
        for plain, outcome in zip(group, outcomes, strict=True):
            status, headers, body = self._reply(plain, outcome)
            began = plain.request.began
            lines.append(
                Line(
                    request_id=plain.post.request_id,
                    duration_ms=round((time.perf_counter() - began) * 1000, 2),
                    facts=plain.facts,
                )
            )
            answers.append((plain.request.proto, status, headers, body))
        log_lines.write(lines)
        for proto, status, headers, body in answers:
            with suppress(ProtocolClosed):
                proto.response_bytes(status, headers, body)

    def _reply(self, plain: Plain, outcome: _Outcome) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of the answer; its facts join those of the log line."""
        name = plain.post.request_id
        plain.facts |= {"method": "POST", "path": plain.route.logged}
        try:
            reply = posting.reply(plain.judged, outcome)
        except Exception as fault:
            if not isinstance(fault, IntakeError):
                # A mistake of ours, after the push. The others of the call are answered anyway.
                logger.exception("request_failed", path=plain.route.logged)
                fault = StoreError(
                    Code.STORE_ANSWER_LOST, retry_after_seconds=1, outcome_unknown=True
                )
            code, own, told = explained(fault)
            status = int(code.status)
            body = msgspec.json.encode(error(code, request_id=name, **told))
            plain.facts |= {"status": status, "code": code.value}
        else:
            status, own, body = reply.status, reply.headers, reply.body
            plain.facts |= {"status": status, **reply.facts}
        if plain.quota:
            own = own | posting.quota_headers(plain.quota)
        headers = [*(self._headers or ()), ("x-request-id", name)]
        headers += [(word.lower(), value) for word, value in own.items()]
        return status, headers, body


class _Writer:
    """A thread that makes the pushes of one queue; what comes meanwhile waits for the next call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[Group], None]) -> None:
        self._loop = loop
        self._send = send
        self._waiting: list[Plain] = []
        self._groups = SimpleQueue[Group]()
        self._is_busy = False
        Thread(target=self._work, name="push", daemon=True).start()

    def add(self, plain: Plain) -> None:
        """Push it with the next call; its `answered` tells when that is done."""
        self._waiting.append(plain)
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._next)  # the others of this turn of the loop join it

    def finish(self) -> None:
        """End the thread; nothing may wait any more."""
        self._groups.put(())

    def _next(self) -> None:
        self._groups.put(self._waiting[:_MOST_TOGETHER])
        del self._waiting[:_MOST_TOGETHER]

    def _work(self) -> None:
        while group := self._groups.get():
            fault: Exception | None = None
            try:
                self._send(group)
            except Exception as caught:  # noqa: BLE001 (each request raises it)
                fault = caught
            self._loop.call_soon_threadsafe(self._done, group, fault)

    def _done(self, group: Group, fault: Exception | None) -> None:
        if self._waiting:
            self._next()
        else:
            self._is_busy = False
        for plain in group:
            if plain.answered.done():  # the server gave the request up
                continue
            if fault:
                plain.answered.set_exception(fault)
            else:
                plain.answered.set_result(True)


def _judged(group: Sequence[_Arrived]) -> list[Plain | None]:
    """Each request with its validated records; None if it is not plain.

    Each step is done for all of them before the next: the processor then finds the step's code and
    data in its cache.
    """
    posts = [_post(one) for one in group]
    known = [(post.record_type, post.payload) for post, _ in posts if post]
    certain = iter(validation.read_certain(known))
    found: list[Plain | None] = []
    for one, (post, facts) in zip(group, posts, strict=True):
        records = next(certain) if post else None
        found.append(
            Plain(
                request=one.request,
                route=one.route,
                answered=one.answered,
                post=post,
                facts=facts,
                judged=posting.judge(post, records),
                charged=records.charged,
            )
            if post and records
            else None
        )
    return found


def _post(arrived: _Arrived) -> tuple[Post | None, dict[str, Any]]:
    """The request with its client, and facts for its log line; None if it is not plain."""
    request, route = arrived.request, arrived.route
    facts: dict[str, Any] = {}
    fields = request.headers.items()
    headers: dict[str, str] = dict(fields)
    # `keys` has each name once. `items` has a name as often as it was sent, but omits a value that
    # is not ASCII.
    if not len(headers) == len(fields) == len(request.headers.keys()) or not _FOR_DJANGO.isdisjoint(
        headers
    ):
        return None, facts
    framing = route.framings.get(headers.get("content-type", ""))
    if (
        framing is None
        or len(host := headers.get("host", "")) > _LONGEST_HOST  # they are kept
        or not _is_ours(host)
        or (settings.HTTPS and headers.get("x-forwarded-proto") != "https")
    ):
        return None, facts
    try:
        client = client_of(
            headers,
            request.peer,
            route.record_type.path,
            facts=facts,
            grant_of=known_keys.grant_at_once,
        )
        post = Post(
            record_type=route.record_type,
            batch=route.batch,
            client=client,
            payload=Payload(content=request.content, framing=framing),
            request_id=request_id(headers.get("x-request-id")),
            key=headers.get("idempotency-key"),
        )
        posting.check_key(post)
    except IntakeError:
        return None, facts
    return post, facts


def _pushed(queue: str, group: Group) -> list[_Outcome]:
    """Charge the requests to their clients' quotas, and push those that may be."""
    refused = _charged(group) if settings.CLIENT_RECORDS_PER_MINUTE else {}
    given = [one for at, one in enumerate(group) if at not in refused]
    pushed = queues.push_together(queue, [one.judged.push for one in given]) if given else []
    # The store refused the group for one of its requests, perhaps: nothing of it was done.
    if len(given) > 1 and any(
        isinstance(one, IntakeError) and one.code is Code.STORE_ERROR for one in pushed
    ):
        pushed = [
            outcome for one in given for outcome in queues.push_together(queue, [one.judged.push])
        ]
    outcomes = iter(pushed)
    return [refused.get(at) or next(outcomes) for at in range(len(group))]


def _charged(group: Group) -> dict[int, IntakeError]:
    """Charge each request's records to its client; the errors of those that were not charged."""
    refused: dict[int, IntakeError] = {}
    of_client: dict[str, list[int]] = {}
    for at, one in enumerate(group):
        of_client.setdefault(one.post.client, []).append(at)
    for client, places in of_client.items():
        try:
            quotas = queues.charge_together(
                client,
                [group[at].charged for at in places],
                per_minute=settings.CLIENT_RECORDS_PER_MINUTE,
            )
        except IntakeError as fault:
            refused |= dict.fromkeys(places, fault)
            continue
        for at, quota in zip(places, quotas, strict=True):
            group[at].quota = quota
            if quota.wait_seconds:
                refused[at] = AccessError(
                    Code.QUOTA_EXCEEDED, retry_after_seconds=quota.wait_seconds
                )
    return refused


def _routes() -> Iterator[tuple[str, _Route]]:
    """Each address of the intake."""
    for path, record_type in RECORD_TYPES.items():
        for name, framings in ((f"record-{path}", _OF_RECORDS), (f"batch-{path}", _OF_BATCHES)):
            address = reverse(name)
            yield (
                address,
                _Route(
                    record_type=record_type,
                    batch=framings is _OF_BATCHES,
                    framings=framings,
                    logged=logged_path(address),
                ),
            )


@lru_cache(maxsize=256)
def _is_ours(host: str) -> bool:
    """Whether Django takes this Host header for one of the site's."""
    request = HttpRequest()
    request.META["HTTP_HOST"] = host
    try:
        return bool(request.get_host())
    except DisallowedHost:
        return False
