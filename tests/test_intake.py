"""What "accepted" means: the receipt, the message, and that rejections leave no trace."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from rest_framework.fields import empty
from structlog.stdlib import ProcessorFormatter

from ingestion import intake, validation
from ingestion.decoding import Framing, Payload, Row
from ingestion.outcomes import Code, PayloadError, Receipt, StoreError
from ingestion.records import RecordType
from ingestion.sources import COMMAND, Source

# In texts that are valid, and in texts that are not.
CANARY = "Zanzibar"
DEFAULTS = {
    "tutors": {"status": "active"},
    "sessions": {"session_type": "1-on-1"},
    "feedback": {"free_text_feedback": ""},
}
CANARY_NUMBER = 73_911_731_931_173


def example(record_type: RecordType, **changes: Any) -> dict[str, Any]:
    return {**record_type.serializer_class.example, **changes}


def named(record_type: RecordType, *ids: str) -> list[dict[str, Any]]:
    """Valid records with these ids."""
    return [example(record_type, **{record_type.id_field: one}) for one in ids]


def payload(*records: Any) -> Payload:
    return Payload(content=json.dumps(records).encode(), framing=Framing.ARRAY)


def accept(
    record_type: RecordType, sent: Payload | Iterable[Row], *, source: Source, strict: bool = False
) -> Receipt:
    """All steps of the intake."""
    rows = validation.read(record_type, sent) if isinstance(sent, Payload) else sent
    return intake.queue(intake.receive(record_type, rows, strict=strict), source=source)


def taken(store: Redis, record_type: RecordType) -> list[dict[str, Any]]:
    """All messages, the next to be taken first."""
    messages: Any = store.rpop(record_type.queue, 1_000_000) or []
    return [json.loads(one) for one in messages]


def counts(store: Redis, record_type: RecordType) -> dict[str, int]:
    """How many records of the type were validated, by outcome."""
    (totals,) = store.keys("*:totals") or [b""]
    found: Any = store.hgetall(totals)
    return {word.decode(): int(count) for word, count in found.items()}


# --- Receipts ----------------------------------------------------------------------------------


def test_a_single_record_is_queued_and_named_in_the_receipt(store, record_type):
    content = json.dumps(example(record_type)).encode()
    receipt = accept(
        record_type, Payload(content=content, framing=Framing.RECORD), source=Source(client="local")
    )
    assert receipt.ids == (example(record_type)[record_type.id_field],)
    assert (receipt.accepted, receipt.rejected, receipt.rejections) == (1, 0, ())
    assert store.llen(record_type.queue) == 1


def test_every_record_is_accepted_or_rejected_and_the_good_ones_are_queued_in_order(
    store, record_type
):
    first, second, third = named(record_type, "r-1", "r-2", "r-3")
    receipt = accept(
        record_type, payload(first, {record_type.id_field: "bad"}, second, 7, third), source=COMMAND
    )
    assert receipt.ids == ("r-1", "r-2", "r-3")
    assert [(one.index, one.id) for one in receipt.rejections] == [(1, "bad"), (3, None)]
    assert (receipt.accepted, receipt.rejected) == (3, 2)
    assert [one["data"] for one in taken(store, record_type)] == [first, second, third]
    assert counts(store, record_type) == {"accepted": 3, "rejected": 2}


def test_rows_and_lines_are_accepted_like_arrays(store, record_type):
    first, second = named(record_type, "r-1", "r-2")
    lines = f"{json.dumps(first)}\n\nnonsense\n{json.dumps(second)}".encode()
    receipt = accept(record_type, Payload(content=lines, framing=Framing.LINES), source=COMMAND)
    assert receipt.ids == ("r-1", "r-2")
    assert [(one.index, one.line) for one in receipt.rejections] == [(1, 3)]
    receipt = accept(record_type, (Row(value=one) for one in (first, second)), source=COMMAND)
    assert receipt.ids == ("r-1", "r-2")
    assert [one["data"] for one in taken(store, record_type)] == [first, second] * 2


def test_if_no_record_is_valid_nothing_is_queued_and_the_rejections_are_counted(store, record_type):
    receipt = accept(record_type, payload({}, []), source=COMMAND)
    assert (receipt.ids, receipt.rejected) == ((), 2)
    assert not store.exists(record_type.queue)
    assert counts(store, record_type) == {"rejected": 2}


def test_strict_keeps_all_off_the_queue_for_one_rejection(store, record_type):
    good = named(record_type, "r-1", "r-2")
    receipt = accept(record_type, payload(*good, {}), source=COMMAND, strict=True)
    assert (receipt.ids, receipt.rejected) == ((), 1)
    assert receipt.rejections[0].index == 2
    assert not store.exists(record_type.queue)
    assert counts(store, record_type) == {"rejected": 1}
    assert accept(record_type, payload(*good), source=COMMAND, strict=True).ids == ("r-1", "r-2")
    assert store.llen(record_type.queue) == 2


# --- Messages ----------------------------------------------------------------------------------


def test_a_message_is_the_contracts_envelope_around_the_validated_record(store, record_type):
    record = example(record_type, **{record_type.id_field: "\u00e9\U0001f600"})
    began = datetime.now(UTC).replace(tzinfo=None)
    accept(record_type, payload(record | {"unknown": CANARY}), source=Source(upload=7, line=3))
    ended = datetime.now(UTC).replace(tzinfo=None)
    raw = store.rpop(record_type.queue)
    message = json.loads(raw.decode("utf-8"))
    assert list(message) == ["data", "queued_at", "queue", "id", "source"]
    assert message["data"] == record
    assert message["queue"] == record_type.queue
    assert message["source"] == "upload:7#3"
    uuid.UUID(message["id"])
    text = message["queued_at"]
    assert (len(text), text[-1]) == (len("2024-05-14T10:00:00.123456Z"), "Z")
    assert began <= datetime.fromisoformat(text[:-1]) <= ended
    assert CANARY.encode() not in raw


def test_defaults_are_in_the_message_and_what_is_absent_stays_absent(store, record_type):
    fields = record_type.serializer_class().fields
    defaults = {name: one.default for name, one in fields.items() if one.default is not empty}
    # A new type is known only by its serializer; for these three, the contract says it.
    assert defaults == DEFAULTS.get(record_type.path, defaults)
    record = {name: value for name, value in example(record_type).items() if fields[name].required}
    accept(record_type, payload(record), source=COMMAND)
    (message,) = taken(store, record_type)
    assert message["data"] == record | defaults


def test_each_message_has_an_id_of_its_own_even_for_the_same_record(store, record_type):
    accept(record_type, payload(*[example(record_type)] * 50), source=COMMAND)
    assert len({one["id"] for one in taken(store, record_type)}) == 50


# --- Faults ------------------------------------------------------------------------------------


def test_a_batch_that_the_store_refuses_leaves_nothing_behind(store, record_type):
    store.set(record_type.queue, "not ours")
    with pytest.raises(StoreError) as caught:
        accept(record_type, payload(*named(record_type, "r-1", "r-2"), {}), source=COMMAND)
    assert (caught.value.code, caught.value.outcome_unknown) == (Code.STORE_ERROR, False)
    assert store.keys() == [record_type.queue.encode()]
    assert store.get(record_type.queue) == b"not ours"


def test_a_payload_that_cannot_be_judged_leaves_nothing_behind(store, record_type, settings):
    settings.MAX_BATCH_RECORDS = 2
    good = named(record_type, "r-1", "r-2", "r-3")
    for content in (b"", b"{}", b"[]", b"[NaN]", b"\xff", json.dumps(good).encode()):
        with pytest.raises(PayloadError):
            accept(record_type, Payload(content=content, framing=Framing.ARRAY), source=COMMAND)
    assert store.keys() == []


def test_a_verdict_without_a_record_to_queue_needs_no_store(store, record_type, caplog):
    good = example(record_type)
    store.config_set("maxmemory", 1)
    try:
        assert accept(record_type, payload({}), source=COMMAND).rejected == 1
        assert accept(record_type, payload(good, {}), source=COMMAND, strict=True).rejected == 1
        with pytest.raises(StoreError):
            accept(record_type, payload(good, {}), source=COMMAND)
    finally:
        store.config_set("maxmemory", 0)
    assert caplog.text.count("rejections_not_counted") == 2
    assert store.keys() == []


# --- The log -----------------------------------------------------------------------------------


def everywhere(record_type: RecordType, value: Any) -> list[dict[str, Any]]:
    """A record for each field, with this value in that field."""
    return [example(record_type, **{name: value}) for name in example(record_type)]


def rendered(caplog: pytest.LogCaptureFixture) -> str:
    """The log as it is written, with the exceptions."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    (ours,) = (one for one in formatters if isinstance(one, ProcessorFormatter))
    return "\n".join(ours.format(record) for record in caplog.records)


