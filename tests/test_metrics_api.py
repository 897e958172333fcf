"""GET of the numbers for Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ingestion.consumer import Consumer
from ingestion.queues.keys import Keys
from ingestion.records import RECORD_TYPES

LABELS = {"tutors", "sessions", "feedbacks"}


def scrape(client) -> dict[tuple[str | None, ...], float]:
    """The samples as Prometheus reads them: name, queue and outcome → number."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, sample.labels.get("queue"), sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_it_works(client, store):
    samples = scrape(client)
    assert samples["tutormax_store_up", None, None] == 1
    for label in LABELS:
        assert samples["tutormax_queue_depth", label, None] == 0
        assert samples["tutormax_records_total", label, "accepted"] == 0
        assert samples["tutormax_records_total", label, "rejected"] == 0


def test_it_tells_what_was_accepted_rejected_and_waits(client, post, record_type):
    example = dict(record_type.serializer_class.example)
    post(f"/api/{record_type.path}/batch", [example, example, {}])
    samples = scrape(client)
    label = record_type.queue_label
    assert samples["tutormax_queue_depth", label, None] == 2
    assert samples["tutormax_records_total", label, "accepted"] == 2
    assert samples["tutormax_records_total", label, "rejected"] == 1
    assert 0 <= samples["tutormax_queue_oldest_age_seconds", label, None] < 60


def test_it_has_consumers_dead_letters_and_pauses(client, store):
    queue = RECORD_TYPES["sessions"].queue
    keys = Keys(queue)
    store.lpush(keys.dead, "1", "2")
    store.lpush(keys.claimed("gone"), "3", "4", "5")
    store.zadd(keys.leases, {"gone": 1})
    store.set(keys.pause, "by hand")
    with Consumer(queue):
        samples = scrape(client)
        leases = client.get("/metrics").text
    assert samples["tutormax_dead_letters", "sessions", None] == 2
    assert samples["tutormax_messages_in_flight", "sessions", None] == 3
    assert samples["tutormax_queue_paused", "sessions", None] == 1
    assert samples["tutormax_queue_paused", "tutors", None] == 0
    assert 'tutormax_consumers{lease="alive",queue="sessions"} 1.0' in leases
    assert 'tutormax_consumers{lease="lapsed",queue="sessions"} 1.0' in leases


def test_the_age_is_absent_while_a_queue_is_empty(client, store):
    assert not any(name == "tutormax_queue_oldest_age_seconds" for name, *_ in scrape(client))


def test_the_numbers_are_those_of_the_stats(client, post):
    post("/api/tutors/batch", [dict(RECORD_TYPES["tutors"].serializer_class.example), {}])
    detail = client.get("/api/queue/stats").json()["detail"]
    samples = scrape(client)
    for label, numbers in detail.items():
        assert samples["tutormax_queue_depth", label, None] == numbers["depth"]
        for outcome in ("accepted", "rejected"):
            assert samples["tutormax_records_total", label, outcome] == numbers[outcome]


def test_without_the_store_it_says_so_and_gives_no_other_number(no_store, client):
    assert scrape(client) == {("tutormax_store_up", None, None): 0}
