"""django-q2's: settings and tasks in one."""

from __future__ import annotations

import os
import time

SECRET_KEY = "bench"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_q"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "bench_django_q"}}
USE_TZ = True
LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"django-q": {"level": "WARNING"}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
Q_CLUSTER = {
    "name": "bench",
    "workers": 2,
    "orm": "default",
    "bulk": 10,
    "poll": 0.2,
    "save_limit": 0,
    "timeout": 60,
    "retry": 120,
    "catch_up": False,
}


def nothing() -> None:
    """Nothing."""


def stamp() -> None:
    """Notes when it was begun."""
    begin = time.time()
    with open(os.environ["BENCH_STAMPS"], "a") as file:
        file.write(f"{begin!r}\n")
