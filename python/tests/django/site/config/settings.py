"""A site of django-tenants as small as can be. The database and what differs between runs come from the environment."""

import json
import os
from importlib.util import find_spec

from django import VERSION

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
LANGUAGE_CODE = "en"
ROOT_URLCONF = "config.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SHARED_APPS = ["django_tenants", "customers", "django.contrib.contenttypes", "django.contrib.auth"]
TENANT_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop", "tenant_q.django"]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
if VERSION < (6, 0) and find_spec("django_tasks"):
    INSTALLED_APPS.append("django_tasks")

TENANT_MODEL = "customers.Client"
TENANT_DOMAIN_MODEL = "customers.Domain"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware"]

DATABASE = {
    "NAME": os.environ["SITE_DATABASE"],
    "USER": "site",
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ.get("PGPORT", ""),
}
DATABASES = {
    "default": {
        **DATABASE,
        "ENGINE": "django_tenants.postgresql_backend",
        "TEST": {"TEMPLATE": os.environ.get("SITE_TEMPLATE")},
        **json.loads(os.environ.get("SITE_CONNECTION", "{}")),
    },
    "elsewhere": {
        **DATABASE,
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("SITE_ELSEWHERE", DATABASE["NAME"]),
        "TEST": {"MIRROR": "default"},
    },
}

TASKS = {
    "default": {"BACKEND": "tenant_q.django.Backend", "QUEUES": ["default", "mail"]},
    "once": {"BACKEND": "tenant_q.django.Backend", "OPTIONS": {"max_attempts": 1}},
    "twice": {"BACKEND": "tenant_q.django.Backend", "OPTIONS": {"max_attempts": 2, "retry": 0}},
    "any": {"BACKEND": "tenant_q.django.Backend", "QUEUES": []},
}
TENANT_Q = {
    "MODULES": ["tasks", "jobs"],
    "TIME_ZONE": "time_zone",
    "LANGUAGE": "customers.zones.language_of",
    **json.loads(os.environ.get("SITE_TASKS", "{}")),
}
