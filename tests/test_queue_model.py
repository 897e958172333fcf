"""The whole protocol of a queue against a model in plain lists, in random sequences.

Each step is done in the real store and in the model: the results, and the places of all messages
afterwards, must be equal. `FAULTS=long pytest tests/test_queue_model.py` searches longer, with
other sequences.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from pathlib import Path

import hypothesis
import pytest
from hypothesis import stateful
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

import ingestion
from ingestion import intake, queues
from ingestion.consumer import Consumer
from ingestion.decoding import Row
from ingestion.outcomes import IntakeError
from ingestion.queues import Once, Pause
from ingestion.queues.keys import Keys
from ingestion.sources import Source
from tests.faults import figures
from tests.queue_model import ATTEMPTS, FULL, LIMIT, PAUSED, REUSED, UNKNOWN, Model, Request
from tests.record_types import TUTORS

EXAMPLE = TUTORS.serializer_class.example
QUEUE = TUTORS.queue
KEYS = Keys(QUEUE)
SCRIPTS = [one.read_text() for one in Path(ingestion.__file__).parent.glob("queues/lua/*.lua")]


class Protocol(stateful.RuleBasedStateMachine):
    """Clients, consumers and staff at one queue."""

    requests = stateful.Bundle("requests")
    consumers = stateful.Bundle("consumers")
    places = st.sets(st.integers(0, 3), min_size=1)
    names = st.sampled_from(["mon", "tue"])

    # All rules that may run are equally likely; rules that would change little must wait.
    queued = precondition(lambda self: self.model.queue)
    held = precondition(lambda self: any(self.model.held.values()))
    busy = precondition(lambda self: self.model.queue or any(self.model.held.values()))
    given = precondition(lambda self: any(self.gave.values()))
    lapsed = precondition(lambda self: any(self.model.lapses.values()))
    died = precondition(lambda self: len(self.model.dead) > 1)
    copied = precondition(lambda self: any(self.model.copies.values()))
    paused = precondition(lambda self: self.model.pause)
    flowing = precondition(lambda self: self.model.queue and not self.model.pause)

    def __init__(self, store, proxy, refusals):
        super().__init__()
        self.store, self.proxy, self.refusals = store, proxy, refusals
        self.model = Model()
        self.raws: dict[str, bytes] = {}  # the bytes of each message
        self.gave: dict[Consumer, list[str]] = {}  # the last messages of each consumer
        self.numbers = count(1)
        self.cut = None
        store.flushall()
        self.load_scripts()

    def teardown(self):
        for consumer in self.gave:
            consumer.__exit__(None, None, None)

    def load_scripts(self):
        for text in SCRIPTS:
            self.store.script_load(text)

    @busy
    @rule(cut=st.sampled_from(["done", "not done"]))
    def the_next_answer_is_lost(self, cut):
        self.cut = cut

    def do(self, call, promise, *facts):
        """Make the call, and compare its result with the model."""
        cut, self.cut = self.cut, None
        promised = None
        if cut == "not done":  # then the answer that the script is not known gets lost
            self.store.script_flush()
        else:
            promised = promise(*facts)
        self.proxy.cuts = 1 if cut else 0
        try:
            found = call()
        except IntakeError as fault:
            found = fault.code, fault.outcome_unknown
            self.refusals.add(found)
        assert found == (UNKNOWN if cut else promised)
        assert self.proxy.cuts == 0
        if cut == "not done":
            self.load_scripts()

    # --- Clients -------------------------------------------------------------------------------

    @rule(
        target=requests,
        source=st.sampled_from([Source(client="ann"), Source(client="bob"), Source(upload=7)]),
        key=st.sampled_from([None, "key 1", "key 2", "key 3"]),
        valid=st.lists(st.sampled_from([True, True, False]), min_size=1, max_size=6),
    )
    def send(self, source, key, valid):
        """A new request; its key may have come before, with other records or for another client."""
        records = tuple((f"t-{next(self.numbers)}", one) for one in valid)
        request = Request(source, key, records)
        self.send_again(request)
        return request if key else stateful.multiple()

    @rule(request=requests)
    def send_again(self, request):
        answer = b"answer %d" % next(self.numbers)  # a new one each time, if it were not remembered
        once = Once(
            request=f"{request.source} {request.key}",
            fingerprint=repr(request.records),
            ttl_seconds=86_400,
            answer=answer,
        )
        rows = [
            Row(value={**EXAMPLE, "tutor_id": one, "age": 30 if valid else 3}, line=line)
            for line, (one, valid) in enumerate(request.records)
        ]

        def accept():
            received = intake.receive(TUTORS, rows)
            named = once if request.key else None
            said = intake.queue(received, source=request.source, once=named)
            if said.place is None:  # with nothing to queue, the verdict needs no store
                assert not said.ids
                return UNKNOWN
            return said.ids, said.rejected, said.place, said.answer, said.replayed

        self.do(accept, self.model.accept, request, answer)

    # --- Consumers -----------------------------------------------------------------------------

    @stateful.initialize(target=consumers)
    def begin(self):
        for _ in range(figures.count(short=2, long=4)):
            consumer = Consumer(QUEUE, lease_seconds=7200)  # it beats every 20 minutes
            self.gave[consumer.__enter__()] = []
            self.model.register(consumer.name)
        return stateful.multiple(*self.gave)

    @busy
    @rule(consumer=consumers, most=st.integers(1, 4))
    def claim(self, consumer, most):
        def claim():
            claim = consumer.claim(most, wait=False)
            found = [(self.name(one.raw), one.attempts) for one in claim.messages]
            self.gave[consumer] = [one for one, _ in found] or self.gave[consumer]
            return found, claim.pause

        if consumer.name not in self.model.known:
            self.cut = None  # it says first who it is: three calls, not one
        self.do(claim, self.model.claim, consumer.name, most)

    @queued
    @rule(consumer=consumers)
    def claim_with_a_bare_command(self, consumer):
        if consumer.name in self.model.lapses:  # the protocol allows it only for known consumers
            self.store.lmove(QUEUE, KEYS.claimed(consumer.name), "RIGHT", "LEFT")
            self.model.held[consumer.name].append(self.model.queue.pop(0))

    @given
    @rule(consumer=consumers, places=places)
    def acknowledge(self, consumer, places):
        """Some of its messages; by now another consumer may hold them, or they are acknowledged."""
        done = self.gave[consumer] and picked(self.gave[consumer], places)
        raws = [self.raws[one] for one in done]
        self.do(lambda: consumer.acknowledge(raws), self.model.acknowledge, consumer.name, done)

    @held
    @rule(consumer=consumers, reason=st.sampled_from([None, None, "it broke"]))
    def give_back(self, consumer, reason):
        back = self.model.give_back
        self.do(lambda: consumer.give_back(reason=reason), back, consumer.name, reason)

    @queued
    @rule(consumer=consumers, other=consumers, most=st.integers(1, 3), times=st.integers(1, 15))
    def fail(self, consumer, other, most, times):
        """Again and again; messages held by another one come before messages that failed later."""
        self.claim(other, 1)
        for _ in range(times):
            self.claim(consumer, most)
            self.give_back(consumer, "it broke again")
        self.give_back(other, None)

    @busy
    @rule(consumer=consumers)
    def lease_ends(self, consumer):
        """It was killed, if it does no more; or it was suspended, if it continues as before."""
        if consumer.name in self.model.lapses:
            self.model.lapses[consumer.name] = at = next(self.numbers)
            self.store.zadd(KEYS.leases, {consumer.name: at})

    @lapsed
    @rule(consumer=consumers)
    def beat(self, consumer):
        """Renew the lease, and give back the messages of consumers whose lease is over."""
        consumer._beat_and_reap()
        self.model.beat(consumer.name)

    @held
    @rule(consumer=consumers)
    def leave(self, consumer):
        """It ends. Later calls of it are calls that were already under way."""
        consumer.__exit__(None, None, None)
        self.model.give_back(consumer.name, None)
        self.model.leave(consumer.name)

    @queued
    @rule()
    def rpop(self):
        assert self.name(self.store.rpop(QUEUE)) == self.model.queue[0]
        self.model.gone.append(self.model.queue.pop(0))

    # --- Staff ---------------------------------------------------------------------------------

    @flowing
    @rule(ends=st.booleans())
    def pause(self, ends):
        now = datetime.now(UTC)
        until = now + timedelta(hours=1) if ends else None
        self.model.pause = Pause(reason="repairs", by="otto", since=now, until=until)
        queues.pause_queue(QUEUE, self.model.pause)
        assert self.store.expiretime(KEYS.pause) == (int(until.timestamp()) if until else -1)

    @paused
    @rule()
    def resume(self):
        assert queues.resume_queue(QUEUE)
        self.model.pause = None

    @paused
    @rule()
    def the_pause_ends(self):
        if self.model.pause.until:
            self.store.expireat(KEYS.pause, 1)
            self.model.pause = None
            assert not queues.resume_queue(QUEUE)

    @died
    @rule(what=st.sampled_from(["put_back", "discard"]), places=places, newest=st.booleans())
    def settle(self, what, places, newest):
        chosen = picked(self.model.dead, places)
        raws = [self.raws[one] for one in chosen + self.model.gone[-1:]]  # the last is not there
        settle = {"put_back": queues.put_back_dead, "discard": queues.discard_dead}[what]
        self.do(lambda: settle(QUEUE, raws, newest=newest), self.model.settle, what, chosen)

    @queued
    @rule(places=places, name=names, newest=st.booleans(), within=st.integers(1, 5))
    def take_off(self, places, name, newest, within):
        chosen = picked(self.model.queue, places)
        raws = [self.raws[one] for one in chosen + self.model.gone[-1:]]  # the last is not there
        self.do(
            lambda: queues.take_off(QUEUE, raws, name=name, newest=newest, within=within),
            *(self.model.take_off, chosen, name, newest, within),
        )

    @copied
    @rule(name=names)
    def put_back(self, name):
        self.do(lambda: queues.put_back(QUEUE, name), self.model.put_back, name)

    @queued
    @rule(name=names)
    def recall(self, name):
        """Take all rows of an upload off that nobody has taken."""
        rows = [one for one in self.model.queue if b'"upload:7#' in self.raws[one]]
        for some in queues.of_upload(QUEUE, 7, most=len(rows)):
            queues.take_off(QUEUE, some[::-1], name=name, newest=True)
        self.model.take_off(rows, name, newest=True, within=1000)

    # --- What holds after every step -----------------------------------------------------------

    @stateful.invariant()
    def all_is_as_the_model_has_it(self):
        model = self.model
        # Every message is in its place and nowhere else.
        found = {
            key.decode(): [self.name(raw) for raw in reversed(self.store.lrange(key, 0, -1))]
            for key in self.store.scan_iter(_type="LIST")
            if key.decode() != KEYS.rejections
        }
        promised = {QUEUE: model.queue, KEYS.dead: model.dead}
        promised |= {KEYS.claimed(one): some for one, some in model.held.items()}
        promised |= {KEYS.copies(one): some for one, some in model.copies.items()}
        assert found == {key: some for key, some in promised.items() if some}
        assert sorted(chain(model.gone, *found.values())) == sorted(model.accepted)

        # Everything is counted exactly once.
        minutes = self.counted("*:counts:*")
        del minutes["depth"]
        assert self.counted("*:totals") == minutes == model.totals
        assert self.counted("*:causes:*") == Counter(min_value=model.totals["rejected"])
        attempts = {sha1(self.raws[one]): number for one, number in model.attempts.items()}
        assert self.counted("*:attempts") == Counter(attempts)

        # People see the same.
        (summary,) = queues.summaries([QUEUE])
        in_flight = sum(map(len, model.held.values()))
        assert summary.taken == in_flight + len(model.dead) + len(model.gone)
        assert summary.pause == model.pause
        rejected = queues.rejections([QUEUE])
        assert [one.record_id for one in rejected] == model.refused[::-1]
        letters = queues.dead_letters(QUEUE, first=0, count=100)
        reasons = [(model.reasons[one], ATTEMPTS) for one in model.dead]
        assert [(one.reason, one.attempts) for one in letters] == reasons
        assert self.store.hlen(KEYS.reasons) == len(model.dead)
        leases = self.store.zrange(KEYS.leases, 0, -1)
        assert {one.decode() for one in leases} == model.lapses.keys()
        (now,) = queues.consumption([QUEUE])
        assert {one.name: (one.in_flight, one.alive) for one in now.consumers} == {
            one: (len(model.held[one]), not lapsed)
            for one, lapsed in model.lapses.items()
            if one in model.known or model.held[one]
        }

    def counted(self, pattern):
        """The numbers in all hashes with such a name, added up over all minutes."""
        found = Counter()
        for key in self.store.keys(pattern):
            for name, number in self.store.hgetall(key).items():
                found[name.decode().partition(":")[0]] += int(number)
        return found

    def name(self, raw):
        """The id of the record in a message, whose bytes never change."""
        one = json.loads(raw)["data"]["tutor_id"]
        assert self.raws.setdefault(one, raw) == raw
        return one


def sha1(raw):
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()


def picked(messages, places):
    """Some of the messages, in their order; at least one, if there are any."""
    return [messages[at] for at in sorted({place % len(messages) for place in places})]


@pytest.mark.slow
@pytest.mark.timeout(figures.count(short=600, long=7200))  # a failure is first made small
def test_the_queue_does_what_its_model_does(store, proxy, settings):
    settings.QUEUE_LIMIT = LIMIT
    refusals = set()
    stateful.run_state_machine_as_test(
        lambda: Protocol(store, proxy, refusals),  # type: ignore[arg-type]  # it may be a function
        settings=hypothesis.settings(
            max_examples=figures.count(short=100, long=2000),
            stateful_step_count=figures.count(short=50, long=80),
            deadline=None,
            derandomize=not figures.LONG,  # a failure in CI is then caused by the change
            database=None,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
        ),
    )
    assert refusals == {PAUSED, FULL, REUSED, UNKNOWN}  # otherwise too little was tried
