"""The page of one queue: its messages, and what staff may do with them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import queues
from ingestion.consumer import Consumer
from ingestion.models import Activity
from ingestion.queues import Pause
from tests.record_types import SESSIONS
from tests.test_consumer import KEYS, bury, end_lease
from tests.test_overview import words
from tests.test_queue_messages import message

PAGE = "/admin/queues/sessions/"


def push(*numbers, **also):
    pushed = [message(number, **also) for number in numbers]
    queues.push(SESSIONS.queue, pushed)
    return pushed


def left(store):
    return store.lrange(SESSIONS.queue, 0, -1)[::-1]


def listed(answer):
    """The record ids on the page, in its order."""
    return re.findall(r'<th scope="row"><code>(s\d+)</code>', answer.text)


def names(answer):
    """The names of the listed messages in forms."""
    return re.findall(r'name="message" value="(\w+)" aria-label', answer.text)


def notice(answer):
    """The page's notices about the last action."""
    return [str(one) for one in answer.context["messages"]]


def entry():
    """The one entry of the activity log."""
    return Activity.objects.get()


# --- Looking -----------------------------------------------------------------------------------


def test_it_works(viewer, store, record_type):
    answer = viewer.get(f"/admin/queues/{record_type.path}/")
    assert answer.status_code == 200
    assert "The queue is empty" in words(answer)
    assert record_type.queue in answer.text
    assert "depth of the last hour" in answer.text.lower()
    assert "depth of the last 24 hours" in answer.text.lower()


def test_messages_are_listed_by_50_the_oldest_or_the_newest_first(viewer, store):
    push(*range(120))
    assert listed(viewer.get(PAGE)) == [f"s{n}" for n in range(50)]
    third = viewer.get(f"{PAGE}?page=3")
    assert listed(third) == [f"s{n}" for n in range(100, 120)]
    assert "101\N{EN DASH}120 of 120" in words(third)
    assert 'rel="next"' not in third.text
    newest = viewer.get(f"{PAGE}?order=newest&page=2")
    assert listed(newest) == [f"s{n}" for n in range(69, 19, -1)]
    assert '?order=newest&amp;page=3#messages" rel="next"' in newest.text


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 30, "٣", ""])
def test_a_page_number_that_is_none_breaks_nothing(viewer, store, page):
    push(1)
    assert viewer.get(PAGE, {"page": page}).status_code == 200


def test_pages_end_where_nothing_more_can_be_reached(viewer, store):
    queues.push(SESSIONS.queue, [message(1)] * (queues.REACH + 1))
    last = viewer.get(f"{PAGE}?page={queues.REACH // 50}")
    assert 'rel="next"' not in last.text
    assert 'rel="prev"' in last.text
    assert "Only the oldest and the newest 10,000 can be shown." in words(last)


def test_the_source_of_a_message_is_shown_with_a_link_to_upload_and_line(viewer, store):
    push(1, source="upload:12#345")
    push(2, source="api:crm")
    push(3, source="<b>")
    answer = viewer.get(PAGE)
    assert '<a href="/admin/uploads/12/#line-345">Upload 12, line 345</a>' in answer.text
    assert "api:crm" in answer.text
    assert "<b>" not in answer.text


def test_no_payload_is_on_the_page(operator, store):
    secret = json.loads(message(1)) | {"data": {"session_id": "s1", "subject": "Algebra"}}
    queues.push(SESSIONS.queue, [json.dumps(secret).encode()])
    answer = operator.get(PAGE)
    assert listed(answer) == ["s1"]
    assert "Algebra" not in answer.text


def test_foreign_messages_are_listed_as_such(operator, store):
    store.lpush(SESSIONS.queue, b"<script>", b'{"task": 1}')
    said = words(operator.get(PAGE))
    assert "not JSON" in said
    assert "no message of ours" in said
    assert "age unknown" in words(operator.get("/admin/"))


def test_a_key_of_another_type_is_told_and_left_alone(operator, store):
    store.set(SESSIONS.queue, "not a list")
    assert "This is not a queue" in words(operator.get(PAGE))
    assert store.get(SESSIONS.queue) == b"not a list"


