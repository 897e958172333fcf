"""Dead letters on the real store: viewed, put back in order, and discarded."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ingestion.consumer import Consumer
from ingestion.queues import GivenBack, dead_letters, discard_dead, put_back_all_dead, put_back_dead
from tests.test_consumer import KEYS, OTHER, QUEUE, bury, fill, waiting


def test_the_reason_of_a_dead_letter_is_any_text_and_bounded(store):
    bury(b"1", reason='lone \udc80, "quoted"\n\x00')
    bury(b"2", reason="x" * 10_000)
    first, second = dead_letters(QUEUE, first=0, count=2)
    assert first.reason == 'lone ?, "quoted"\n\x00'
    assert second.reason == "x" * 500


def test_dead_letters_are_listed_in_windows_from_either_end(store):
    bury(*(b"%d" % number for number in range(5)))

    def listed(**window: Any) -> list[bytes]:
        return [one.message.raw for one in dead_letters(QUEUE, **window)]

    assert listed(first=0, count=2) == [b"0", b"1"]
    assert listed(first=3, count=5) == [b"3", b"4"]
    assert listed(first=0, count=2, newest_first=True) == [b"4", b"3"]
    assert listed(first=5, count=5) == []
    assert dead_letters(OTHER, first=0, count=5) == []


@pytest.mark.parametrize(
    "why",
    [
        None,
        "not JSON",
        "{}",
        '{"reason":"r","attempts":1,"died_at_ms":1e300}',
        "\udcff",
        '{"a":' * 5000,
    ],
    ids=lambda why: repr(why)[:20],
)
def test_a_foreign_dead_letter_is_listed_without_a_reason(store, why):
    store.lpush(KEYS.dead, b"foreign")
    if why is not None:
        reason = why.encode(errors="surrogateescape")
        name = hashlib.sha1(b"foreign", usedforsecurity=False).hexdigest()
        store.hset(KEYS.reasons, name, reason)
    (letter,) = dead_letters(QUEUE, first=0, count=5)
    assert (letter.message.raw, letter.reason, letter.attempts) == (b"foreign", None, None)


@pytest.mark.parametrize("newest", [False, True])
def test_dead_letters_that_are_put_back_are_next_in_their_order_with_all_attempts(store, newest):
    bury(b"1", b"2", b"3", b"4")
    fill(b"5")
    assert put_back_dead(QUEUE, [b"1", b"3", b"gone"], newest=newest) == 2
    assert waiting(store) == [b"1", b"3", b"5"]
    assert [one.message.raw for one in dead_letters(QUEUE, first=0, count=9)] == [b"2", b"4"]
    with Consumer(QUEUE) as consumer:
        assert consumer.claim().messages[0].attempts == 0
        assert consumer.give_back(reason="again") == GivenBack(returned=1, dead=0)
    assert store.hlen(KEYS.reasons) == 2


@pytest.mark.slow
def test_all_dead_letters_are_put_back_in_their_order_however_many(store):
    messages = [b"%d" % number for number in range(2500)]
    for one in messages:
        store.lpush(KEYS.dead, one)
    fill(b"last")
    assert put_back_all_dead(QUEUE) == 2500
    assert waiting(store) == [*messages, b"last"]
    assert put_back_all_dead(QUEUE) == 0


def test_discarded_dead_letters_are_gone(store):
    bury(b"1", b"2", b"3")
    assert discard_dead(QUEUE, [b"1", b"3", b"gone"]) == 2
    assert [one.message.raw for one in dead_letters(QUEUE, first=0, count=9)] == [b"2"]
    assert (waiting(store), store.hlen(KEYS.reasons)) == ([], 1)
