"""The product's settings over a data folder of this test run; no `.env` or shell setting reaches in."""

import atexit
import os
import shutil
import tempfile

_data_dir = tempfile.mkdtemp(prefix="tutormax-tests-")
atexit.register(shutil.rmtree, _data_dir, ignore_errors=True)
os.environ["DATA_DIR"] = _data_dir

from tutormax.settings import *  # noqa: E402, F403

# Static files come straight from the apps: collecting them is tried where the server is started.
STATIC_ROOT.mkdir()  # noqa: F405
WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"] = {  # noqa: F405
    "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
}
