"""Environment → settings: what is read, what has priority, and the message about a wrong value."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site

from tutormax.checks import check_environment
from tutormax.environment import Environment
from tutormax.secret_key import stored_secret_key

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / ".env.example"

# Every setting that comes from a variable, as one JSON text.
_SHOW = """
import json
from django.conf import settings
names = [name for name in dir(settings) if name.isupper()]
print(json.dumps({name: getattr(settings, name) for name in names}, default=str))
"""


def manage(data_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these variables and no others of ours."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(data_dir),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def settings_of(data_dir: Path, **environment: str) -> dict[str, Any]:
    """All settings that the site would have with these variables."""
    done = manage(data_dir, "shell", "--no-imports", "-c", _SHOW, **environment)
    assert done.returncode == 0, done.stderr
    # Some settings hold objects, shown with their address in memory.
    return json.loads(re.sub(r" at 0x[0-9a-f]+", "", done.stdout))


# --- Wrong values ------------------------------------------------------------------------------

# Any text is valid for these.
TEXTS = {"SECRET_KEY", "ENVIRONMENT_NAME", "REDIS_SENTINEL_PASSWORD"}
# For these, some values are valid that are wrong for others, or there are more findings.
SPECIAL = {
    "DATA_DIR": "/dev/null/x",
    "DATABASE_URL": "mysql://user:canary@localhost/x",
    "REDIS_URL": "canary@localhost:6379",
}
WRONG = dict.fromkeys(set(site.ENVIRONMENT.variables) - TEXTS, "no such value!") | SPECIAL


@pytest.mark.processes
def test_every_wrong_value_is_told_by_name_with_a_hint_and_without_a_trace(tmp_path):
    done = manage(tmp_path, "check", **WRONG)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr
    findings = [line for line in done.stderr.splitlines() if "(tutormax.E" in line]
    assert sorted(finding.split(") ")[1].split()[0] for finding in findings) == sorted(WRONG)
    assert done.stderr.count("HINT:") == len(WRONG)


@pytest.mark.processes
def test_an_empty_variable_counts_as_not_set(tmp_path):
    empty = dict.fromkeys(WRONG.keys() | TEXTS, "") | {"DATA_DIR": str(tmp_path)}
    assert manage(tmp_path, "check", **empty).returncode == 0


def test_a_body_that_could_never_find_room_is_told(settings):
    settings.MAX_BUFFERED_BYTES = settings.MAX_BODY_BYTES - 1
    assert [finding.id for finding in check_environment()] == ["tutormax.E003"]


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment of one variable, `X`."""

    def make(value: str) -> Environment:
        monkeypatch.setenv("X", value)
        return Environment(tmp_path / "none", must_exist=False)

    return make


@pytest.mark.parametrize(
    ("value", "number"),
    [("5", 5), ("10", 10), (" 7 ", 7), ("4", None), ("11", None), ("6.5", None)],
)
def test_a_number_is_whole_and_within_its_bounds(environment, value, number):
    given = environment(value)
    assert given.number("X", 9, least=5, most=10) == (9 if number is None else number)
    assert [problem.must_be for problem in given.problems] == (
        ["a whole number from 5 to 10"] if number is None else []
    )


@pytest.mark.parametrize("value", ["true", "ON", "Yes", "1"])
def test_a_flag_is_on(environment, value):
    assert environment(value).flag("X", default=False) is True


@pytest.mark.parametrize("value", ["false", "OFF", "No", "0"])
def test_a_flag_is_off(environment, value):
    assert environment(value).flag("X", default=True) is False


def test_a_choice_is_taken_in_any_case_and_nothing_else(environment):
    assert environment("WARNING").choice("X", "info", ("info", "warning")) == "warning"
    given = environment("loud")
    assert given.choice("X", "info", ("info", "warning")) == "info"
    assert given.problems[0].must_be == "one of info, warning"


@pytest.mark.parametrize(
    ("value", "path"),
    [("/api", "/api"), ("api/", "/api"), ("/v1/intake/", "/v1/intake"), ("~x.y_z-1", "/~x.y_z-1")],
)
def test_a_prefix_has_a_slash_in_front_and_none_behind(environment, value, path):
    given = environment(value)
    assert given.path("X", "/default") == path
    assert given.problems == []