def test_a_record_is_found_by_its_id(viewer, store):
    push(1, 2, 3)
    answer = viewer.get(f"{PAGE}?id=+s2+")
    assert listed(answer) == ["s2"]
    assert "among the newest 10,000" in words(answer)
    said = words(viewer.get(f"{PAGE}?id=<b>"))
    assert "Not among the newest 10,000" in said


def test_while_the_store_is_away_the_page_says_so(operator, store, no_store):
    answer = operator.get(PAGE)
    assert answer.status_code == 200
    said = words(answer)
    assert "The store does not answer." in said
    assert "The messages cannot be listed" in said
    assert "queue is empty" not in said


# --- Who takes from it -------------------------------------------------------------------------


def test_consumers_are_listed_with_what_they_say_of_themselves(viewer, store):
    push(1, 2, 3)
    with Consumer(SESSIONS.queue) as consumer:
        consumer.claim(2)
        said = words(viewer.get(PAGE))
    host, pid, _ = consumer.name.split(":")
    today = f"{datetime.now(UTC):%-d %b}"
    row = rf"{consumer.name} {host} {pid} {today} \d\d:\d\d \d+ s ago 2 alive"
    assert re.search(row, said)
    assert "Consumers 2 messages in flight" in said
    assert "Lapsed:" not in said


def test_a_consumer_that_died_is_listed_as_lapsed_with_what_that_means(viewer, store):
    push(1, 2)
    with Consumer(SESSIONS.queue) as consumer:
        consumer.claim(1)
        end_lease(store, consumer)
        said = words(viewer.get(PAGE))
        assert re.search(rf"{consumer.name} .+ 1 lapsed", said)
        assert "go back on the queue as soon as another consumer runs." in said
        with Consumer(SESSIONS.queue, lease_seconds=3600) as living:
            said = words(viewer.get(PAGE))
    assert "go back on the queue within seconds." in said
    assert said.index(living.name) < said.index(consumer.name)


def test_a_consumer_that_says_nothing_of_itself_is_listed_all_the_same(viewer, store):
    store.zadd(KEYS.leases, {"<b>": 2**45})
    store.lpush(KEYS.claimed("<b>"), b"1")
    answer = viewer.get(PAGE)
    assert "&lt;b&gt;" in answer.text
    assert "unknown unknown unknown unknown 1 alive" in words(answer)


def test_without_consumers_the_page_says_which_ones_it_would_see(viewer, store):
    said = words(viewer.get(PAGE))
    assert "No known consumer. The portal cannot see consumers that use RPOP." in said
    assert "Dead letters" not in said


def test_dead_letters_are_counted_and_linked(viewer, store):
    bury(b"1", b"2")
    answer = viewer.get(PAGE)
    assert "Dead letters: 2" in words(answer)
    assert 'href="/admin/queues/sessions/dead/"' in answer.text


# --- What a message holds ----------------------------------------------------------------------


def test_a_payload_is_shown_on_demand_and_that_is_noted(operator, store):
    push(1)
    (name,) = names(operator.get(PAGE))
    answer = operator.post(f"{PAGE}message/", {"message": name, "order": "oldest"})
    assert answer.status_code == 200
    assert "&quot;session_id&quot;: &quot;s1&quot;" in answer.text
    assert (entry().action, entry().record_type) == ("payload_shown", SESSIONS)
    assert entry().facts == {"message": "m1", "record": "s1"}
    assert len(left(store)) == 1


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"hello \xff", "hello \\xff"),
        (b'{"a":[1]}', "&quot;a&quot;: ["),
        (b"[" * 100_000, "[[["),
        (b'"' + b"x" * 1_000_000 + b'"', "This is its beginning"),
    ],
    ids=lambda one: repr(one[:12]),
)
def test_a_message_with_any_content_can_be_shown(operator, store, raw, shown):
    store.lpush(SESSIONS.queue, raw)
    (name,) = names(operator.get(PAGE))
    answer = operator.post(f"{PAGE}message/", {"message": name})
    assert shown in answer.text
    assert len(answer.content) < 1_000_000


def test_the_page_says_that_a_message_is_gone(operator, store):
    push(1)
    (name,) = names(operator.get(PAGE))
    store.rpop(SESSIONS.queue)
    answer = operator.post(f"{PAGE}message/", {"message": name}, follow=True)
    assert notice(answer) == ["This message is no longer here: a consumer has taken it."]
    assert not Activity.objects.exists()


