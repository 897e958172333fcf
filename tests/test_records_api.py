"""POST of one record."""

import json


def test_it_works(post, store, record_type):
    example = dict(record_type.serializer_class.example)
    answer = post(f"/api/{record_type.path}", example)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body["success"] is True
    assert body["queued"] is True
    assert body["id"] == example[record_type.id_field]
    (message,) = store.lrange(record_type.queue, 0, -1)
    message = json.loads(message)
    assert message["data"] == example
    assert list(message) == ["data", "queued_at", "queue", "id", "source"]
    assert message["queue"] == record_type.queue
    assert message["source"] == "api:local"
