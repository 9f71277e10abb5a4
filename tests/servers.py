"""Servers that tests need: found, else started, else the test is skipped with the reason.

PostgreSQL is what ``TSIGNALS_TEST_POSTGRESQL`` says, a URL (one that does not answer is an error:
somebody wanted it), else a server on the local socket or on 127.0.0.1:5432 that lets us create
databases, else one that we start ourselves where its programs are installed, in a directory that
goes with this process. Each ``postgresql()`` is a new database in it, dropped at the end.
"""

import atexit
import contextlib
import functools
import getpass
import glob
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

TIMEOUT = 60
PROGRAMS = "/usr/lib/postgresql/*/bin"
"""Where Debian has ``initdb`` and ``pg_ctl``, which are not on the path."""


@dataclass(frozen=True)
class Postgresql:
    """A database of a server; ``host`` is a name, or the directory of its socket."""

    host: str
    port: int
    user: str
    password: str
    name: str

    @property
    def url(self) -> str:
        return self.url_for("postgresql")

    def url_for(self, scheme: str) -> str:
        """The URL, for SQLAlchemy with its driver: ``postgresql+psycopg``."""
        who = quote(self.user, safe="")
        if self.password:
            who += f":{quote(self.password, safe='')}"
        where = f"{quote(self.host, safe='')}:{self.port}"
        if not self.host.startswith("/"):
            return f"{scheme}://{who}@{where}/{quote(self.name)}"
        return f"{scheme}://{who}@/{quote(self.name)}?host={quote(self.host)}&port={self.port}"

    def connect(self) -> Any:
        """A connection of psycopg's in autocommit, for the tests' own use; closed by ``with``."""
        import psycopg

        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password or None,
            dbname=self.name,
            autocommit=True,
            connect_timeout=10,
        )

    def value(self, query: str, *arguments: Any) -> Any:
        """The first value of the first row that ``query`` gives."""
        with self.connect() as connection:
            row = connection.execute(query, arguments).fetchone()
            return row[0] if row else None

    def connections(self) -> int:
        """How many connections the server has to this database, the one that asks left out."""
        return int(
            self.value(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def do_without(reason: str) -> NoReturn:
    """Skip the test; fail it where ``TSIGNALS_TEST_SERVERS`` is ``required``."""
    if os.environ.get("TSIGNALS_TEST_SERVERS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def postgresql(*, two_phase: bool = False) -> Iterator[Postgresql]:
    """A new, empty database; ``two_phase``: on a server that knows PREPARE TRANSACTION."""
    found = server(two_phase)
    if isinstance(found, str):
        do_without(found)
    name = f"tsignals_{os.getpid()}_{secrets.token_hex(4)}"
    with found.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield replace(found, name=name)
    finally:
        with found.connect() as connection:
            # FORCE: a test that failed may have left connections.
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@functools.cache
def server(two_phase: bool = False) -> Postgresql | str:
    """The server, or why there is none."""
    # ImportError: psycopg is there, and neither its wheel's libpq nor the system's is.
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed, or has no libpq"
    given = os.environ.get("TSIGNALS_TEST_POSTGRESQL")
    candidates = [parsed(given)] if given else list(local())
    for candidate in candidates:
        if given:
            usable = True
        else:
            try:
                usable = candidate.value(
                    "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
                )
            except Exception:
                continue
        if usable and not (two_phase and prepared(candidate) == 0):
            return candidate
    if given:
        return "the PostgreSQL server has max_prepared_transactions = 0"
    return started()


def prepared(candidate: Postgresql) -> int:
    return int(candidate.value("SHOW max_prepared_transactions"))


def parsed(url: str) -> Postgresql:
    parts = urlsplit(url)
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return Postgresql(
        unquote(parts.hostname or "") or options.get("host", "127.0.0.1"),
        parts.port or int(options.get("port", 5432)),
        unquote(parts.username or "") or options.get("user", getpass.getuser()),
        unquote(parts.password or "") or options.get("password", ""),
        unquote(parts.path.lstrip("/")) or "postgres",
    )


def local() -> Iterator[Postgresql]:
    sockets = [d for d in ("/var/run/postgresql", "/tmp") if os.path.exists(f"{d}/.s.PGSQL.5432")]
    for host in [*sockets, "127.0.0.1"]:
        for user in dict.fromkeys(["postgres", getpass.getuser()]):
            yield Postgresql(host, 5432, user, "", "postgres")


@functools.cache
def started() -> Postgresql | str:
    """A server of our own, which ends with this process; or why there is none."""
    found = [os.path.dirname(path) for path in sorted(glob.glob(f"{PROGRAMS}/pg_ctl"))]
    on_path = shutil.which("pg_ctl")
    programs = found[-1] if found else os.path.dirname(os.path.realpath(on_path or ""))
    if not found and not on_path:
        return "no PostgreSQL server answers, and none is installed"
    directory = tempfile.mkdtemp(prefix="tsignals-pg-")  # short: so must be a socket's path
    # No pipes: they would stay open in the server, and their end never come.
    account: dict[str, Any] = {"cwd": directory, "timeout": TIMEOUT}
    account.update(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if os.name == "posix" and os.geteuid() == 0:  # as which PostgreSQL refuses to run
        import pwd

        try:
            entry = pwd.getpwnam("postgres")
        except KeyError:
            os.rmdir(directory)
            return "no PostgreSQL server answers, and there is no user 'postgres' to start one"
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        account.update(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
    data, log = f"{directory}/data", f"{directory}/log"
    control = [f"{programs}/pg_ctl", "-D", data]

    def end() -> None:
        subprocess.run([*control, "stop", "-m", "immediate"], **account)
        shutil.rmtree(directory, ignore_errors=True)

    settings = f"-k {directory} -c listen_addresses= -c fsync=off -c max_prepared_transactions=10"
    for command in (
        [f"{programs}/initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "-N"],
        [*control, "-l", log, "-w", "-o", settings, "start"],
    ):
        done = subprocess.run(command, **account)
        if done.returncode:
            end()
            return f"no PostgreSQL server answers, and {os.path.basename(command[0])} fails"
    atexit.register(end)
    return Postgresql(directory, 5432, "postgres", "", "postgres")