@pytest.mark.parametrize("value", ["/", "/a//b", "/a b", "/<x>", "/a?b", "/ä", "/a%20b", "/a\\b"])
def test_a_text_that_is_not_a_path_leaves_the_default_and_a_problem(environment, value):
    given = environment(value)
    assert given.path("X", "/default") == "/default"
    assert [problem.variable for problem in given.problems] == ["X"]


@pytest.mark.parametrize(
    "value",
    ["192.0.2.1", "localhost", "::", "::1", "fe80::1", "::ffff:127.0.0.1", "a-b.example.com"],
)
def test_a_name_or_an_address_can_be_listened_on(environment, value):
    given = environment(value)
    assert given.host("X", "default") == value
    assert given.problems == []


@pytest.mark.parametrize("value", ["a..b", ".a", "http://a", "a:80:", "[::1]", "a/b", "a" * 64])
def test_a_text_that_is_not_a_host_leaves_the_default_and_a_problem(environment, value):
    given = environment(value)
    assert given.host("X", "default") == "default"
    assert [problem.variable for problem in given.problems] == ["X"]


@pytest.mark.parametrize("value", ["*", "example.com", ".example.com", "[::1]", "a, b,, 127.0.0.1"])
def test_allowed_hosts_are_names_as_django_compares_them(environment, value):
    given = environment(value)
    hosts = given.allowed_hosts("X", ["default"])
    assert hosts == [word.strip() for word in value.split(",") if word.strip()]
    assert given.problems == []


@pytest.mark.parametrize("value", ["a:80", "https://a", "a/", "*.example.com", "::1", "a;b"])
def test_a_host_that_no_header_can_match_is_a_problem(environment, value):
    given = environment(value)
    assert given.allowed_hosts("X", ["default"]) == ["default"]
    assert [problem.variable for problem in given.problems] == ["X"]


@pytest.mark.parametrize("value", ["http://a", "https://a.b:8443", "http://[::1]:3000, http://b"])
def test_origins_have_a_scheme_and_a_host_and_perhaps_a_port(environment, value):
    given = environment(value)
    assert given.origins("X", ["default"]) == value.split(", ")
    assert given.problems == []


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "a",
        "ftp://a",
        "http://",
        "http://a/",
        "http://a?b",
        "http://[::1",
        "http://a:x",
        "null",
    ],
)
def test_a_text_that_is_not_an_origin_is_a_problem(environment, value):
    given = environment(value)
    assert given.origins("X", ["default"]) == ["default"]
    assert [problem.variable for problem in given.problems] == ["X"]


@pytest.mark.parametrize(
    "value",
    ["postgresql://u:p@h:5432/n", "postgres://u:p%40ss@h/n", "sqlite:////srv/x.sqlite3"],
)
def test_a_database_address_is_read(environment, value):
    given = environment(value)
    assert given.database("X", "sqlite:///default")["NAME"] in ("n", "/srv/x.sqlite3")
    assert given.problems == []


@pytest.mark.parametrize(
    "value", ["mysql://h/n", "h/n", "postgresql://h:x/n", "postgresql://h", "sqlite://"]
)
def test_a_text_that_is_not_a_database_address_is_a_problem(environment, value):
    given = environment(value)
    assert given.database("X", "sqlite:///default")["NAME"] == "default"
    assert [problem.variable for problem in given.problems] == ["X"]


@pytest.mark.parametrize(
    "value",
    ["redis://localhost:x", "redis://localhost:99999", "redis://[::1", "redis://h?no_option=1"],
)
def test_a_store_address_that_could_never_be_opened_is_told(settings, value):
    settings.REDIS_URL = value
    assert [finding.id for finding in check_environment()] == ["tutormax.E002"]
    assert value not in str(check_environment())


def test_the_embedded_store_has_no_replica_to_promise(settings):
    settings.INGESTION_DURABILITY = "replicated"
    assert [finding.id for finding in check_environment()] == ["tutormax.E009"]


def test_sentinels_need_the_name_of_the_primary(settings):
    settings.REDIS_URL, settings.REDIS_SENTINELS = "redis:///0", [("localhost", 26379)]
    assert [finding.id for finding in check_environment()] == ["tutormax.E008"]


@pytest.mark.parametrize("value", ["unix:///run/redis.sock", "redis://localhost:6379/1"])
def test_an_address_that_reaches_no_cluster_is_told(settings, value):
    settings.REDIS_URL, settings.REDIS_CLUSTER = value, True
    assert [finding.id for finding in check_environment()] == ["tutormax.E007"]


