"""A store that refuses the portal is reported at the start, with the setting and no secret."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from ingestion import embedded
from ingestion.records import RECORD_TYPES
from tests.portal_process import free_port, running_portal
from tests.test_settings import manage

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The socket of a store that asks for a password, and has a user who may only read."""
    folder = tmp_path_factory.mktemp("guarded")
    with embedded.running(folder) as store, Redis.from_url(store.url) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">canary", "+@read", "~*")
        admin.config_set("requirepass", "right")
        yield f"{folder}/store.sock"


WRONG = "refuses the user or the password of REDIS_URL"
TOO_LITTLE = "but not do what the portal needs"


@pytest.mark.parametrize(
    ("command", "user", "sentence"),
    [
        ("serve", ":canary@", WRONG),
        ("serve", "", WRONG),
        ("serve", "reader:canary@", TOO_LITTLE),
        ("queue_stats", ":canary@", WRONG),
        ("ingest", "reader:canary@", TOO_LITTLE),
    ],
)
def test_a_store_that_refuses_us_is_told_with_setting_and_address(
    guarded, tmp_path, command, user, sentence
):
    file = tmp_path / "tutors.ndjson"
    file.write_text(json.dumps(RECORD_TYPES["tutors"].serializer_class.example))
    arguments = [str(file), "--type", "tutors"] if command == "ingest" else []
    address = f"unix://{user}{guarded}"
    done = manage(tmp_path / "var", command, *arguments, REDIS_URL=address, PORT=str(free_port()))
    assert done.returncode == 1, done.stdout
    assert f"The store at unix://{guarded} " in done.stderr
    assert sentence in done.stderr
    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert "is running" not in done.stdout


def test_a_store_that_is_away_is_waited_for_and_told(tmp_path):
    away = f"redis://:canary@127.0.0.1:{free_port()}/0"
    with running_portal(tmp_path / "var", REDIS_URL=away) as portal:
        assert f"{away.replace(':canary@', '')}, which cannot be reached now" in portal.printed
        assert portal.get("/health/ready").status == 503
        assert "canary" not in portal.printed
