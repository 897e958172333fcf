"""The files that browsers load beside the pages."""

from __future__ import annotations

from django.test import Client
from whitenoise.middleware import WhiteNoiseMiddleware

REDOC = "/static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js"


def test_scripts_are_served_and_their_source_maps_are_not(client: Client) -> None:
    assert client.head(REDOC).status_code == 200
    assert client.head(f"{REDOC}.map").status_code == 404
    served = WhiteNoiseMiddleware(None).files
    assert REDOC in served
    assert not [name for name in served if name.endswith(".map")]