def test_a_viewer_sees_no_buttons_for_changes(viewer, store):
    push(1)
    answer = viewer.get(PAGE)
    assert listed(answer) == ["s1"]
    assert not re.findall(r'formaction|type="checkbox"|form="show"|/pause/', answer.text)


# --- Pausing -----------------------------------------------------------------------------------


def pause_of_queue():
    (summary,) = queues.summaries([SESSIONS.queue])
    return summary.pause


def test_a_queue_is_paused_with_a_reason_and_resumed(operator, store, post):
    before = datetime.now(UTC)
    answer = operator.post(
        f"{PAGE}pause/", {"reason": "Consumer moves", "minutes": ""}, follow=True
    )
    assert notice(answer) == ["The queue is paused: it takes nothing until it is resumed."]
    assert "operator paused it: “Consumer moves”" in words(answer)
    pause = pause_of_queue()
    assert (pause.reason, pause.by, pause.until) == ("Consumer moves", "operator", None)
    assert before <= pause.since <= datetime.now(UTC)
    assert (entry().action, entry().reason) == ("paused", "Consumer moves")
    refused = post("/api/sessions", SESSIONS.serializer_class.example)
    assert refused.status_code == 503
    assert refused.json()["code"] == "queue_paused"
    assert refused["Retry-After"]
    answer = operator.post(f"{PAGE}resume/", {"reason": "It has moved"}, follow=True)
    assert notice(answer) == ["The queue takes messages again."]
    assert pause_of_queue() is None
    assert [one.action for one in Activity.objects.all()] == ["resumed", "paused"]
    assert post("/api/sessions", SESSIONS.serializer_class.example).status_code == 201


def test_a_pause_can_end_by_itself(operator, store):
    operator.post(f"{PAGE}pause/", {"reason": "Lunch", "minutes": "60"})
    pause = pause_of_queue()
    assert pause.until == pause.since + timedelta(hours=1)
    assert entry().facts == {"minutes": 60}
    assert "until" in words(operator.get(PAGE))


@pytest.mark.parametrize("form", [{}, {"reason": "  "}, {"reason": "x", "minutes": "7"}])
def test_a_pause_without_a_reason_or_of_an_odd_length_is_asked_for_again(operator, store, form):
    answer = operator.post(f"{PAGE}pause/", form)
    assert answer.status_code == 422
    assert 'class="problem"' in answer.text
    assert pause_of_queue() is None
    assert not Activity.objects.exists()


def test_a_queue_that_is_not_paused_is_not_resumed(operator, store):
    answer = operator.post(f"{PAGE}resume/", {"reason": "Go on"}, follow=True)
    assert notice(answer) == ["The queue was no longer paused."]
    assert not Activity.objects.exists()


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_looking_at_the_form_changes_nothing(operator, store, action):
    queues.pause_queue(
        SESSIONS.queue, Pause(reason="x", by="otto", since=datetime(2024, 5, 14, tzinfo=UTC))
    )
    assert operator.get(f"{PAGE}{action}/").status_code == 200
    assert pause_of_queue() is not None
    assert not Activity.objects.exists()


# --- Discarding --------------------------------------------------------------------------------


def test_chosen_messages_are_discarded_after_the_count_and_a_reason_and_can_be_put_back(
    operator, store
):
    pushed = push(*range(5))
    chosen = names(operator.get(PAGE))[1:3]
    ask = operator.post(f"{PAGE}discard/", {"message": chosen, "order": "oldest"})
    assert ask.status_code == 200
    assert "2 messages will be taken off the queue" in words(ask)
    assert left(store) == pushed
    confirmed = {"message": chosen, "order": "oldest", "count": "2", "reason": "Sent twice"}
    answer = operator.post(f"{PAGE}discard/", confirmed, follow=True)
    assert notice(answer) == ["2 discarded. For 7 days they can be put back from this page."]
    assert left(store) == [pushed[0], *pushed[3:]]
    assert (entry().action, entry().reason, entry().facts["count"]) == (
        "discarded",
        "Sent twice",
        2,
    )
    assert "Put 2 back" in words(answer)
    copies = entry().facts["copies"]
    answer = operator.post(f"{PAGE}put-back/", {"copies": copies}, follow=True)
    assert notice(answer) == ["2 put back: the next consumer takes them first."]
    assert left(store) == [*pushed[1:3], pushed[0], *pushed[3:]]
    assert Activity.objects.first().facts == {"count": 2, "copies": copies}
    assert "put back, or expired" in words(answer)
    answer = operator.post(f"{PAGE}put-back/", {"copies": copies}, follow=True)
    assert notice(answer) == ["There are no copies left: they were put back or have expired."]
    assert Activity.objects.count() == 2


