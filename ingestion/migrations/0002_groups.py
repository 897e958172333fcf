"""The four groups of staff and what each may do."""

from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEWER = ["view_portal"]
UPLOADER = [*VIEWER, "upload_files", "enter_records"]
OPERATOR = [
    *VIEWER,
    "see_payloads",
    "pause_queue",
    "discard_messages",
    "recall_rows",
]
GROUPS = {
    "Viewer": VIEWER,
    "Uploader": UPLOADER,
    "Operator": OPERATOR,
    "Admin": [*{*UPLOADER, *OPERATOR}, "manage_uploads", "manage_keys"],
}
# Accounts are the stock admin's own pages.
ACCOUNTS = ["view_user", "add_user", "change_user", "delete_user", "view_group"]


def make_groups(apps, schema_editor):
    # Permissions are otherwise made only after all migrations have run.
    for label in ("auth", "ingestion"):
        config = apps.get_app_config(label)
        config.models_module = True
        create_permissions(config, apps=apps, verbosity=0)
        config.models_module = None
    group_model = apps.get_model("auth", "Group")
    permissions = apps.get_model("auth", "Permission").objects
    for name, codenames in GROUPS.items():
        group, _ = group_model.objects.get_or_create(name=name)
        group.permissions.add(
            *permissions.filter(content_type__app_label="ingestion", codename__in=codenames)
        )
        if name == "Admin":
            group.permissions.add(
                *permissions.filter(content_type__app_label="auth", codename__in=ACCOUNTS)
            )


class Migration(migrations.Migration):
    dependencies = [
        ("ingestion", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
