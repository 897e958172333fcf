"""The life of a consumer: it claims, delivers and acknowledges messages, and renews its lease.

Delivery is at least once. A message is on the queue, held by one consumer, or a dead letter, and
every move between these is one atomic step of the store. `docs/consumers.md` describes the protocol
for programs in any language.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from types import TracebackType
from typing import Self, TypeVar

import structlog
from django.db import InterfaceError, OperationalError
from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_fixed,
)

from ingestion.outcomes import Code, StoreError
from ingestion.queues import MAX_ATTEMPTS, Claimed, GivenBack, Holder, Pause

logger = structlog.get_logger(__name__)

_T = TypeVar("_T")

# After this time, the messages of a dead consumer are on the queue again, if another one runs.
LEASE_SECONDS = 30.0
_HEARTBEATS_PER_LEASE = 6
# A failed message is held before it is tried again: 1 s the first time, then twice as long.
_FIRST_BACKOFF_SECONDS = 1.0
_LONGEST_REST_SECONDS = 30.0
_ASK_AGAIN_SECONDS = 1.0


class DeliveryError(Exception):
    """No message can be delivered, and no message is the cause. The text is for people."""


class DownstreamError(Exception):
    """The receiver of the messages takes none at present, and no message is the cause.

    The messages go back to the queue, no attempt is counted, and they are tried again later.
    """


# The network, the disk or the descriptors are at their limit: never the fault of a message.
_NO_WAY_OUT = frozenset(
    {
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE),
    }
)
_OF_DOWNSTREAM = (
    DownstreamError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,  # a name that cannot be looked up
    OperationalError,  # of a database that Django speaks to
    InterfaceError,
)


class Consumer(Holder):
    """A consumer of one queue; it works inside a `with` block.

    A thread renews its lease, however long the work on a message takes, and puts the messages of
    dead consumers back on the queue. At the end of the block, the messages that it still holds go
    back and no attempt is counted. If it dies, the others notice within `lease_seconds`.
    """

    def __init__(self, queue: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._heartbeat_seconds = lease_seconds / _HEARTBEATS_PER_LEASE
        # The others look once per heartbeat, so the lease runs out one heartbeat earlier.
        super().__init__(queue, lease_seconds=lease_seconds - self._heartbeat_seconds)
        self._leaving = Event()
        self._steady = True  # whether the last heartbeat reached the store
        self._heart = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self.beat()
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self._heart.join()
        try:
            self.leave()
        except StoreError as away:
            # Nothing is lost: the lease runs out, and another consumer puts the messages back.
            logger.warning("consumer_not_closed", queue=self.queue, code=away.code.value)

    def _beat_on(self) -> None:
        # After a failure it tries sooner, because its lease is running out.
        while not self._leaving.wait(self._heartbeat_seconds / (1 if self._steady else 5)):
            try:
                self._beat_and_reap()
            except Exception as fault:
                self._steady = False
                logger.warning(
                    "heartbeat_failed",
                    queue=self.queue,
                    consumer=self.name,
                    fault=type(fault).__name__,
                    exc_info=True,
                )

    def _beat_and_reap(self) -> None:
        try:
            lapsed = self.beat()
        except StoreError:  # it is in the log
            self._steady = False
            return
        # Right after an outage of the store, live consumers may look dead too: they get the time of
        # one heartbeat to renew their leases.
        if self._steady:
            for name in lapsed:
                self._reap(name)
        self._steady = True

    def _reap(self, name: str) -> None:
        try:
            found = self.reap(name)
        except StoreError:  # it is in the log; the other consumers must be reaped all the same
            return
        logger.warning(
            "consumer_reaped",
            queue=self.queue,
            consumer=name,
            returned=found.returned,
            dead=found.dead,
        )


@dataclass(kw_only=True, slots=True)
class Tally:
    """What became of the messages: dealt with, attempts that failed, dead letters.

    `pause` is set if the work ended because the queue is paused.
    """

    done: int = 0
    failed: int = 0
    dead: int = 0
    pause: Pause | None = None


def consume(
    queue: str,
    deliver: Callable[[Sequence[bytes]], object],
    *,
    stopping: Event,
    batch_size: int = 1,
    most: int | None = None,
    drain: bool = False,
    lease_seconds: float = LEASE_SECONDS,
) -> Tally:
    """Deliver messages, up to `batch_size` at once, until `stopping` is set.

    Ends sooner after `most` messages, or, with `drain`, if the queue is empty or paused. When
    `deliver` returns, its messages are acknowledged. If it raises, that is a failed attempt at each
    message: they go back to the queue after a while, or to the dead letters. Two failures count as
    no attempt. After `DownstreamError` or a failed connection, the work continues after a while.
    `DeliveryError` ends the work, and the messages are back on the queue.

    Waits during outages of the store. Raises `StoreError` if the store fails at the start or needs
    a person to correct it, and raises `DeliveryError`.
    """
    tally = Tally()
    rests = 0  # how often in a row the downstream took nothing
    with Consumer(queue, lease_seconds=lease_seconds) as consumer:
        logger.info("consumer_started", queue=queue, consumer=consumer.name)
        try:
            while not stopping.is_set() and (most is None or tally.done < most):
                count = batch_size if most is None else min(batch_size, most - tally.done)
                claim = _insist(partial(consumer.claim, count, wait=not drain), stopping)
                if not claim.messages:
                    if drain:
                        tally.pause = claim.pause
                        break
                    if claim.pause is not None:
                        stopping.wait(_ASK_AGAIN_SECONDS)
                    continue
                messages = [one.raw for one in claim.messages]
                fault = _fault_of(deliver, messages)
                if fault is None:
                    rests = 0
                    _acknowledge(consumer, messages, stopping)
                    tally.done += len(messages)
                elif _is_of_downstream(fault):
                    _rest(consumer, fault, rests, stopping)
                    rests += 1
                else:
                    tally.dead += _give_back(consumer, claim.messages, fault, stopping).dead
                    tally.failed += len(messages)
        finally:
            logger.info(
                "consumer_stopped",
                queue=queue,
                consumer=consumer.name,
                done=tally.done,
                failed=tally.failed,
                dead=tally.dead,
            )
    return tally


def _fault_of(
    deliver: Callable[[Sequence[bytes]], object], messages: Sequence[bytes]
) -> BaseException | None:
    try:
        deliver(messages)
    except DeliveryError:
        raise
    # A handler may raise anything. Even an exception that ends the process must count as an
    # attempt: otherwise the message would end every process that takes it.
    except (Exception, SystemExit) as fault:  # noqa: BLE001 (the reason goes with the message)
        return fault
    return None


def _is_of_downstream(fault: BaseException) -> bool:
    """Whether a connection failed, or the handler says that no message is the cause."""
    seen: list[BaseException] = []
    cause: BaseException | None = fault
    # Libraries raise their own errors, and Python keeps the original cause.
    while cause is not None and cause not in seen:
        if isinstance(cause, _OF_DOWNSTREAM) or getattr(cause, "errno", None) in _NO_WAY_OUT:
            return True
        seen.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


def _rest(consumer: Consumer, fault: BaseException, rests: int, stopping: Event) -> None:
    # At once: another consumer may be able to reach its downstream.
    found = _insist(consumer.give_back, stopping)
    logger.warning(
        "downstream_away",
        consumer=consumer.name,
        fault=type(fault).__name__,
        returned=found.returned,
    )
    stopping.wait(min(_FIRST_BACKOFF_SECONDS * 2 ** min(rests, 10), _LONGEST_REST_SECONDS))


def _acknowledge(consumer: Consumer, messages: Sequence[bytes], stopping: Event) -> None:
    held = _insist(lambda: consumer.acknowledge(messages), stopping)
    if held < len(messages):
        # The lease ran out meanwhile, or the first answer to this call was lost.
        logger.warning("messages_not_held", consumer=consumer.name, count=len(messages) - held)


def _give_back(
    consumer: Consumer, claimed: Sequence[Claimed], fault: BaseException, stopping: Event
) -> GivenBack:
    attempts = max(one.attempts for one in claimed) + 1
    if attempts < MAX_ATTEMPTS:
        stopping.wait(_FIRST_BACKOFF_SECONDS * 2 ** (attempts - 1))
    kind = type(fault).__name__
    found = _insist(lambda: consumer.give_back(reason=f"{kind}: {fault}"), stopping)
    logger.warning(
        "delivery_failed",
        consumer=consumer.name,
        fault=kind,
        attempts=attempts,
        returned=found.returned,
        dead=found.dead,
    )
    return found


def _insist(call: Callable[[], _T], stopping: Event) -> _T:
    """Call through an outage of the store, and return the result; one try if `stopping` is set."""
    return Retrying(
        retry=retry_if_exception(_passes),
        wait=wait_fixed(_ASK_AGAIN_SECONDS),
        sleep=sleep_using_event(stopping),
        stop=stop_when_event_set(stopping),
        reraise=True,
    )(call)


def _passes(fault: BaseException) -> bool:
    return isinstance(fault, StoreError) and fault.code is not Code.STORE_ERROR
