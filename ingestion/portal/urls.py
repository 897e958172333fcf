"""The portal's addresses, below /admin/; one block for each part of the portal."""

from __future__ import annotations

from django.contrib.auth.models import Group, User
from django.urls import URLPattern, URLResolver, path, register_converter

from ingestion.models import Activity, Upload
from ingestion.portal import sample_files
from ingestion.portal.administration.accounts import GroupAdmin, UserAdmin
from ingestion.portal.administration.activity import ActivityAdmin
from ingestion.portal.administration.keys import pages as keys
from ingestion.portal.pages import RecordTypeConverter
from ingestion.portal.queues import changes, dead_letters, overview
from ingestion.portal.queues import pages as queue_pages
from ingestion.portal.records import enter, guide
from ingestion.portal.rejections import pages as rejections
from ingestion.portal.site import site
from ingestion.portal.uploads import actions, fix
from ingestion.portal.uploads import pages as upload_pages
from ingestion.portal.uploads.list import UploadAdmin

register_converter(RecordTypeConverter, "record_type")

queues = [
    path("", overview.overview, name="index"),
    path("queues/<record_type:record_type>/", queue_pages.queue, name="queue"),
    path(
        "queues/<record_type:record_type>/message/", queue_pages.show_message, name="queue-message"
    ),
    path("queues/<record_type:record_type>/pause/", changes.pause, name="queue-pause"),
    path("queues/<record_type:record_type>/resume/", changes.resume, name="queue-resume"),
    path("queues/<record_type:record_type>/discard/", changes.discard, name="queue-discard"),
    path("queues/<record_type:record_type>/put-back/", changes.put_back, name="queue-put-back"),
    path("queues/<record_type:record_type>/dead/", dead_letters.dead_letters, name="dead-letters"),
    path("queues/<record_type:record_type>/dead/message/", dead_letters.show, name="dead-letter"),
    path(
        "queues/<record_type:record_type>/dead/put-back/",
        dead_letters.put_back,
        name="dead-put-back",
    ),
    path(
        "queues/<record_type:record_type>/dead/put-all-back/",
        dead_letters.put_all_back,
        name="dead-put-all-back",
    ),
    path(
        "queues/<record_type:record_type>/dead/discard/", dead_letters.discard, name="dead-discard"
    ),
]

site.register(Upload, UploadAdmin)
uploads = [
    path("upload/", upload_pages.new_upload, name="upload-new"),
    path(
        "uploads/",
        site.admin_view(site.get_model_admin(Upload).changelist_view),
        name="uploads",
    ),
    path("uploads/<int:number>/", upload_pages.upload, name="upload"),
    path("uploads/<int:number>/check/", upload_pages.upload_check, name="upload-check"),
    path("uploads/<int:number>/progress", upload_pages.upload_progress, name="upload-progress"),
    path(
        "uploads/<int:number>/original",
        upload_pages.upload_file,
        {"which": "original"},
        name="upload-original",
    ),
    path(
        "uploads/<int:number>/to-fix",
        upload_pages.upload_file,
        {"which": "to-fix"},
        name="upload-to-fix",
    ),
    path("uploads/<int:number>/fix/", fix.fix, name="upload-fix"),
    path("uploads/<int:number>/queue/", actions.queue, name="upload-queue"),
    path("uploads/<int:number>/cancel/", actions.cancel, name="upload-cancel"),
    path("uploads/<int:number>/retry/", actions.retry, name="upload-retry"),
    path("uploads/<int:number>/recall/", actions.recall, name="upload-recall"),
]

records = [
    path("enter/<record_type:record_type>/", enter.enter, name="enter"),
    path("guide/<record_type:record_type>/", guide.guide, name="guide"),
    path(
        "templates/<record_type:record_type>.<str:file_format>",
        sample_files.download,
        name="template",
    ),
]

refused = [
    path("rejections/", rejections.rejections, name="rejections"),
    path(
        "rejections/<record_type:record_type>/<slug:rejection_id>/",
        rejections.rejection,
        name="rejection",
    ),
    path(
        "rejections/<record_type:record_type>/<slug:rejection_id>/show/",
        rejections.show_rejection,
        name="rejection-show",
    ),
]

administration = [
    path("keys/", keys.keys, name="keys"),
    path("keys/new/", keys.create, name="key-new"),
    path("keys/clients/<int:number>/rotate/", keys.rotate, name="key-rotate"),
    path("keys/<int:number>/revoke/", keys.revoke, name="key-revoke"),
]

pages: list[URLPattern] = [*queues, *uploads, *records, *refused, *administration]

# The stock admin's addresses come last, because the last of them catches every address.
site.register(Activity, ActivityAdmin)
site.register(User, UserAdmin)
site.register(Group, GroupAdmin)
urlpatterns: list[URLPattern | URLResolver] = [*pages, *site.get_urls()]

portal = (urlpatterns, "admin", site.name)
"""For the site's `path("admin/", portal)`."""
