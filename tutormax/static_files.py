"""Finds the static files of the packages that are served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.staticfiles.finders import AppDirectoriesFinder


class WithoutSourceMaps(AppDirectoriesFinder):
    """Serves no source maps: they are by far the largest files, and no page needs them."""

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterable[Any]:
        """All files except source maps, with their storages."""
        return super().list([*(ignore_patterns or ()), "*.map"])
