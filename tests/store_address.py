"""Which store the portal of a test uses."""

from __future__ import annotations

from typing import Any


def use(settings: Any, url: str) -> None:
    """Let the portal use the store at this address, until pytest puts `settings` back."""
    store = {**settings.CACHES["store"], "LOCATION": url}
    settings.CACHES = {**settings.CACHES, "store": store}
