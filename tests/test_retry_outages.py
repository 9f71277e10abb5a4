"""``retry=`` against what is really out of order for a while: a mail server, a port, a database."""

import contextlib
import socket
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from helpers import TIMEOUT, Running, wait_until
from pools import told
from servers import postgresql

from tsignals import Retry, Signal, WorkerPool

SOON: dict[str, Any] = {"attempts": None, "timeout": None, "wait_max": 0.05, "wait_jitter": 0.05}


@pytest.fixture
def signal() -> Iterator[Signal]:
    with WorkerPool(2) as pool:
        yield Signal(["number"], name="order_paid", executor=pool)


@contextlib.contextmanager
def silent_server() -> Iterator[tuple[socket.socket, int]]:
    """A socket that does not listen yet, and its port, which is nobody else's until it does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server, server.getsockname()[1]


def test_mail_server_that_is_away_and_then_busy_gets_each_mail_once(signal: Signal) -> None:
    controllers = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")
    import smtplib

    accepted, refused = list[str](), list[str]()

    class Busy:
        """Refuses each mail once."""

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            number = envelope.content.decode().strip().rpartition(" ")[2]
            if number not in refused:
                refused.append(number)
                return "451 busy, try later"
            accepted.append(number)
            return "250 OK"

    tried = list[int]()

    def send_receipt(number: int, **named: Any) -> None:
        tried.append(number)
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "shop@example.org", "you@example.org", "Paid"
        mail.set_content(f"receipt {number}")
        with smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT) as server:
            server.send_message(mail)

    def passes(error: Exception) -> bool:
        busy = isinstance(error, smtplib.SMTPResponseException) and 400 <= error.smtp_code < 500
        return busy or isinstance(error, ConnectionError)

    signal.connect(send_receipt, retry=Retry(passes, **SOON))
    with silent_server() as (listening, port), told() as hears:

        class Controller(controllers.Controller):  # type: ignore[misc, name-defined]
            def _create_server(self) -> Any:
                return self.loop.create_server(self._factory_invoker, sock=listening)

        deliveries = [signal.send_async(None, number=number) for number in range(5)]
        wait_until(lambda: len(tried) > 5)  # nobody is there
        server = Controller(Busy(), hostname="127.0.0.1", port=port, ready_timeout=TIMEOUT)
        server.start()
        try:
            assert all(each.wait(TIMEOUT) for each in deliveries)
            for each in deliveries:
                each.results(0)
        finally:
            server.stop()
    assert hears.failures == []
    assert sorted(accepted) == sorted(refused) == ["0", "1", "2", "3", "4"]


def test_server_that_comes_back_is_found(signal: Signal) -> None:
    heard = list[bytes]()
    tried = list[int]()

    def asks(number: int, **named: Any) -> bytes:
        tried.append(number)
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.sendall(b"%d" % number)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(100)

    signal.connect(asks, retry=Retry(ConnectionError, **SOON))
    with silent_server() as (server, port):
        deliveries = signal.send_async(None, number=7)
        wait_until(lambda: len(tried) > 2)
        server.settimeout(TIMEOUT)
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(100))
                connection.sendall(b"yes")

        serving = Running(serve)
        assert deliveries.results(TIMEOUT)[0][1] == b"yes"
        serving.result()
    assert heard == [b"7"]


def test_database_that_is_locked_for_a_while_has_all_rows_once(
    signal: Signal, tmp_path: Path
) -> None:
    file = tmp_path / "books"
    with contextlib.closing(sqlite3.connect(file)) as books:
        books.execute("create table entry (number)")
    locked = threading.Event()

    def book(number: int, **named: Any) -> None:
        with contextlib.closing(sqlite3.connect(file, timeout=0)) as books:
            try:
                with books:
                    books.execute("insert into entry values (?)", (number,))
            except sqlite3.OperationalError:
                locked.set()
                raise

    signal.connect(book, retry=Retry(sqlite3.OperationalError, **SOON))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as owner, told() as hears:
        owner.execute("begin exclusive")
        deliveries = [signal.send_async(None, number=number) for number in range(20)]
        assert locked.wait(TIMEOUT)
        owner.execute("commit")
        assert all(each.wait(TIMEOUT) for each in deliveries)
        rows = owner.execute("select number from entry order by number").fetchall()
    assert hears.failures == []
    assert rows == [(number,) for number in range(20)]


def test_postgresql_that_breaks_off_and_comes_back_has_all_rows_once(signal: Signal) -> None:
    with postgresql() as books, contextlib.ExitStack() as at_end:
        import psycopg

        with books.connect() as owner:
            owner.execute("CREATE TABLE entry (number int PRIMARY KEY)")
        broken, here = list[int](), threading.local()

        def book(number: int, **named: Any) -> None:
            """Keeps a connection for each worker, as programs do."""
            try:
                if getattr(here, "books", None) is None:
                    here.books = books.connect()
                    at_end.callback(here.books.close)
                here.books.execute("INSERT INTO entry VALUES (%s)", (number,))
            except psycopg.OperationalError:
                broken.append(number)
                here.books = None
                raise

        signal.connect(book, retry=Retry(psycopg.OperationalError, **SOON))
        deliveries = [signal.send_async(None, number=number) for number in range(10)]
        assert all(each.wait(TIMEOUT) for each in deliveries)
        with replace(books, name="postgres").connect() as owner, told() as hears:
            owner.execute(f"ALTER DATABASE {books.name} ALLOW_CONNECTIONS false")
            owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (books.name,),
            )
            deliveries += [signal.send_async(None, number=number) for number in range(10, 30)]
            wait_until(lambda: len(set(broken)) == 20)
            assert signal.executor is not None
            assert signal.executor.stats().completed == 10  # type: ignore[attr-defined]
            owner.execute(f"ALTER DATABASE {books.name} ALLOW_CONNECTIONS true")
            assert all(each.wait(TIMEOUT) for each in deliveries)
        assert hears.failures == []
        with books.connect() as owner:
            rows = owner.execute("SELECT number FROM entry ORDER BY number").fetchall()
    assert rows == [(number,) for number in range(30)]
