"""The shop's server process: a WSGI application with a database, and signals between its parts.

An order is written in the request, and with it, in the same transaction, its audit record. A mail
and an entry in the customer's ledger follow in a pool once the transaction has committed; for one
that rolls back they do not. GET /metrics shows what Prometheus is to see. At SIGTERM the server
answers what it has begun, the pool works off what was committed, and the process ends. When its
standard input ends, it ends at once: whoever started it is gone.

Usage: python -m tsignals._demo.shop DATABASE WORKERS
"""

import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app
from sqlalchemy import Connection, Engine, ForeignKey, create_engine, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from waitress.server import create_server

from tsignals import WorkerPool, receiver, set_default_executor
from tsignals.http import request_finished
from tsignals.prometheus import instrument
from tsignals.sqlalchemy import install, on_commit, post_save
from tsignals.wsgi import SignalMiddleware

MAIL_SECONDS = 0.010

Identity = tuple[type, tuple[int], object]
"""An identity key of SQLAlchemy's: the class, the primary key, the identity token."""


class Base(DeclarativeBase):
    pass


class Order(Base):
    """An order; ``number`` is the customer's own, who may send it again."""

    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer: Mapped[str]
    cents: Mapped[int]


class Audit(Base):
    __tablename__ = "audits"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_number: Mapped[int]


class Mail(Base):
    __tablename__ = "mails"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_number: Mapped[int] = mapped_column(ForeignKey("orders.number"))


class Entry(Base):
    """One line of a customer's ledger: ``line`` counts from 1, ``balance`` is what is owed then."""

    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    line: Mapped[int]
    order_number: Mapped[int] = mapped_column(ForeignKey("orders.number"))
    balance: Mapped[int]


sessions = sessionmaker[Session]()
install(sessions)


@receiver(post_save, sender=Order)
def audit(instance: Order, session: Session, **_: object) -> None:
    """In the request and in its transaction: the record is there if the order is."""
    session.add(Audit(order_number=instance.number))


@receiver(post_save, sender=Order)
@on_commit
def send_mail(identity: Identity, **_: object) -> None:
    """Slow, as mail servers are."""
    time.sleep(MAIL_SECONDS)
    with sessions.begin() as session:
        session.add(Mail(order_number=identity[1][0]))


@receiver(post_save, sender=Order)
@on_commit(ordered=True)
def write_ledger(identity: Identity, **_: object) -> None:
    """One at a time: the balance is that of the line before, and this order."""
    with sessions.begin() as session:
        order = session.scalars(select(Order).where(Order.number == identity[1][0])).one()
        mine = Entry.customer == order.customer
        lines = session.scalar(select(func.count()).where(mine)) or 0
        owed = session.scalar(select(Entry.balance).where(mine).order_by(Entry.line.desc()))
        session.add(
            Entry(
                customer=order.customer,
                line=lines + 1,
                order_number=order.number,
                balance=(owed or 0) + order.cents,
            )
        )


@receiver(request_finished)
def count_request(status: int | None, **_: object) -> None:
    answered.append(status)


answered: list[int | None] = []


def place(number: int, customer: str, cents: int, card_is_good: bool) -> str:
    """Take an order; the answer's status line."""
    with sessions() as session:
        if session.get(Order, number) is not None:
            return "200 It was placed before"
        session.add(Order(number=number, customer=customer, cents=cents))
        session.flush()  # the order and its audit record are written, and nobody else sees them
        if not card_is_good:
            session.rollback()
            return "402 The card was refused"
        session.commit()
        return "201 Placed"


metrics = make_wsgi_app()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    asked = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if asked == ("GET", "/metrics"):
        shown: Iterable[bytes] = metrics(environ, start_response)
        return shown
    if asked != ("POST", "/orders"):
        start_response("404 There are POST /orders and GET /metrics", [("Content-Length", "0")])
        return []
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(place(**json.loads(body)), [("Content-Length", "0")])
    return []


def open_database(path: Path) -> Engine:
    """A SQLite file that many threads write to, one after the other."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60}, pool_size=50)

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin as said below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # At once for writing: one that reads first might find, later, that another has written.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def end_with_stdin() -> None:
    """End the process when its standard input ends."""
    # Not sys.stdin: its lock, held by a daemon thread, would be fatal when the interpreter ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main(path: Path, workers: int) -> None:
    threading.Thread(target=end_with_stdin, name="shop-stdin", daemon=True).start()
    engine = open_database(path)
    sessions.configure(bind=engine)
    Base.metadata.create_all(engine)
    instrument()
    pool = WorkerPool(workers, thread_name_prefix="shop")
    set_default_executor(pool)
    # Customers do wait for each other, and whoever is not served asks again.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    server = create_server(SignalMiddleware(application), port=0, threads=8)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    with suppress(SystemExit):  # SIGTERM may come before the server runs
        # What checkers are told of waitress leaves it out.
        print(server.effective_port, flush=True)  # pyright: ignore[reportAttributeAccessIssue]
        server.run()  # until SIGTERM, and then until what was begun is answered
    waiting = pool.stats().pending
    pool.shutdown()  # what was committed is delivered
    stats = pool.stats()
    print(
        json.dumps(
            {
                "requests": len(answered),
                "waiting": waiting,
                "delivered": stats.completed,
                "failed": stats.failed,
                "dropped": stats.dropped,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
