"""A Django project with signals: an app, its settings, views. The tests and ``stress`` run it.

Settings are configured once in a process. ``configure`` does it for tests in this one, all with
the same: SQLite (WAL) in two files, and PostgreSQL where there is a server. ``environment`` is for
a process of its own, with one of them as the default database.
"""

import atexit
import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SETTINGS = "TSIGNALS_TEST_DJANGO"
"""The environment variable with settings, as JSON."""


def sqlite(path: Path) -> dict[str, Any]:
    """A database in a file, with the journal that lets others read while one writes."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            "timeout": 60,
            "transaction_mode": "IMMEDIATE",
        },
    }


def postgresql(server: Any) -> dict[str, Any]:
    """What ``servers.postgresql()`` gives, as Django wants to know it."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
        "NAME": server.name,
        "OPTIONS": {"options": "-c synchronous_commit=off"},  # nothing here outlives a crash
    }


def environment(directory: Path, database: dict[str, Any], **settings: Any) -> dict[str, str]:
    """The environment in which ``django.setup()`` finds this project, with that database."""
    found = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    return {
        "DJANGO_SETTINGS_MODULE": "django_project.settings",
        "PYTHONPATH": os.pathsep.join(found),
        SETTINGS: json.dumps({"DATABASES": {"default": database}, **settings}),
    }


@functools.cache
def configure() -> None:
    """Set Django up in this process, without what the app then does to the whole of it."""
    import django
    import pytest
    import servers

    import tsignals

    directory = Path(tempfile.mkdtemp(prefix="tsignals-django-"))
    stack = contextlib.ExitStack()
    databases = {"default": sqlite(directory / "one"), "other": sqlite(directory / "two")}
    with contextlib.suppress(pytest.skip.Exception):
        databases["postgres"] = postgresql(stack.enter_context(servers.postgresql()))
    atexit.register(stack.close)
    os.environ[SETTINGS] = json.dumps({"DATABASES": databases, "DEBUG": True})
    os.environ["DJANGO_SETTINGS_MODULE"] = "django_project.settings"
    try:
        django.setup()
        make_tables()
    finally:
        del os.environ[SETTINGS], os.environ["DJANGO_SETTINGS_MODULE"]
        tsignals.set_default_executor(None)
        tsignals.set_sync_runner(None)


def make_tables() -> None:
    """Make the tables of the app in every database."""
    from django.apps import apps
    from django.db import connections

    for connection in connections.all():
        with connection.schema_editor() as editor:
            for model in apps.get_app_config("shop").get_models():
                editor.create_model(model)
        connection.close()


@contextlib.contextmanager
def emptied() -> Iterator[None]:
    """The tables are empty at the start, and this thread has nothing open in the end."""
    from django.db import connections

    from .models import Order

    try:
        for alias in connections:
            Order.objects.using(alias).all().delete()
            connections[alias].close()
        yield
    finally:
        connections.close_all()
