"""The ingestion app."""

from django.apps import AppConfig


class IngestionConfig(AppConfig):
    """Takes records in, judges them and queues them."""

    name = "ingestion"
