#!/usr/bin/env python3
"""Django's manage.py, with the settings of this example in it: the whole project is this file and app.py."""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    # With daphne in it, `manage.py runserver` is an ASGI server. Plain runserver would stream nothing; see README.md.
    INSTALLED_APPS=["daphne"],
    ASGI_APPLICATION="app.asgi",
    ROOT_URLCONF="app",
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DEBUG=True,
    SECRET_KEY="nothing in this example is signed",
    USE_TZ=True,
)

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
