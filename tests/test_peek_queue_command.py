"""`manage.py peek_queue`: shows messages and leaves them on the queue."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from ingestion import intake
from ingestion.decoding import Row
from ingestion.records import RecordType
from ingestion.sources import COMMAND
from tests.record_types import TUTORS


def peek(*arguments: str) -> str:
    printed = io.StringIO()
    call_command("peek_queue", *arguments, stdout=printed)
    return printed.getvalue()


def rows(printed: str) -> list[list[str]]:
    """The table's rows without their number."""
    return [line.split("\t")[1:] for line in printed.splitlines()[1:] if "\t" in line]


def fill(record_type: RecordType, number: int, **changes: Any) -> None:
    records = [
        {**record_type.serializer_class.example, record_type.id_field: f"record-{n}", **changes}
        for n in range(number)
    ]
    intake.queue(intake.receive(record_type, [Row(value=one) for one in records]), source=COMMAND)


def test_it_shows_the_next_messages_and_takes_none(store: Redis, record_type: RecordType) -> None:
    fill(record_type, 12)
    messages = store.lrange(record_type.queue, 0, -1)[::-1]
    shown = rows(peek(record_type.path))
    assert [row[0] for row in shown] == [json.loads(one)["id"] for one in messages[:10]]
    assert {row[2] for row in shown} == {"command"}
    assert [row[3] for row in shown] == [f"{len(one):,}" for one in messages[:10]]
    assert all(row[1].endswith(" s") for row in shown)
    assert store.lrange(record_type.queue, 0, -1)[::-1] == messages


def test_newest_and_count_choose_what_is_shown(store: Redis) -> None:
    fill(TUTORS, 5)
    ids = [json.loads(one)["id"] for one in store.lrange(TUTORS.queue, 0, -1)]
    assert [row[0] for row in rows(peek("tutors", "--count", "2", "--newest"))] == ids[:2]
    assert [row[0] for row in rows(peek("tutors", "--count", "2"))] == ids[::-1][:2]


def test_payloads_are_shown_only_on_request(store: Redis) -> None:
    fill(TUTORS, 2, name="Zoë Canary")
    assert "Canary" not in peek("tutors")
    shown = peek("tutors", "--payload")
    assert rows(shown) == rows(peek("tutors"))
    first, second = shown.splitlines()[-2:]
    number, _, payload = first.partition("  ")
    assert number == "1"
    assert json.loads(payload)["name"] == "Zoë Canary"
    assert json.loads(payload)["tutor_id"] == "record-0"
    assert '"record-1"' in second


def test_json_has_all_of_it_and_the_records_only_on_request(store: Redis) -> None:
    fill(TUTORS, 1, name="Zoë Canary")
    store.lpush(TUTORS.queue, b"\xff")
    assert "Canary" not in peek("tutors", "--json")
    told = json.loads(peek("tutors", "--json", "--payload"))
    ours, other = told["messages"]
    raw: Any = store.rpop(TUTORS.queue)
    assert told["queue"] == TUTORS.queue
    assert (ours["id"], ours["data"]) == (json.loads(raw)["id"], json.loads(raw)["data"])
    assert datetime.fromisoformat(ours["queued_at"]).tzinfo
    assert (ours["source"], ours["problem"], ours["size_bytes"]) == ("command", None, len(raw))
    assert (other["problem"], other["raw"], other["id"]) == ("not JSON", "\\xff", None)


def test_the_name_of_the_queue_is_as_good_as_that_of_the_type(store: Redis) -> None:
    assert json.loads(peek("feedbacks", "--json")) == json.loads(peek("feedback", "--json"))


def test_a_message_that_is_not_ours_is_shown_as_such_and_breaks_nothing(store: Redis) -> None:
    fill(TUTORS, 1)
    foreign = [
        (b"", "not JSON"),
        (b"\x00\xff\xfe", "not JSON"),
        (b'{"data": ', "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no message of ours"),
        (b'{"data": {}, "queued_at": "2024-05-14T10:00:00"}', "no message of ours"),
        (b'{"id": 1, "source": "x", "queued_at": "now", "data": {}}', "no message of ours"),
    ]
    for content, _ in foreign:
        store.lpush(TUTORS.queue, content)
    fill(TUTORS, 1)
    shown = rows(peek("tutors"))
    assert [row[0] for row in shown[1:-1]] == [words for _, words in foreign]
    assert [row[3] for row in shown[1:-1]] == [f"{len(content):,}" for content, _ in foreign]
    assert shown[0][2] == shown[-1][2] == "command"
    assert len(rows(peek("tutors", "--payload"))) == len(foreign) + 2


def test_nothing_in_a_message_can_steer_the_terminal(store: Redis) -> None:
    evil = "\x1b[2J\x1b]0;x\x07\u202e\x9b1m"
    message = {
        "id": evil,
        "source": evil,
        "queued_at": "2024-05-14T10:00:00Z",
        "data": {"name": evil},
    }
    store.lpush(TUTORS.queue, json.dumps(message, ensure_ascii=False), evil.encode())
    shown = peek("tutors", "--payload")
    assert not [c for c in shown if not c.isprintable() and c not in "\n\t"]


def test_an_empty_queue_is_told_in_a_sentence(store: Redis) -> None:
    assert peek("tutors") == "The queue is empty.\n"


@pytest.mark.parametrize(
    "wrong", [["tutor"], ["tutors", "--count", "0"], ["tutors", "--count", "1001"], []]
)
def test_arguments_that_make_no_sense_are_refused(store: Redis, wrong: list[str]) -> None:
    fill(TUTORS, 1)
    with pytest.raises(CommandError):
        peek(*wrong)


def test_a_key_of_another_type_is_told_in_a_sentence(store: Redis) -> None:
    store.set(TUTORS.queue, "of another type")
    with pytest.raises(CommandError) as fault:
        peek("tutors")
    assert fault.value.returncode == 1