def test_no_log_line_holds_anything_of_a_record(store, record_type, caplog):
    caplog.set_level(logging.DEBUG)
    batch = [
        *everywhere(record_type, CANARY),
        *everywhere(record_type, CANARY * 1000),
        *everywhere(record_type, f"{CANARY}@example.com"),
        *everywhere(record_type, [CANARY]),
        *everywhere(record_type, [f"{CANARY}\x00"]),
        *everywhere(record_type, {CANARY: CANARY}),
        *everywhere(record_type, CANARY_NUMBER),
        {CANARY: CANARY},
        CANARY,
    ]
    receipt = accept(record_type, payload(*batch), source=Source(client="local"))
    assert receipt.accepted
    assert receipt.rejected
    lines = "\n".join(json.dumps(one) for one in batch) + f'\n{{"{CANARY}'
    accept(
        record_type,
        Payload(content=lines.encode(), framing=Framing.LINES),
        source=Source(client="local"),
    )
    store.delete(record_type.queue)
    store.set(record_type.queue, CANARY)
    with pytest.raises(StoreError):  # its place is logged
        accept(record_type, payload(*batch), source=Source(client="local"))
    said = rendered(caplog)
    for word in ("records_judged", "store_fault", "raised="):
        assert word in said
    assert CANARY not in said
    assert str(CANARY_NUMBER) not in said


def test_a_judged_batch_is_one_log_line_of_counts_and_causes(store, record_type, caplog):
    accept(record_type, payload(example(record_type), {}, 7, 7), source=Source(client="local"))
    (line,) = (one for one in caplog.records if "records_judged" in one.getMessage())
    facts: Any = line.msg
    required = len([one for one in record_type.serializer_class().fields.values() if one.required])
    assert {word: facts[word] for word in ("type", "source", "accepted", "rejected", "causes")} == {
        "type": record_type.path,
        "source": "api:local",
        "accepted": 1,
        "rejected": 3,
        "causes": {"required": required, "not_an_object": 2},
    }
