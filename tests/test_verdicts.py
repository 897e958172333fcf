"""The state of a queue, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingestion.portal.queues import verdicts
from ingestion.portal.queues.sparklines import sparkline
from ingestion.portal.queues.verdicts import Flow, Verdict
from ingestion.queues import ConsumerSummary, Minute, Pause, QueueSummary

NOW = datetime(2024, 5, 14, 10, 0, 30, tzinfo=UTC)
PAUSE = Pause(reason="The consumer is moved", by="otto", since=NOW)


def summary(depth=0, age=None, **also):
    return QueueSummary(
        queue="tutormax:queue:sessions",
        depth=depth,
        oldest_age_seconds=age,
        accepted=0,
        rejected=0,
        taken=0,
        **also,
    )


def moved(accepted, taken):
    return Flow(accepted=accepted, taken=taken, minutes=5)


@pytest.mark.parametrize(
    ("queue", "flow", "verdict", "says"),
    [
        (summary(), moved(0, None), "flowing", "No message waits"),
        (summary(), moved(500, 500), "flowing", "No message waits"),
        (summary(9, 12), moved(9, None), "flowing", "longer than 12 s"),
        (summary(9, 119), moved(9, 0), "flowing", "longer than 1 min 59 s"),
        (summary(9, 120), moved(0, 0), "stopped", "waited 2 min"),
        (summary(9, 7200), moved(9, 0), "stopped", "Is the consumer running?"),
        (summary(9, 7200), moved(0, None), "stopped", "No message left the queue"),
        (summary(9, None), moved(0, 0), "stopped", "No message left the queue"),
        (summary(900, 300), moved(120, 80), "building", "120 in and 80 out"),
        (summary(9, None), moved(1200, 1), "building", "1,200 in and 1 out"),
        (summary(900, 300), moved(80, 80), "flowing", "does not get shorter"),
        (summary(900, 300), moved(0, 100), "flowing", "in about 45 min"),
        (summary(1, 7200), moved(0, 100), "flowing", "in about 1 min."),
        (summary(pause=PAUSE), moved(0, None), "paused", "otto paused it: “The consumer is moved”"),
        (summary(9, 7200, pause=PAUSE), moved(9, 0), "paused", "The consumer is moved"),
        (summary(broken=True), moved(0, None), "unreachable", "tutormax:queue:sessions"),
        (summary(broken=True, pause=PAUSE), moved(0, 0), "unreachable", "not a list"),
    ],
)
def test_a_queue_gets_the_verdict_that_its_numbers_call_for(queue, flow, verdict, says):
    judgement = verdicts.judge(queue, flow)
    assert judgement.verdict == verdict
    assert says in judgement.meaning


def consumer(in_flight, alive=True, name="host:7:ab"):
    return ConsumerSummary(name=name, in_flight=in_flight, alive=alive)


@pytest.mark.parametrize(
    ("queue", "consumers", "verdict", "says"),
    [
        (summary(9, 7200), [consumer(0)], "stopped", "consumer host:7:ab is alive and takes none."),
        (summary(9, 7200), [consumer(1)], "stopped", "alive and holds 1 message: see what it does"),
        (
            summary(9, 7200),
            [consumer(1), consumer(1200), consumer(5, alive=False)],
            "stopped",
            "2 consumers are alive and hold 1,201 messages: see what they do.",
        ),
        (summary(9, 7200), [consumer(0), consumer(0)], "stopped", "are alive and take none."),
        (
            summary(9, 7200),
            [consumer(5, alive=False)],
            "stopped",
            "No known consumer is alive: start one",
        ),
        (summary(), [consumer(0)], "flowing", "consumers have taken every message."),
        (summary(), [consumer(0, alive=False)], "flowing", "consumers have taken every message."),
        (summary(), [consumer(3)], "flowing", "and still work on some"),
        (summary(), [consumer(3, alive=False), consumer(0)], "flowing", "still work on some"),
        (
            summary(),
            [consumer(1, alive=False)],
            "stopped",
            "Dead consumers hold 1 message. Start a consumer",
        ),
        (summary(9, 60), [consumer(3, alive=False)], "flowing", "longer than 1 min"),
        (summary(pause=PAUSE), [consumer(1, alive=False)], "paused", "otto"),
    ],
)
def test_the_consumers_of_the_queue_count_too(queue, consumers, verdict, says):
    judgement = verdicts.judge(queue, moved(9, None), consumers)
    assert judgement.verdict == verdict
    assert says in judgement.meaning


def test_messages_that_dead_consumers_hold_do_not_count_as_read():
    held = [consumer(2, alive=False)]
    judgement = verdicts.judge(summary(9, 7200), moved(20, 2), held)
    assert judgement.verdict == "stopped"
    assert "in the last 5 minutes (2 messages)" in judgement.meaning
    # A third message left: somebody takes messages with a plain RPOP.
    assert verdicts.judge(summary(9, 7200), moved(20, 3), held).verdict == "building"


def test_every_verdict_has_words():
    assert [verdict.words for verdict in Verdict] == [
        "Flowing",
        "Building up",
        "Nothing is reading",
        "Paused",
        "Unreachable",
    ]


def minutes(*flows):
    """The minutes up to the one with `NOW`; (accepted, taken) for each."""
    last = NOW.replace(second=0)
    begins = [last - timedelta(minutes=back) for back in range(len(flows))][::-1]
    return [
        Minute(begins_at=at, accepted=accepted, rejected=0, depth=0, taken=taken)
        for at, (accepted, taken) in zip(begins, flows, strict=True)
    ]


def test_in_and_out_are_the_mean_of_the_last_minutes_up_to_this_second():
    found = verdicts.flow(minutes((900, 900), (10, 1), (0, 2), (0, None), (7, 3), (1, 3)), now=NOW)
    assert (found.accepted, found.taken) == (18, 9)
    assert (found.in_per_minute, found.out_per_minute) == (4, 2)  # in four minutes and a half


def test_what_goes_out_is_unknown_if_nobody_looked():
    found = verdicts.flow(minutes((5, None), (0, None)), now=NOW)
    assert (found.taken, found.out_per_minute) == (None, None)
    assert found.in_per_minute > 0


def test_a_minute_that_has_just_begun_has_a_rate():
    (minute,) = minutes((3, None))
    assert verdicts.flow([minute], now=minute.begins_at).in_per_minute == 180


# --- Lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([None, None], ""),
        ([0, 0, 0], "M0 19L30 19L60 19"),
        ([0, 5, 10], "M0 19L30 10L60 1"),
        ([4], "M0 1h0"),
        ([1, 1, None, 1, None], "M0 1L15 1M45 1h0"),
    ],
)
def test_a_line_runs_from_the_left_edge_to_the_right_with_gaps_where_nothing_is_known(values, line):
    assert sparkline(values).line == line


def test_two_lines_share_a_height():
    assert sparkline([0, 5], most=10).line == "M0 19L60 10"
    assert sparkline([0, 50], most=10).line == "M0 19L60 1"  # it never leaves its box


def test_the_area_below_a_line_is_closed_for_each_part_of_it():
    assert sparkline([2, None, 2]).area == "M0 20L0 1L0 20ZM60 20L60 1L60 20Z"
