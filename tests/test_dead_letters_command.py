"""`manage.py dead_letters`: messages that failed too often, listed and put back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.management import CommandError
from redis import Redis

from ingestion.queues import MAX_ATTEMPTS
from ingestion.queues.keys import Keys
from tests.record_types import TUTORS
from tests.test_consume_command import _quick, drain, fill, told, waiting  # noqa: F401 (a fixture)

HERE = "tests.test_dead_letters_command"


def bury(store: Redis, number: int) -> list[bytes]:
    """This many dead letters, the oldest first."""
    fill(TUTORS, number)
    messages = waiting(store)
    for one in messages:
        store.lpush(Keys(TUTORS.queue).dead, one)
    store.delete(TUTORS.queue)
    return messages


def test_dead_letters_are_listed_without_what_is_in_them(store: Redis) -> None:
    message = {
        "data": {"name": "Zoë Canary"},
        "queued_at": "2024-05-14T10:00:00Z",
        "id": "\x1b[2J",
        "source": "\x9b1m",
    }
    store.lpush(TUTORS.queue, json.dumps(message), b"no")
    drain("tutors", "--handler", f"{HERE}:no_data")
    shown = told("tutors")
    assert "not JSON" in shown
    assert f"\t{MAX_ATTEMPTS}\t" in shown
    assert "DecodeError: " in shown
    assert "KeyError: 'nothing'" in shown
    assert re.search(r"\t\d+ s\t", shown)
    assert "\\u001b[2J" in shown
    assert "Canary" not in shown + told("tutors", "--json")
    assert not [c for c in shown if not c.isprintable() and c not in "\n\t"]


def no_data(message: Any) -> None:
    message["nothing"]


def test_the_number_of_dead_letters_that_are_not_listed_is_told(store: Redis) -> None:
    messages = bury(store, 60)
    shown = told("tutors")
    assert json.loads(messages[49])["id"] in shown
    assert json.loads(messages[50])["id"] not in shown
    assert "… and 10 newer ones." in shown
    document = json.loads(told("tutors", "--json"))
    ids = [one["id"] for one in document["dead_letters"]]
    assert ids == [json.loads(one)["id"] for one in messages]


def test_dead_letters_are_put_back_the_oldest_first(store: Redis) -> None:
    messages = bury(store, 5)
    assert told("tutors", "--put-back", "2") == "tutors: 2 put back, 3 left.\n"
    assert waiting(store) == messages[:2]
    assert told("tutors", "--put-back", "all") == "tutors: 3 put back, 0 left.\n"
    assert sorted(waiting(store)) == sorted(messages)
    assert told("tutors") == "There are no dead letters.\n"


@pytest.mark.parametrize("wrong", [["0"], ["1001"], ["some"], ["1", "--json"]], ids=" ".join)
def test_a_put_back_that_makes_no_sense_is_refused(store: Redis, wrong: list[str]) -> None:
    bury(store, 2)
    with pytest.raises(CommandError):
        told("tutors", "--put-back", *wrong)
    assert waiting(store) == []
