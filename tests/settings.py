"""The product's settings over a data folder of this test run."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# No configuration of the machine may reach the tests. REDIS_URL is the most dangerous: the tests
# empty the store that they use.
for line in Path(__file__).parent.parent.joinpath(".env.example").read_text().splitlines():
    if line.startswith("#") and "=" in line:
        os.environ.pop(line.lstrip("#").partition("=")[0], None)
os.environ["ENV_FILE"] = os.devnull

_data_dir = tempfile.mkdtemp(prefix="tutormax-tests-")
atexit.register(shutil.rmtree, _data_dir, ignore_errors=True)
os.environ["DATA_DIR"] = _data_dir

# `tests.matrix` chooses another database and another program for the store.
if _database := os.environ.get("TESTS_DATABASE_URL"):
    os.environ["DATABASE_URL"] = _database

from ingestion import embedded  # noqa: E402
from tutormax.settings import *  # noqa: E402, F403

# Hashing a password is slow on purpose: half a second for each account of a test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Each client of a test has its own middleware, which would list all static files before its
# first request. Instead, a file is looked for when it is asked for.
WHITENOISE_AUTOREFRESH = True

# Processes that the tests start have their own database and store.
os.environ.pop("DATABASE_URL", None)
if _store := os.environ.get("TESTS_STORE"):
    embedded._binary = lambda: Path(_store)