def test_sentinels_and_a_cluster_need_an_address_and_exclude_each_other(settings):
    settings.REDIS_SENTINELS, settings.REDIS_CLUSTER = [("localhost", 26379)], True
    assert [finding.id for finding in check_environment()] == ["tutormax.E005", "tutormax.E006"]


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a:26379", [("a", 26379)]),
        ("a.example.com:1, [::1]:2", [("a.example.com", 1), ("::1", 2)]),
    ],
)
def test_addresses_are_hosts_with_ports(environment, value, addresses):
    assert environment(value).addresses("X", ()) == addresses


@pytest.mark.parametrize("value", ["a", "a:", "a:x", "redis://a:1", "a:1/0", ":1", "a:99999"])
def test_a_text_that_is_not_an_address_is_a_problem(environment, value):
    read = environment(value)
    assert read.addresses("X", ()) == []
    assert [problem.variable for problem in read.problems] == ["X"]


# --- The file ----------------------------------------------------------------------------------


@pytest.mark.processes
def test_the_file_is_read_and_the_process_wins(tmp_path):
    file = tmp_path / "portal.env"
    file.write_text(
        "\ufeffexport PORT=8123\n# a comment\nAPI_PREFIX='/quoted'\nLOG_LEVEL=ERROR\n"
        'SECRET_KEY=ab#cd\nENVIRONMENT_NAME="Test #2"\n',
        encoding="utf-8",
    )
    found = settings_of(tmp_path, ENV_FILE=str(file), LOG_LEVEL="WARNING")
    assert found["PORT"] == 8123
    assert found["API_PREFIX"] == "/quoted"
    assert found["LOG_LEVEL"] == "WARNING"
    assert (found["SECRET_KEY"], found["ENVIRONMENT_NAME"]) == ("ab#cd", "Test #2")


@pytest.mark.parametrize("content", [None, b"X=\xff\n"], ids=["none", "not UTF-8"])
def test_a_named_file_that_cannot_be_read_is_a_problem(tmp_path, content):
    file = tmp_path / "portal.env"
    if content is not None:
        file.write_bytes(content)
    problems = Environment(file, must_exist=True).problems
    assert [problem.variable for problem in problems] == ["ENV_FILE"]


