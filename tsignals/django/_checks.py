"""System checks: what ``manage.py check`` says of the settings.

Threads
    Called by Django on the thread that checks. They read settings and connect to nothing.
"""

from collections.abc import Iterator, Mapping
from typing import TypedDict

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from tsignals.django import _settings


class DatabaseSettings(TypedDict, total=False):
    """What the setting ``DATABASES`` says of one."""

    ENGINE: str
    OPTIONS: Mapping[str, object] | None
    CONN_MAX_AGE: int | None


def check_settings(**named: object) -> list[CheckMessage]:
    """``tsignals.E001``: the setting ``TSIGNALS`` is not what a pool can be made from."""
    hint = f"It is a dictionary with any of {', '.join(_settings.ARGUMENTS)}."
    return [Error(text, hint=hint, id="tsignals.E001") for text in _settings.wrong().values()]


def check_databases(**named: object) -> list[CheckMessage]:
    """``tsignals.W001``: a connection pool too small. ``tsignals.W002``: ``CONN_MAX_AGE``."""
    return [
        message
        for alias, database in settings.DATABASES.items()
        for check in (_small_pool, _old_connections)
        for message in check(alias, database)
    ]


def _small_pool(alias: str, database: DatabaseSettings) -> Iterator[CheckMessage]:
    pool = (database.get("OPTIONS") or {}).get("pool")
    if not pool or "postg" not in database.get("ENGINE", ""):
        return
    options = pool if isinstance(pool, dict) else {}
    # As psycopg_pool has it: without a max_size it does not grow.
    size = options.get("max_size") or options.get("min_size", 4)
    workers = _settings.max_workers()
    if isinstance(size, int) and size <= workers + 1:  # psycopg_pool refuses anything else
        yield Warning(
            f"The connection pool of database {alias!r} has {size} connections, for {workers} "
            "workers of tsignals and the threads that send.",
            hint=(
                f'Set OPTIONS["pool"]["max_size"] to more than {workers} plus the number of '
                'threads that send, or TSIGNALS["MAX_WORKERS"] to less. A thread that waits for '
                "a delivery inside a transaction keeps its connection from the worker."
            ),
            id="tsignals.W001",
        )


def _old_connections(alias: str, database: DatabaseSettings) -> Iterator[CheckMessage]:
    age = database.get("CONN_MAX_AGE", 0)
    if age != 0:
        yield Warning(
            f"CONN_MAX_AGE of database {alias!r} is {age!r}: each thread that has used it keeps a "
            "connection of its own, the thread-sensitive one of asgiref and each server's too.",
            hint=(
                "With many threads set it to 0, or use the connection pool of psycopg. Workers of "
                "the default pool keep theirs while they are busy, whatever it is, and close them "
                "when they are not."
            ),
            id="tsignals.W002",
        )