@pytest.mark.parametrize(
    "form", [{"count": "2"}, {"count": "3", "reason": "x"}, {"count": "", "reason": "x"}]
)
def test_a_wrong_count_or_no_reason_discards_nothing(operator, store, form):
    pushed = push(1, 2)
    chosen = names(operator.get(PAGE))
    answer = operator.post(f"{PAGE}discard/", {"message": chosen, **form})
    assert answer.status_code == 422
    assert 'class="problem"' in answer.text
    assert answer.text.count('name="message"') == 2  # the chosen messages are still chosen
    assert left(store) == pushed
    assert not Activity.objects.exists()


def test_messages_go_by_their_names_even_when_the_queue_has_moved_on(operator, store):
    pushed = push(*range(6))
    chosen = names(operator.get(PAGE))[1:3]
    assert store.rpop(SESSIONS.queue, 2) == pushed[:2]
    push(*range(6, 9))
    form = {"message": chosen, "order": "oldest", "count": "2", "reason": "x"}
    answer = operator.post(f"{PAGE}discard/", form, follow=True)
    assert notice(answer) == ["1 of 2 were discarded; consumers took the others first."]
    assert left(store)[:3] == pushed[3:6]
    assert entry().facts["count"] == 1
    answer = operator.post(f"{PAGE}discard/", form, follow=True)
    assert notice(answer) == ["Nothing was discarded: consumers have taken these messages."]
    assert Activity.objects.count() == 1


def test_foreign_messages_can_be_discarded_too(operator, store):
    store.lpush(SESSIONS.queue, b"\xff", b"")
    chosen = names(operator.get(f"{PAGE}?order=newest"))
    form = {"message": chosen, "order": "newest", "count": "2", "reason": "Not ours"}
    operator.post(f"{PAGE}discard/", form)
    assert left(store) == []
    operator.post(f"{PAGE}put-back/", {"copies": entry().facts["copies"]})
    assert left(store) == [b"\xff", b""]


def test_nothing_chosen_is_nothing_discarded(operator, store):
    answer = operator.post(f"{PAGE}discard/", {"order": "oldest"}, follow=True)
    assert notice(answer) == ["Select at least one message to discard."]


def test_more_than_a_page_or_copies_that_nobody_made_are_refused(operator, store):
    assert operator.post(f"{PAGE}discard/", {"message": ["x"] * 51}).status_code == 400
    assert operator.post(f"{PAGE}put-back/", {"copies": "x"}).status_code == 400
    assert operator.post(f"{PAGE}put-back/").status_code == 400


@pytest.mark.parametrize(
    ("action", "form"),
    [
        ("message", {"message": "x"}),
        ("pause", {"reason": "x"}),
        ("resume", {"reason": "x"}),
        ("discard", {"message": "x", "count": "1", "reason": "x"}),
    ],
)
def test_an_action_while_the_store_is_away_says_so_and_is_not_noted(
    operator, no_store, action, form
):
    answer = operator.post(f"{PAGE}{action}/", form, follow=True)
    assert answer.status_code == 200
    assert notice(answer)[0].startswith("The store does not answer. Nothing was changed.")
    assert not Activity.objects.exists()


def test_a_pause_whose_answer_is_lost_is_noted_as_such(operator, store, proxy):
    proxy.cuts = 1
    answer = operator.post(f"{PAGE}pause/", {"reason": "Maintenance", "minutes": ""}, follow=True)
    assert "look at the queue before you try again" in " ".join(notice(answer))
    assert store.exists(f"{{{SESSIONS.queue}}}:pause")
    (noted,) = Activity.objects.all()
    assert (noted.action, noted.facts) == (Activity.Action.PAUSED, {"outcome": "unknown"})
    proxy.cuts = 1
    operator.post(f"{PAGE}resume/", {"reason": "Done"}, follow=True)
    assert not store.exists(f"{{{SESSIONS.queue}}}:pause")
    assert Activity.objects.first().facts == {"outcome": "unknown"}