@pytest.mark.parametrize(
    "line",
    [
        "SECRET_KEY = canary",
        "SECRET_KEY =canary",
        "SECRET_KEY: canary",
        " SECRET_KEY=canary",
        "SECRET_KEY='canary",
        "SECRET_KEY=\"canary'",
        "set SECRET_KEY=canary",
        "SECRET-KEY=canary",
        "SECRET_KEY=can\0ary",
        "canary",
        "SECRET_KEY=canary\nPORT=8001\nSECRET_KEY=canary",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_line_that_is_not_understood_is_told_by_its_number(tmp_path, monkeypatch, line, end):
    monkeypatch.delenv("SECRET_KEY", raising=False)
    file = tmp_path / "portal.env"
    file.write_bytes(f"# first\nPORT=8000\n\n  \n{line}\n".replace("\n", end).encode())
    problems = Environment(file, must_exist=True).problems
    number = 7 if "PORT" in line else 5
    assert f"portal.env, line {number}, must be" in " ".join(
        f"{one.variable} must be {one.must_be}" for one in problems
    )
    assert "canary" not in repr(problems)
    assert "SECRET_KEY" not in os.environ


@pytest.mark.processes
def test_a_line_that_is_not_understood_stops_the_start_and_shows_no_value(tmp_path):
    file = tmp_path / "portal.env"
    file.write_text("REDIS_ULR=redis://canary\nSECRET_KEY = canary\n")
    done = manage(tmp_path / "var", "queue_stats", ENV_FILE=str(file))
    assert done.returncode == 1
    assert "portal.env, line 2, must be NAME=value" in done.stderr
    assert "portal.env, line 1, sets REDIS_ULR, which is not a setting" in done.stderr
    assert "REDIS_URL" in done.stderr
    assert "canary" not in done.stderr + done.stdout
    assert not (tmp_path / "var" / "store.log").exists()


def test_no_file_is_needed_if_none_is_named(tmp_path):
    assert Environment(tmp_path / ".env", must_exist=False).problems == []
    (tmp_path / ".env").mkdir()
    problems = Environment(tmp_path / ".env", must_exist=False).problems
    assert [problem.variable for problem in problems] == [".env"]


def example_lines() -> dict[str, str]:
    """The variables that the example names, with their values."""
    lines = EXAMPLE.read_text().splitlines()
    pairs = [line[1:].partition("=") for line in lines if line[:1] == "#" and line[1:2] != " "]
    assert all(separator for _, separator, _ in pairs)
    assert len({name for name, *_ in pairs}) == len(pairs)
    return {name: value for name, _, value in pairs}


def test_the_example_names_every_variable_and_no_other():
    assert example_lines().keys() == set(site.ENVIRONMENT.variables)


@pytest.mark.processes
def test_the_example_has_the_true_defaults(tmp_path):
    file = tmp_path / "portal.env"
    lines = [f"{name}={value}" for name, value in example_lines().items()]
    file.write_text("\n".join(lines))
    all_uncommented = settings_of(tmp_path, ENV_FILE=str(file))
    del all_uncommented["ENVIRONMENT"]
    as_shipped = settings_of(tmp_path)
    assert all_uncommented == {name: as_shipped[name] for name in all_uncommented}


# --- Production --------------------------------------------------------------------------------

PRODUCTION = {
    "SECRET_KEY": "zq0-4ioV7bW9aLrT2xYcNmKdPfGhJsEu8RkB6vD1wQe3yXtZ5n",
    "ALLOWED_HOSTS": "portal.example.com",
    "HTTPS": "true",
    "CSRF_TRUSTED_ORIGINS": "https://portal.example.com",
    "REDIS_URL": "rediss://:secret@redis.example.com:6380/0",
    "DATABASE_URL": "postgresql://portal:secret@db.example.com:5432/portal",
}


@pytest.mark.processes
def test_the_deployment_check_is_clean_with_production_settings(tmp_path):
    done = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


@pytest.mark.processes
def test_the_deployment_check_tells_what_is_missing(tmp_path):
    lacking = PRODUCTION | {"SECRET_KEY": "", "REDIS_URL": "", "HTTPS": ""}
    lacking |= {"OPEN_WITHOUT_KEY": "true", "DEBUG": "true"}
    done = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **lacking)
    assert done.returncode == 1
    for finding in ("tutormax.W001", "tutormax.W002", "tutormax.W003"):
        assert f"({finding})" in done.stderr
    # Django's own findings: no HTTPS, insecure cookies, DEBUG.
    for finding in ("security.W008", "security.W012", "security.W016", "security.W018"):
        assert f"({finding})" in done.stderr


# --- What is made by itself --------------------------------------------------------------------


def test_the_key_that_signs_sessions_is_made_once_and_for_its_owner_alone(tmp_path):
    key = stored_secret_key(tmp_path)
    assert len(key) >= 50
    assert stored_secret_key(tmp_path) == key
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_half_a_key_that_a_full_disk_left_is_made_anew(tmp_path):
    (tmp_path / "secret_key").touch(mode=0o644)
    key = stored_secret_key(tmp_path)
    assert len(key) >= 50
    assert stored_secret_key(tmp_path) == key
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


@pytest.mark.processes
def test_a_relative_folder_is_in_the_project_wherever_a_command_is_called(tmp_path):
    show = "from tutormax.settings import *; print(DATA_DIR, DATABASES['default']['NAME'])"
    folder = f"../{tmp_path.name}-nowhere"
    done = subprocess.run(
        [sys.executable, "-c", show],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "DATA_DIR": f"var/{folder}", "DATABASE_URL": "sqlite:///x.db"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    made = Path(done.stdout.split()[0])
    assert done.stdout.split() == [f"{ROOT}/var/{folder}", f"{ROOT}/x.db"]
    shutil.rmtree(made)


@pytest.mark.processes
def test_the_web_server_by_itself_does_not_start_with_a_wrong_value(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tutormax.web"],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(tmp_path),
            "MAX_BODY_BYTES": "16 MB",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "MAX_BODY_BYTES must be a whole number" in done.stderr


def test_if_the_key_cannot_be_kept_there_is_one_for_this_process(tmp_path):
    assert len(stored_secret_key(tmp_path / "none")) >= 50


@pytest.mark.processes
def test_the_api_is_below_the_prefix(tmp_path):
    code = "from ingestion.api.views import endpoints; print(*endpoints().values())"
    done = manage(tmp_path, "shell", "--no-imports", "-c", code, API_PREFIX="v1/intake/")
    addresses = done.stdout.split()
    assert {"/v1/intake/tutors", "/v1/intake/queue/stats", "/v1/intake/feedback/batch"} <= set(
        addresses
    )
    assert not any(address.startswith("/api") for address in addresses)
