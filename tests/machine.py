"""What made the figures that a page shows."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def machine() -> str:
    """The machine and the Python that made the figures, in words."""
    model = re.search(r"model name\s*: (.+)", _cpu_info())
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), "
        f"{platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}"
    )


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:  # not on Linux
        return ""
