"""The WSGI application, for any WSGI server behind a proxy that buffers bodies."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutormax.settings")

application = get_wsgi_application()
