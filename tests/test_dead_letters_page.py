"""The page of a queue's dead letters, and what staff can do there."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import queues
from ingestion.consumer import Consumer
from ingestion.models import Activity
from ingestion.queues import dead_letters, discard_dead
from ingestion.records import RECORD_TYPES
from tests.staff import member, signed_in
from tests.test_consumer import KEYS, QUEUE, bury, waiting
from tests.test_overview import words
from tests.test_queue_messages import message
from tests.test_queue_page import entry, names, notice

PAGE = "/admin/queues/sessions/dead/"
# The error of a handler may quote the record.
SECRET = "KeyError: 'Anna Nowak'"


def dead(*numbers, **also):
    """Let consumers fail at these messages, one after another; returns their bytes."""
    buried = [message(number, **also) for number in numbers]
    bury(*buried, reason=SECRET)
    return buried


def left(**window):
    return [one.message.raw for one in dead_letters(QUEUE, first=0, count=100, **window)]


def listed(answer):
    """The record ids on the page, in its order."""
    return re.findall(r'<th scope="row"><code>(s\d+)</code>', answer.text)


# --- Looking -----------------------------------------------------------------------------------


def test_it_works(viewer, store, record_type):
    answer = viewer.get(f"/admin/queues/{record_type.path}/dead/")
    assert answer.status_code == 200
    assert "There are no dead letters" in words(answer)


def test_when_it_died_after_how_many_attempts_its_age_and_source_are_told(viewer, store):
    dead(1, source="upload:12#345", at=datetime.now(UTC) - timedelta(hours=2))
    answer = viewer.get(PAGE)
    assert re.search(r"s1 \d s ago 5 2 h Upload 12, line 345", words(answer))
    assert '<a href="/admin/uploads/12/#line-345">' in answer.text


def test_they_are_listed_by_50_the_oldest_or_the_newest_first(viewer, store):
    for number in range(120):
        store.lpush(KEYS.dead, message(number))
    assert listed(viewer.get(PAGE)) == [f"s{n}" for n in range(50)]
    third = viewer.get(f"{PAGE}?page=3")
    assert listed(third) == [f"s{n}" for n in range(100, 120)]
    assert "120 dead letters 101\N{EN DASH}120 of 120" in words(third)
    assert 'rel="next"' not in third.text
    newest = viewer.get(f"{PAGE}?order=newest&page=2")
    assert listed(newest) == [f"s{n}" for n in range(69, 19, -1)]
    assert '?order=newest&amp;page=3" rel="next"' in newest.text
    assert "This page is empty now" in words(viewer.get(f"{PAGE}?page=9"))


def test_foreign_dead_letters_are_listed_as_such(viewer, store):
    store.lpush(KEYS.dead, b"<script>", b'{"task": 1}')
    said = words(viewer.get(PAGE))
    assert "not JSON unknown unknown unknown unknown" in said
    assert "no message of ours unknown" in said


def test_neither_payload_nor_reason_is_on_the_page(operator, store):
    dead(1)
    answer = operator.get(PAGE)
    assert listed(answer) == ["s1"]
    assert "KeyError" not in answer.text
    assert "Anna" not in answer.text


def test_a_viewer_sees_no_buttons_for_changes(viewer, store):
    dead(1)
    answer = viewer.get(PAGE)
    assert listed(answer) == ["s1"]
    assert not re.findall(r'formaction|type="checkbox"|form="show"|/put-all-back/', answer.text)


def test_while_the_store_is_away_the_page_says_so(operator, no_store):
    answer = operator.get(PAGE)
    assert answer.status_code == 200
    said = words(answer)
    assert "The store does not answer." in said
    assert "The dead letters cannot be listed" in said
    assert "no dead letters" not in said


# --- What one holds, and why it died -----------------------------------------------------------


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_why_one_died_is_shown_on_demand_and_that_is_noted(operator, store, order):
    dead(1, 2)
    name = names(operator.get(f"{PAGE}?order={order}"))[0]
    shown = {"oldest": "1", "newest": "2"}[order]
    answer = operator.post(f"{PAGE}message/", {"message": name, "order": order})
    assert answer.status_code == 200
    assert "KeyError: &#x27;Anna Nowak&#x27;" in answer.text
    assert "5 attempts, the last" in words(answer)
    assert f"&quot;session_id&quot;: &quot;s{shown}&quot;" in answer.text
    assert (entry().action, entry().record_type) == ("payload_shown", RECORD_TYPES["sessions"])
    assert entry().facts == {"message": f"m{shown}", "record": f"s{shown}"}
    assert len(left()) == 2


def test_a_foreign_one_is_shown_without_a_reason(operator, store):
    store.lpush(KEYS.dead, b"\xff")
    (name,) = names(operator.get(PAGE))
    said = words(operator.post(f"{PAGE}message/", {"message": name}))
    assert "Unknown: another program added it to the dead letters." in said
    assert "\\xff" in said


def test_staff_who_may_not_see_payloads_do_not_see_the_reason_either(viewer, store):
    dead(1)
    (name,) = [one.message.name for one in dead_letters(QUEUE, first=0, count=1)]
    answer = viewer.post(f"{PAGE}message/", {"message": name})
    assert answer.status_code == 403
    assert "Anna" not in answer.text


def test_the_page_says_that_a_dead_letter_is_gone(operator, store):
    dead(1)
    (name,) = names(operator.get(PAGE))
    store.delete(KEYS.dead)
    answer = operator.post(f"{PAGE}message/", {"message": name}, follow=True)
    assert notice(answer) == ["This dead letter is gone: it was put back or discarded."]
    assert not Activity.objects.exists()


# --- Putting back ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_chosen_ones_are_put_back_in_their_order_with_or_without_a_reason(operator, store, order):
    letters, behind = dead(0, 1, 2, 3), message(9)
    queues.push(QUEUE, [behind])
    chosen = names(operator.get(f"{PAGE}?order={order}"))[1:3]
    ask = operator.post(f"{PAGE}put-back/", {"message": chosen, "order": order})
    assert "2 dead letters will be on the queue again" in words(ask)
    assert left() == letters
    confirmed = {"message": chosen, "order": order, "reason": ""}
    answer = operator.post(f"{PAGE}put-back/", confirmed, follow=True)
    assert notice(answer) == ["2 put back."]
    assert waiting(store) == [letters[1], letters[2], behind]
    assert left() == [letters[0], letters[3]]
    assert (entry().action, entry().reason, entry().facts) == ("put_back", "", {"dead_letters": 2})


def test_all_are_put_back_after_they_were_counted(operator, store):
    letters = dead(*range(3))
    ask = operator.get(f"{PAGE}put-all-back/")
    assert "3 dead letters will be on the queue again" in words(ask)
    assert left() == letters
    answer = operator.post(f"{PAGE}put-all-back/", {"reason": "The model is back"}, follow=True)
    assert notice(answer) == ["3 put back: the next consumer takes them first."]
    assert (waiting(store), left()) == (letters, [])
    assert (entry().reason, entry().facts) == ("The model is back", {"dead_letters": 3})
    answer = operator.post(f"{PAGE}put-all-back/", {"reason": ""}, follow=True)
    assert notice(answer) == ["There are no dead letters left."]
    assert Activity.objects.count() == 1


def test_if_a_colleague_was_faster_the_page_says_how_many_were_put_back(operator, store):
    letters = dead(1, 2)
    form = {"message": names(operator.get(PAGE)), "reason": ""}
    discard_dead(QUEUE, letters[:1])
    answer = operator.post(f"{PAGE}put-back/", form, follow=True)
    assert notice(answer) == ["1 of 2 were put back; somebody else was faster with the others."]
    assert entry().facts == {"dead_letters": 1}
    answer = operator.post(f"{PAGE}put-back/", form, follow=True)
    assert notice(answer) == ["Nothing was put back: somebody else was faster."]
    assert Activity.objects.count() == 1


# --- Discarding --------------------------------------------------------------------------------


def test_chosen_ones_are_discarded_for_good_after_the_count_and_a_reason(operator, store):
    letters = dead(*range(4))
    chosen = names(operator.get(PAGE))[1:3]
    ask = operator.post(f"{PAGE}discard/", {"message": chosen, "order": "oldest"})
    assert "2 dead letters will be deleted permanently" in words(ask)
    assert left() == letters
    form = {"message": chosen, "order": "oldest", "count": "2", "reason": "Test data"}
    answer = operator.post(f"{PAGE}discard/", form, follow=True)
    assert notice(answer) == ["2 discarded."]
    assert (left(), waiting(store)) == ([letters[0], letters[3]], [])
    assert (entry().action, entry().reason) == ("discarded", "Test data")
    assert entry().facts == {"dead_letters": 2}
    # The queue's page lists what can be put back: these messages cannot.
    assert "Discarded in the last 7 days" not in words(operator.get("/admin/queues/sessions/"))


@pytest.mark.parametrize(
    "form", [{"count": "2"}, {"count": "3", "reason": "x"}, {"count": "", "reason": "x"}]
)
def test_a_wrong_count_or_no_reason_discards_nothing(operator, store, form):
    letters = dead(1, 2)
    answer = operator.post(f"{PAGE}discard/", {"message": names(operator.get(PAGE)), **form})
    assert answer.status_code == 422
    assert 'class="problem"' in answer.text
    assert answer.text.count('name="message"') == 2  # the chosen messages are still chosen
    assert left() == letters
    assert not Activity.objects.exists()


@pytest.mark.parametrize("action", ["put-back", "discard"])
def test_nothing_chosen_is_nothing_done_and_more_than_a_page_is_refused(operator, store, action):
    answer = operator.post(f"{PAGE}{action}/", {"count": "0", "reason": "x"}, follow=True)
    assert notice(answer) == ["Select at least one dead letter."]
    assert operator.post(f"{PAGE}{action}/", {"message": ["x"] * 51}).status_code == 400


# --- Who may, and a store that fails ------------------------------------------------------------

ACTIONS = {
    "message": {"message": "x"},
    "put-back": {"message": "x", "reason": ""},
    "put-all-back": {"reason": ""},
    "discard": {"message": "x", "count": "1", "reason": "x"},
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("group", ["Viewer", "Uploader"])
def test_staff_without_the_right_are_refused_whatever_the_page_shows(db, store, group, action):
    letters = dead(1)
    browser = signed_in(member(group))
    form = {**ACTIONS[action], "message": dead_letters(QUEUE, first=0, count=1)[0].message.name}
    assert browser.post(f"{PAGE}{action}/", form).status_code == 403
    assert left() == letters
    assert not Activity.objects.exists()


@pytest.mark.parametrize("action", ["message", "put-back", "discard"])
def test_a_get_changes_nothing(operator, store, action):
    assert operator.get(f"{PAGE}{action}/").status_code == 405


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_while_the_store_is_away_says_so_and_is_not_noted(operator, no_store, action):
    answer = operator.post(f"{PAGE}{action}/", ACTIONS[action], follow=True)
    assert answer.status_code == 200
    assert notice(answer)[0].startswith("The store does not answer. Nothing was changed.")
    assert not Activity.objects.exists()


@pytest.mark.parametrize(
    ("action", "also"),
    [
        ("put-back", {"reason": ""}),
        ("put-all-back", {"reason": ""}),
        ("discard", {"count": "1", "reason": "x"}),
    ],
)
def test_a_change_whose_answer_is_lost_is_noted_as_such(operator, store, proxy, action, also):
    dead(1)
    form = {"message": names(operator.get(PAGE)), **also}
    proxy.cuts = 1
    answer = operator.post(f"{PAGE}{action}/", form, follow=True)
    assert "look at the queue before you try again" in " ".join(notice(answer))
    assert left() == []
    assert [one.facts for one in Activity.objects.all() if one.facts.get("outcome") == "unknown"]


def test_a_message_that_is_put_back_and_fails_again_is_back_among_them(operator, store):
    (letter,) = dead(1)
    operator.post(f"{PAGE}put-all-back/", {"reason": ""})
    with Consumer(QUEUE) as consumer:
        for attempts in range(5):
            (claimed,) = consumer.claim(wait=False).messages
            assert claimed.attempts == attempts
            consumer.give_back(reason="again")
    assert left() == [letter]
    assert listed(operator.get(PAGE)) == ["s1"]


def test_every_record_type_has_its_own(viewer, store):
    dead(1)
    assert listed(viewer.get(PAGE)) == ["s1"]
    for path in RECORD_TYPES:
        if path != "sessions":
            assert listed(viewer.get(f"/admin/queues/{path}/dead/")) == []
