"""Django saves under load: with a slow receiver after each commit, and without one.

    python -m stress django_saves                 10,000 on PostgreSQL, the receiver takes 5 ms
    python -m stress django_saves --database sqlite

Two runs of the same saves take turns, a hundred at a time: so whatever else the machine does falls
on both. In the end nothing is lost, every save was delivered once, the server has as many
connections as at the start, and the median save is not slower by more than ``LIMIT``.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stress._run import Breach, add_json, progress, python, write_report
from tsignals import get_default_executor

LIMIT = 0.002
"""Seconds that the median save may take longer because of the receiver."""

TURN = 100
WAIT = 600.0


@contextlib.contextmanager
def project(database: str, **settings: Any) -> Iterator[None]:
    """The tests' project, set up in this process, on a new database."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        import django_project  # type: ignore[import-not-found]

        if database == "sqlite":
            wanted = django_project.sqlite(directory / "db")
        else:
            import servers  # type: ignore[import-not-found]

            wanted = django_project.postgresql(stack.enter_context(servers.postgresql()))
        os.environ.update(django_project.environment(directory, wanted, **settings))
        import django

        django.setup()
        django_project.make_tables()
        yield
        from django.db import connections

        connections.close_all()


class Connected:
    """How many connections there are: says the server, or for SQLite, Django."""

    def __init__(self) -> None:
        from django.db.backends.signals import connection_created

        self.made: set[Any] = set()
        connection_created.connect(self.note)

    def note(self, connection: Any, **named: Any) -> None:
        self.made.add(connection)

    def now(self) -> int:
        from django.db import connection

        if connection.vendor != "postgresql":
            return sum(each.connection is not None for each in self.made)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            return int(cursor.fetchone()[0])


def measure(saves: int, seconds: float) -> dict[str, Any]:
    """Save so many with the receiver, and as many without."""
    from django.db import connection, transaction
    from django.db.models.signals import post_save
    from django_project.models import Order  # type: ignore[import-not-found]

    from tsignals.django import on_commit

    heard: list[int] = []

    @on_commit
    def slow(instance: Any, **named: Any) -> None:
        ends = time.perf_counter() + seconds
        assert Order.objects.filter(pk=instance.pk).exists()  # it sees what was committed
        time.sleep(max(0.0, ends - time.perf_counter()))
        heard.append(instance.pk)

    connection.ensure_connection()
    connected, pool = Connected(), get_default_executor()
    before, most = connected.now(), 0
    took: dict[bool, list[float]] = {True: [], False: []}
    saved: list[int] = []
    with progress(saves, "save", "saves") as bar:
        for _ in range(0, saves, TURN):
            for with_it in (True, False):
                if with_it:
                    post_save.connect(slow, sender=Order)
                for _ in range(TURN):
                    start = time.perf_counter()
                    with transaction.atomic():
                        order = Order.objects.create(name="an order")
                    took[with_it].append(time.perf_counter() - start)
                    if with_it:
                        saved.append(order.pk)
                post_save.disconnect(slow, sender=Order)
                most = max(most, connected.now())
            bar.update(TURN)
    if not pool.drain(WAIT):
        raise Breach("the pool does not come to rest")
    deadline = time.monotonic() + 60
    while connected.now() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    return {
        "saves": len(saved),
        "median with, ms": 1000 * statistics.median(took[True]),
        "median without, ms": 1000 * statistics.median(took[False]),
        "p99 with, ms": 1000 * statistics.quantiles(took[True], n=100)[-1],
        "p99 without, ms": 1000 * statistics.quantiles(took[False], n=100)[-1],
        "connections at the start": before,
        "connections at most": most,
        "connections at the end": connected.now(),
        "lost": len(set(saved) - set(heard)),
        "twice or unasked": len(heard) - len(set(heard) & set(saved)),
        "pool": pool.stats()._asdict(),
        "threads": threading.active_count(),
    }


def run(arguments: argparse.Namespace) -> int:
    with project(arguments.database, TSIGNALS={"MAX_WORKERS": arguments.workers}):
        import django

        print(f"{python()}, Django {django.__version__}, {arguments.database}")
        found = measure(arguments.saves, arguments.seconds)
    for name, value in found.items():
        print(f"{name:26}{value:.3f}" if isinstance(value, float) else f"{name:26}{value}")
    write_report(arguments.json, found)
    slower = (found["median with, ms"] - found["median without, ms"]) / 1000
    breaches = [
        *(["deliveries are lost"] if found["lost"] else []),
        *(["deliveries ran twice"] if found["twice or unasked"] else []),
        *(
            ["connections are left"]
            if found["connections at the end"] != found["connections at the start"]
            else []
        ),
        *([f"a save takes {1000 * slower:.3f} ms longer"] if slower > LIMIT else []),
    ]
    print("; ".join(breaches) or f"well: a save takes {1000 * slower:.3f} ms longer")
    return 1 if breaches else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "django_saves", help="Django saves with a slow receiver after each"
    )
    parser.add_argument("--saves", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=0.005, help="of a receiver: %(default)s")
    parser.add_argument("--workers", type=int, help="default: those of the default pool")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    add_json(parser)
    parser.set_defaults(run=run)
