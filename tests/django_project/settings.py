"""The settings of the project, with those that the environment gives."""

import json
import os
from typing import Any

SECRET_KEY = "for tests"
ALLOWED_HOSTS = ["*"]
DATABASES: dict[str, Any] = {}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_project.apps.ShopConfig", "tsignals.django"]
ROOT_URLCONF = "django_project.urls"
ASGI_APPLICATION = "django_project.asgi.application"
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"

globals().update(json.loads(os.environ["TSIGNALS_TEST_DJANGO"]))
