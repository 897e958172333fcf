"""Only the portal's own user can read what the portal writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingestion.records import RECORD_TYPES
from tests.portal_process import running_portal
from tests.test_settings import manage
from tutormax.checks import check_private
from tutormax.private import is_open, make_private


def rights(folder: Path) -> dict[str, int]:
    """The permissions of the folder and of everything in it, by relative path."""
    return {
        str(path.relative_to(folder)): path.stat().st_mode & 0o777
        for path in (folder, *folder.rglob("*"))
    }


def open_one(folder: Path, *names: str) -> Path:
    """A folder that everybody may read, with files that everybody may read."""
    folder.mkdir()
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.mark.processes
def test_a_portal_on_a_folder_open_to_all_closes_it_and_opens_nothing(tmp_path):
    data_dir = open_one(tmp_path / "var", "secret_key", "portal.sqlite3-old", "uploads/1/file.csv")
    old = os.umask(0)
    try:
        with running_portal(data_dir) as portal:
            assert portal.post("/api/tutors", RECORD_TYPES["tutors"].serializer_class.example)
            found = rights(data_dir)
            assert not [name for name, mode in found.items() if mode & 0o077], found
            assert {"portal.sqlite3", "store.log", "store.sock"} <= set(found)
            assert "W005" not in portal.printed
    finally:
        os.umask(old)


def test_files_of_staff_are_stored_for_one_user(settings, tmp_path):
    from django.core.files.base import ContentFile
    from django.core.files.storage import storages

    name = storages["uploads"].save("private/x.csv", ContentFile(b"x"))
    path = Path(storages["uploads"].path(name))
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("other", ["photos", "stores", "id_rsa"])
def test_a_folder_that_others_use_too_is_left_alone_and_told(settings, tmp_path, other):
    folder = open_one(tmp_path / "a folder", "secret_key", other)
    before = rights(folder)
    make_private(folder)
    assert rights(folder) == before
    settings.DATA_DIR = folder
    (finding,) = check_private()
    assert "DATA_DIR" in finding.msg
    assert f"chmod -R go= '{folder}'" in finding.hint


def test_links_lead_nowhere(tmp_path):
    elsewhere = open_one(tmp_path / "elsewhere", "file")
    folder = open_one(tmp_path / "var", "uploads/1")
    (folder / "store.log").symlink_to(elsewhere / "file")
    (folder / "uploads" / "2").symlink_to(elsewhere)
    make_private(folder)
    assert not is_open(folder / "uploads" / "1")
    assert is_open(elsewhere)
    assert is_open(elsewhere / "file")


@pytest.mark.processes
def test_the_start_and_the_deployment_check_tell_of_a_database_that_others_can_open(tmp_path):
    database = tmp_path / "elsewhere.sqlite3"
    database.touch()
    database.chmod(0o644)
    for arguments in (["check"], ["check", "--deploy"], ["migrate", "--plan"]):
        done = manage(tmp_path / "var", *arguments, DATABASE_URL=f"sqlite:///{database}")
        assert "tutormax.W005) DATABASE_URL: " in done.stderr
        assert done.returncode == 0
