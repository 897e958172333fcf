"""All addresses of the site."""

from __future__ import annotations

from django.conf import settings
from django.urls import URLPattern, URLResolver, path, re_path
from django.views.generic import RedirectView

from ingestion.api import docs, intake_views, views
from ingestion.portal.urls import portal
from ingestion.records import RECORD_TYPES

_api = settings.API_PREFIX.strip("/")

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.RootView.as_view(), name="root"),
    path("health", views.HealthView.as_view(), name="health"),
    path("health/live", views.LiveView.as_view(), name="health-live"),
    path("health/ready", views.ReadyView.as_view(), name="health-ready"),
    path("metrics", views.MetricsView.as_view(), name="metrics"),
    path(f"{_api}/queue/stats", views.QueueStatsView.as_view(), name="queue-stats"),
    path("docs", docs.SwaggerView.as_view(), name="docs"),
    path("redoc", docs.RedocView.as_view(), name="redoc"),
    path("openapi.json", docs.SchemaJSONView.as_view(), name="openapi-json"),
    path("openapi.yaml", docs.SchemaYAMLView.as_view(), name="openapi-yaml"),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", portal),
]

for record_type in RECORD_TYPES.values():
    urlpatterns += [
        path(
            f"{_api}/{record_type.path}",
            intake_views.RecordView.as_view(record_type=record_type),
            name=f"record-{record_type.path}",
        ),
        path(
            f"{_api}/{record_type.path}/batch",
            intake_views.BatchView.as_view(record_type=record_type),
            name=f"batch-{record_type.path}",
        ),
    ]

urlpatterns.append(re_path("", views.NotFoundView.as_view()))

handler400 = "tutormax.errors.bad_request"
handler403 = "tutormax.errors.permission_denied"
handler404 = "tutormax.errors.page_not_found"
handler500 = "tutormax.errors.server_error"
