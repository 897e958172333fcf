"""The documentation pages: Swagger UI, ReDoc and the schema, all without the internet."""

from __future__ import annotations

from typing import Any

from drf_spectacular import views
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from ingestion.api.negotiation import AlwaysJSON

# Both pages style themselves from their scripts; nothing may come from anywhere else.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)


class _Page:
    """What the two pages share."""

    url_name = "openapi-json"
    content_negotiation_class: type[BaseContentNegotiation] = AlwaysJSON

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Any:
        """The page with its policy."""
        response["Content-Security-Policy"] = _POLICY
        return super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]


class SwaggerView(_Page, views.SpectacularSwaggerSplitView):
    """GET /docs: try the API out."""


class RedocView(_Page, views.SpectacularRedocView):
    """GET /redoc: read the API."""


class SchemaJSONView(views.SpectacularJSONAPIView):
    """GET /openapi.json."""


class SchemaYAMLView(views.SpectacularYAMLAPIView):
    """GET /openapi.yaml."""
