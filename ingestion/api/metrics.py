"""The queues' numbers for Prometheus.

They are read from the store at each scrape, so every web process gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestion import queues
from ingestion.outcomes import StoreError
from ingestion.stats import queue_summaries


class QueueCollector(Collector):
    """Asks the store once per scrape; without a store it says so and gives no other number."""

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        up = GaugeMetricFamily("tutormax_store_up", "1 while the queues' store answers, else 0.")
        try:
            summaries = queue_summaries()
            taken = queues.consumption(record_type.queue for record_type in summaries)
        except StoreError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        depth = GaugeMetricFamily(
            "tutormax_queue_depth", "Messages on the queue.", labels=["queue"]
        )
        age = GaugeMetricFamily(
            "tutormax_queue_oldest_age_seconds",
            "Age of the oldest message; absent while the queue is empty.",
            labels=["queue"],
        )
        records = CounterMetricFamily(
            "tutormax_records", "Records judged, by outcome.", labels=["queue", "outcome"]
        )
        paused = GaugeMetricFamily(
            "tutormax_queue_paused", "1 while staff keep the queue paused.", labels=["queue"]
        )
        in_flight = GaugeMetricFamily(
            "tutormax_messages_in_flight", "Messages in consumers' hands.", labels=["queue"]
        )
        dead = GaugeMetricFamily(
            "tutormax_dead_letters", "Messages that consumers gave up on.", labels=["queue"]
        )
        consumers = GaugeMetricFamily(
            "tutormax_consumers",
            "Consumers with a lease, by whether it runs or has lapsed.",
            labels=["queue", "lease"],
        )
        for (record_type, one), now in zip(summaries.items(), taken, strict=True):
            label = record_type.queue_label
            depth.add_metric([label], one.depth)
            if one.oldest_age_seconds is not None:
                age.add_metric([label], one.oldest_age_seconds)
            records.add_metric([label, "accepted"], one.accepted)
            records.add_metric([label, "rejected"], one.rejected)
            paused.add_metric([label], int(one.pause is not None))
            in_flight.add_metric([label], now.in_flight)
            dead.add_metric([label], now.dead)
            alive = sum(consumer.alive for consumer in now.consumers)
            consumers.add_metric([label, "alive"], alive)
            consumers.add_metric([label, "lapsed"], len(now.consumers) - alive)
        yield from (up, depth, age, records, paused, in_flight, dead, consumers)


REGISTRY = CollectorRegistry()
REGISTRY.register(QueueCollector())
