"""Which of the packages' static files are served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.staticfiles.finders import AppDirectoriesFinder


class WithoutSourceMaps(AppDirectoriesFinder):
    """All but source maps: they are the largest files by far, and no page needs them."""

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterable[Any]:
        """Every other file, with its storage."""
        return super().list([*(ignore_patterns or ()), "*.map"])
