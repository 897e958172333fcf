"""The queues' numbers for Prometheus.

They are read from the store at each scrape, so every web process tells the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestion.outcomes import StoreError
from ingestion.stats import queue_summaries


class QueueCollector(Collector):
    """Asks the store once per scrape; without a store it says so and gives no other number."""

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        up = GaugeMetricFamily("tutormax_store_up", "1 while the queues' store answers, else 0.")
        try:
            summaries = queue_summaries()
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
        for kind, one in summaries.items():
            label = kind.queue_label
            depth.add_metric([label], one.depth)
            if one.oldest_age_seconds is not None:
                age.add_metric([label], one.oldest_age_seconds)
            records.add_metric([label, "accepted"], one.accepted)
            records.add_metric([label, "rejected"], one.rejected)
        yield from (up, depth, age, records)


REGISTRY = CollectorRegistry()
REGISTRY.register(QueueCollector())
