"""The files that browsers load beside the pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from django.test import Client
from whitenoise.middleware import WhiteNoiseMiddleware

ROOT = Path(__file__).parent.parent
REDOC = "/static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js"


def test_scripts_are_served_and_their_source_maps_are_not(client: Client, settings: Any) -> None:
    settings.WHITENOISE_AUTOREFRESH = False  # as in production
    assert client.head(REDOC).status_code == 200
    assert client.head(f"{REDOC}.map").status_code == 404
    served = WhiteNoiseMiddleware(None).files
    assert REDOC in served
    assert not [name for name in served if name.endswith(".map")]


def test_styles_name_only_labels_that_a_page_has():
    pages = "".join(page.read_text() for page in (ROOT / "templates").rglob("*.html"))
    styles = "".join(sheet.read_text() for sheet in (ROOT / "ingestion" / "static").rglob("*.css"))
    labels = set(re.findall(r'data-label="([^"]+)"', styles))
    assert labels
    assert {label for label in labels if f'data-label="{label}"' not in pages} == set()
