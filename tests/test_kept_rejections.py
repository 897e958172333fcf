"""The latest refused records of the API, as the store keeps them."""

from __future__ import annotations

from ingestion import intake, queues
from ingestion.decoding import Row
from ingestion.queues.keys import Keys
from ingestion.sources import Source
from tests.record_types import SESSIONS, TUTORS
from tests.test_queue_messages import QUEUE

CRM = Source(client="crm")


def refuse(record_type, record, source=CRM):
    intake.queue(intake.receive(record_type, [Row(value=record)]), source=source)


def test_refused_records_of_the_api_are_kept_the_newest_first_with_what_was_sent(store):
    refuse(TUTORS, {**TUTORS.serializer_class.example, "email": "nope"})
    refuse(SESSIONS, "no object")
    refuse(TUTORS, {"tutor_id": "t"}, source=Source(upload=1))
    second, first = queues.rejections([TUTORS.queue, QUEUE])
    assert (first.queue, first.source, first.record_id) == (TUTORS.queue, "api:crm", "tutor_00001")
    assert [(field, code) for field, code, _ in first.errors] == [("email", "invalid_email")]
    assert first.record["email"] == "nope"
    assert (second.queue, second.record, second.record_id) == (QUEUE, None, None)
    assert first.fixed_by is second.fixed_by is None


def test_a_fixed_rejection_names_the_record_that_fixed_it(store):
    refuse(TUTORS, {})
    refuse(TUTORS, {})
    _, older = queues.rejections([TUTORS.queue])
    queues.mark_fixed(TUTORS.queue, older.id, "tutor_7")
    assert [one.fixed_by for one in queues.rejections([TUTORS.queue])] == [None, "tutor_7"]
    assert 0 < store.ttl(Keys(TUTORS.queue).fixed) <= 7 * 86_400


def test_rejections_are_bounded_and_expire(store):
    for _ in range(26):
        intake.queue(intake.receive(TUTORS, [Row(value={}) for _ in range(30)]), source=CRM)
    assert len(queues.rejections([TUTORS.queue])) == 500  # 20 of each request, at most 500
    assert 0 < store.ttl(Keys(TUTORS.queue).rejections) <= 7 * 86_400
