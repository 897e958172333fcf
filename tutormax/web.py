"""The web server as a process of its own: `python -m tutormax.web`.

`manage.py serve` starts it beside the store; where that is run otherwise and `manage.py migrate`
has been called, it can be started by itself.
"""

import os

import django
from django.conf import settings
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels


def main() -> None:
    """Serve until told to stop; running requests are finished."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutormax.settings")
    django.setup()
    Granian(
        "tutormax.rsgi:application",
        address=settings.HOST,
        port=settings.PORT,
        interface=Interfaces.RSGI,
        websockets=False,
        workers=settings.WEB_WORKERS,
        # A worker that died is replaced, and one that does not end is ended.
        respawn_failed_workers=True,
        workers_kill_timeout=settings.SHUTDOWN_SECONDS,
        log_level=LogLevels.warning,
        log_dictconfig=settings.LOGGING,
    ).serve()


if __name__ == "__main__":
    main()
