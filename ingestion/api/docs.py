"""The documentation pages: Swagger UI, ReDoc and the schema, all without the internet."""

from __future__ import annotations

from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer2
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response

from ingestion.api.views import View

# Both pages style themselves from their scripts; nothing may come from anywhere else.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)


class _Page(View):
    """What the two pages share."""

    url_name = "openapi-json"
    parameters = None

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """The page with its policy."""
        response["Content-Security-Policy"] = _POLICY
        return super().finalize_response(request, response, *args, **kwargs)


class SwaggerView(_Page, SpectacularSwaggerSplitView):
    """GET /docs: try the API out."""


class RedocView(_Page, SpectacularRedocView):
    """GET /redoc: read the API."""


class SchemaView(View):
    """GET /openapi.json and /openapi.yaml: there is one schema, whatever the query asks for."""

    schema = None

    def get(self, request: Request) -> Response:
        """The schema of all addresses."""
        return Response(SchemaGenerator().get_schema(public=True))  # type: ignore[no-untyped-call]


class SchemaJSONView(SchemaView):
    """GET /openapi.json."""

    renderer_classes = [OpenApiJsonRenderer2]


class SchemaYAMLView(SchemaView):
    """GET /openapi.yaml."""

    renderer_classes = [OpenApiYamlRenderer2]
