"""What staff see of the messages on a queue and can do with them, on the real store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import queues
from ingestion.outcomes import StoreError
from ingestion.queues import Search, Window
from ingestion.queues.keys import Keys
from tests.record_types import SESSIONS

QUEUE = SESSIONS.queue
KEYS = Keys(QUEUE)


def message(number, *, source="api:crm", at=None, record_id=None):
    """A message as the intake writes it."""
    queued_at = (at or datetime.now(UTC)).replace(tzinfo=None).isoformat()
    return json.dumps(
        {
            "data": {"session_id": record_id or f"s{number}"},
            "queued_at": f"{queued_at}Z",
            "queue": QUEUE,
            "id": f"m{number}",
            "source": source,
        },
        separators=(",", ":"),
    ).encode()


def push(*numbers, **also):
    """Queue these messages; returns their bytes."""
    pushed = [message(number, **also) for number in numbers]
    queues.push(QUEUE, pushed)
    return pushed


def left(store):
    """The messages on the queue, the next to be taken first."""
    return store.lrange(QUEUE, 0, -1)[::-1]


def noted_depth(store, keys=KEYS):
    """The depth that is noted for the last minute with any entry."""
    found = {}
    for key in store.keys(keys.counts(0)[:-1] + "*"):
        for name, value in store.hgetall(key).items():
            if name.startswith(b"depth:"):
                found[int(key.rpartition(b":")[2]), int(name[6:])] = int(value)
    return found[max(found)]


def detail(**also):
    return queues.detail(QUEUE, **{"hours": 1, "listing": Window(first=0, count=50), **also})


# --- Looking -----------------------------------------------------------------------------------


def test_messages_are_listed_in_windows_from_either_end(store):
    pushed = push(*range(7))
    oldest = [detail(listing=Window(first=n, count=3)).messages for n in (0, 3, 6, 9)]
    assert [[one.raw for one in some] for some in oldest] == [
        pushed[0:3],
        pushed[3:6],
        pushed[6:],
        [],
    ]
    newest = [
        detail(listing=Window(first=n, count=3, newest_first=True)).messages for n in (0, 3, 6, 9)
    ]
    assert [[one.raw for one in some] for some in newest] == [
        pushed[:3:-1],
        pushed[3:0:-1],
        pushed[:1],
        [],
    ]
    assert left(store) == pushed


def test_a_message_says_what_it_is(store):
    at = datetime(2024, 5, 14, 10, tzinfo=UTC)
    (raw,) = push(1, source="upload:3#17", at=at)
    (found,) = detail().messages
    assert (found.id, found.source, found.queued_at) == ("m1", "upload:3#17", at)
    assert (found.data, found.size_bytes, found.problem) == ({"session_id": "s1"}, len(raw), None)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"data": {}, "queued_at": "2024', "not JSON"),
        (b'{"a": ' + b"[" * 100_000, "not JSON"),
        (b"[]", "no message of ours"),
        (b'{"data": [], "queued_at": "2024-05-14T10:00:00Z"}', "no message of ours"),
        (b'{"data": {}, "queued_at": "2024-05-14T10:00:00"}', "no message of ours"),
        (b'{"data": {}, "queued_at": "9999-12-31T23:59:59-23:59"}', "no message of ours"),
        (b'{"data": {}, "queued_at": "0001-01-01T00:00:00+23:59"}', "no message of ours"),
    ],
    ids=lambda one: repr(one[:30]),
)
def test_a_foreign_message_is_listed_as_such_among_the_others(store, raw, problem):
    push(1)
    store.lpush(QUEUE, raw)
    push(2)
    found = detail().messages
    assert [one.problem for one in found] == [None, problem, None]
    assert found[1].size_bytes == len(raw)
    assert queues.named(QUEUE, [found[1].name], newest_first=True)[found[1].name].raw == raw


def test_a_record_is_found_by_its_id_anywhere_among_the_newest(store):
    push(1, 2)
    push(3, record_id="s1")
    push(4, record_id="x-s1-x")  # it only contains the id
    push(5, record_id="Zoë/1")
    store.lpush(QUEUE, b'"s1" is no message')
    search = Search(id_field="session_id", record_id="s1")
    assert [one.id for one in detail(listing=search).messages] == ["m3", "m1"]
    search = Search(id_field="session_id", record_id="Zoë/1")
    assert [one.id for one in detail(listing=search).messages] == ["m5"]
    assert detail(listing=Search(id_field="session_id", record_id="m1")).messages == ()


def test_finding_ends_at_its_bound(store):
    push(1, 2)
    queues.push(QUEUE, [b"filler"] * (queues.REACH - 1))
    assert detail(listing=Search(id_field="session_id", record_id="s2")).messages
    assert not detail(listing=Search(id_field="session_id", record_id="s1")).messages


# --- Taking off and putting back ---------------------------------------------------------------


@pytest.mark.parametrize("newest", [False, True])
def test_exactly_the_given_messages_are_taken_off_and_the_others_keep_their_order(store, newest):
    pushed = push(*range(9))
    assert queues.take_off(QUEUE, [pushed[7], pushed[1], pushed[4]], name="n", newest=newest) == 3
    assert left(store) == [pushed[n] for n in (0, 2, 3, 5, 6, 8)]
    assert detail(copies=["n", "other"]).copies == {"n": 3, "other": 0}


@pytest.mark.parametrize("newest", [False, True])
def test_what_was_taken_off_is_put_back_in_its_order_to_be_taken_next(store, newest):
    pushed = push(*range(9))
    queues.take_off(QUEUE, [pushed[7], pushed[1], pushed[4]], name="n", newest=newest)
    assert queues.put_back(QUEUE, "n") == 3
    assert left(store) == [pushed[n] for n in (1, 4, 7, 0, 2, 3, 5, 6, 8)]
    assert queues.put_back(QUEUE, "n") == 0
    assert detail(copies=["n"]).copies == {"n": 0}


def test_several_calls_under_one_name_are_put_back_in_the_queues_order(store):
    pushed = push(*range(6))
    queues.take_off(QUEUE, pushed[4:], name="n", newest=True)
    queues.take_off(QUEUE, pushed[2:4], name="n", newest=True)
    assert queues.put_back(QUEUE, "n") == 4
    assert left(store) == [pushed[n] for n in (2, 3, 4, 5, 0, 1)]


def test_as_many_equal_messages_are_taken_off_as_were_given(store):
    (twin,) = push(1)
    queues.push(QUEUE, [twin, twin])
    assert queues.take_off(QUEUE, [twin, twin], name="n") == 2
    assert left(store) == [twin]
    assert queues.put_back(QUEUE, "n") == 2
    assert left(store) == [twin] * 3


def test_a_message_that_a_consumer_took_first_is_not_counted_and_not_kept(store):
    pushed = push(1, 2, 3)
    assert store.rpop(QUEUE) == pushed[0]
    assert queues.take_off(QUEUE, pushed[:2], name="n") == 1
    assert left(store) == pushed[2:]
    queues.put_back(QUEUE, "n")
    assert left(store) == pushed[1:]
    assert queues.take_off(QUEUE, pushed[:1], name="m") == 0
    assert not store.exists(KEYS.copies("m"))


@pytest.mark.parametrize("newest", [False, True])
def test_messages_are_found_in_every_slice_of_a_long_queue(store, newest):
    pushed = push(*range(2500))
    chosen = [pushed[n] for n in (0, 999, 1000, 1001, 1500, 1999, 2000, 2499)]
    assert queues.take_off(QUEUE, chosen, name="n", newest=newest) == len(chosen)
    assert left(store) == [one for one in pushed if one not in chosen]


def test_the_search_for_messages_ends_at_its_limit(store):
    pushed = push(*range(2500))
    assert queues.take_off(QUEUE, [pushed[1199], pushed[1200]], name="n", within=1200) == 1
    assert left(store) == [*pushed[:1199], *pushed[1200:]]


def test_taking_off_the_last_message_leaves_an_empty_queue(store):
    pushed = push(1)
    assert queues.take_off(QUEUE, pushed, name="n") == 1
    assert not store.exists(QUEUE)
    assert queues.put_back(QUEUE, "n") == 1
    assert left(store) == pushed


def test_copies_are_kept_for_seven_days(store):
    queues.take_off(QUEUE, push(1), name="n")
    assert 7 * 86_400 - 60 < store.ttl(KEYS.copies("n")) <= 7 * 86_400 == queues.COPIES_TTL_SECONDS


@pytest.mark.parametrize("key", [KEYS.totals, KEYS.copies("n")])
def test_taking_off_and_putting_back_change_nothing_if_a_key_has_another_type(store, key):
    pushed = push(1, 2)
    store.set(key, "not ours")
    with pytest.raises(StoreError):
        queues.take_off(QUEUE, pushed, name="n")
    with pytest.raises(StoreError):
        queues.put_back(QUEUE, "n")
    assert left(store) == pushed


def test_messages_that_staff_take_off_and_put_back_do_not_count_as_read(store):
    pushed = push(*range(5))
    queues.take_off(QUEUE, pushed[:3], name="n")
    assert detail().summary.taken == 0
    assert not any(minute.taken for minute in detail().history.minutes)
    assert noted_depth(store) == 2  # otherwise the next minute would count it as reading
    queues.put_back(QUEUE, "n")
    assert noted_depth(store) == 5
    store.rpop(QUEUE)
    assert (detail().summary.taken, detail().summary.depth) == (1, 4)


def recalled(most, *, number=4, meanwhile=lambda: None):
    """What recalling an upload takes off; after each slice, `meanwhile` does something else."""
    found = []
    for some in queues.of_upload(QUEUE, number, most=most):
        assert queues.take_off(QUEUE, some[::-1], name="recall", newest=True) == len(some)
        found = some[::-1] + found
        meanwhile()
    return found


def rows_of(number, lines, **how):
    """Messages of an upload, on the queue."""
    rows = [message(line, source=f"upload:{number}#{line}", **how) for line in lines]
    queues.push(QUEUE, rows)
    return rows


def test_the_waiting_rows_of_an_upload_are_found_and_can_be_taken_off_slice_by_slice(store):
    others = push(*range(3))
    rows = rows_of(4, range(1500))
    more = push(1, source="upload:44#1") + push(*range(9000))
    assert recalled(1500) == rows
    assert left(store) == others + more
    assert queues.put_back(QUEUE, "recall") == 1500
    assert left(store) == rows + others + more


def test_an_uploads_rows_are_found_whatever_the_clocks_that_queued_them_said(store):
    now = datetime.now(UTC)
    others, rows = [], []
    for part, clock in enumerate([-86_400, 3, -2, 7200, 0, -30]):
        rows += rows_of(4, range(part * 500, part * 500 + 500), at=now + timedelta(seconds=clock))
        others += push(*range(50), at=now - timedelta(days=part))  # one of them is old
        others += rows_of(5, range(part * 100, part * 100 + 100), at=now)
    assert recalled(3000) == rows
    assert left(store) == others


def test_no_message_is_missed_while_others_push_take_off_and_read(store, monkeypatch):
    monkeypatch.setattr("ingestion.queues.messages._LOOK_THROUGH", 50)
    others = push(*range(80))
    rows = rows_of(4, range(40))
    newer = push(*range(200, 280))
    rows += rows_of(4, range(40, 120))
    newest = push(*range(300, 360))
    changes = iter(
        [
            lambda: push(*range(400, 470)),
            lambda: queues.take_off(QUEUE, newest[1:59], name="other", newest=True),
            lambda: queues.take_off(QUEUE, newer[20:], name="other", newest=True),
            lambda: store.rpop(QUEUE, len(others) + 10),
        ]
    )
    found = recalled(120, meanwhile=lambda: next(changes, lambda: None)())
    assert found == rows[10:]
    assert not {*left(store)} & {*rows}


def test_the_search_for_an_uploads_rows_ends_when_all_are_found(store, proxy):
    push(*range(30_000))
    rows = rows_of(4, range(10))
    proxy.heard.clear()
    assert recalled(10) == rows
    assert len(proxy.heard) < 10  # asked once, and taken off once
    assert recalled(0) == []


def test_a_text_that_only_looks_like_a_source_is_no_row_of_an_upload(store):
    others = push(1, source='"upload:4#1') + push(2, source="api:upload:4#") + push(3)
    queues.push(QUEUE, [b'["upload:4#1", "not a message"]'])
    assert recalled(5) == []
    assert left(store)[:3] == others
