"""The ingestion app."""

from django.apps import AppConfig


class IngestionConfig(AppConfig):
    """Takes records in, validates them and queues them."""

    name = "ingestion"
