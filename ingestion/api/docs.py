"""The documentation pages: Swagger UI, ReDoc and the schema, all without the internet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, cast

from django.http import HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils.cache import get_conditional_response
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer2
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from ingestion.api.views import View

# Both pages set their styles from their scripts. Nothing may come from another site.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)
# The schema changes with a release, so browsers must check each time whether they have it.
_CACHED = "public, no-cache"


class _Page(View):
    """What the two pages share."""

    url_name = "openapi-json"
    parameters = None

    def _get_schema_url(self, request: Request) -> str:
        return reverse(self.url_name)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """The page with its policy."""
        response["Content-Security-Policy"] = _POLICY
        return super().finalize_response(request, response, *args, **kwargs)


class SwaggerView(_Page, SpectacularSwaggerSplitView):
    """GET /docs: try the API out."""


class RedocView(_Page, SpectacularRedocView):
    """GET /redoc: read the API."""


class SchemaView(View):
    """GET /openapi.json and /openapi.yaml: one schema, made once in each process."""

    schema = None
    renderer_class: type[BaseRenderer]

    def get(self, request: Request) -> HttpResponseBase | None:
        """The schema of all addresses; 304 if the client already has this version."""
        content, etag = _rendered(self.renderer_class)  # type: ignore[arg-type]  # classes can be hashed
        response = HttpResponse(
            content,
            content_type=self.renderer_class.media_type,
            headers={"ETag": etag, "Cache-Control": _CACHED},
        )
        return get_conditional_response(request._request, etag=etag, response=response)


class SchemaJSONView(SchemaView):
    """GET /openapi.json."""

    renderer_class = OpenApiJsonRenderer2


class SchemaYAMLView(SchemaView):
    """GET /openapi.yaml."""

    renderer_class = OpenApiYamlRenderer2


@cache
def _rendered(renderer_class: Callable[[], BaseRenderer]) -> tuple[bytes, str]:
    """The schema's bytes, and the name of this version of them."""
    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    content = cast(bytes, renderer_class().render(document))
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
