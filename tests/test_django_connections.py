"""A delivery leaves its thread's database connections as it found them; idle workers hold none."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import django_project
import pytest
from helpers import TIMEOUT, Boom, Latch, Running, wait_until

from tsignals import Signal, WorkerPool

pytest.importorskip("django")

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import OperationalError, transaction  # type: ignore[import-untyped]
from django.db import connections as databases

from tsignals.django import connections

written = Signal(name="written")


@pytest.fixture(params=["default", "postgres"], ids=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> Iterator[str]:
    """The alias of a database."""
    django_project.configure()
    if request.param not in databases:
        pytest.skip("no PostgreSQL server answers")
    with django_project.emptied():
        yield str(request.param)
    for connection in written.receivers:
        connection.disconnect()


def write(name: str, db: str, **named: Any) -> Any:
    """A receiver that uses the database; gives Django's object for its thread's connection."""
    from django_project.models import Order

    Order.objects.using(db).create(name=name)
    return databases[db]


def orders(db: str) -> list[str]:
    from django_project.models import Order

    return list(Order.objects.using(db).order_by("name").values_list("name", flat=True))


def in_another_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """On a connection of its own."""

    def run() -> Any:
        try:
            return function(*arguments)
        finally:
            databases.close_all()

    return Running(run).result()


def kept(workers: int = 1) -> WorkerPool:
    """A pool as the default one of the app: its busy workers keep their connections."""
    return WorkerPool(
        workers, around=connections, initializer=connections.worker, idle=connections.idle
    )


@contextlib.contextmanager
def full(db: str) -> Iterator[WorkerPool]:
    """A pool whose worker is busy and whose queue is full: what is sent runs in the sender."""
    gate = Latch()
    with WorkerPool(1, max_pending=1, overflow="caller_runs", around=connections) as pool:
        pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        pool.submit(int)
        written.connect(write)
        try:
            yield pool
        finally:
            gate.opened.set()


def here(pool: WorkerPool, name: str, db: str) -> Any:
    """Have ``write`` run on this very thread."""
    [(_, delivery)] = written.via(pool).send_async(None, name=name, db=db)
    assert delivery.done()
    return delivery.result(0)


# --- on the sender's thread


def test_senders_transaction_is_left_alone(db: str) -> None:
    with full(db) as pool:
        with pytest.raises(Boom), transaction.atomic(using=db):
            write("order", db)
            here(pool, "mail", db)
            assert orders(db) == ["mail", "order"]
            raise Boom
        assert orders(db) == []


def test_senders_transaction_with_autocommit_off_is_left_alone(db: str) -> None:
    with full(db) as pool:
        transaction.set_autocommit(False, using=db)
        try:
            write("order", db)
            here(pool, "mail", db)
            assert in_another_thread(orders, db) == []
            transaction.commit(using=db)
        finally:
            transaction.rollback(using=db)
            transaction.set_autocommit(True, using=db)
        assert in_another_thread(orders, db) == ["mail", "order"]


def test_senders_cursor_under_way_is_left_alone(db: str) -> None:
    with full(db) as pool:
        for name in "abc":
            write(name, db)
        with databases[db].cursor() as cursor:
            cursor.execute("SELECT name FROM shop_order ORDER BY name")
            rows = [cursor.fetchone()]
            here(pool, "d", db)
            rows += cursor.fetchmany(2)
        assert rows == [("a",), ("b",), ("c",)]


def test_senders_old_connection_is_left_alone(db: str) -> None:
    """Django would close it after a request; the sender may be in the middle of one."""
    with full(db) as pool:
        write("order", db)
        databases[db].close_at = 0.0
        before = databases[db].connection
        here(pool, "mail", db)
        assert databases[db].connection is before


def test_sender_that_had_nothing_open_has_nothing_open_afterwards(db: str) -> None:
    with full(db) as pool:
        assert databases[db].connection is None
        assert here(pool, "mail", db) is databases[db]
        assert databases[db].connection is None
        assert orders(db) == ["mail"]


def test_delivery_that_runs_in_a_waiting_receiver_is_in_its_transaction(db: str) -> None:
    outer = Signal(name="outer")
    inside: list[Any] = []

    def order(**named: Any) -> list[str]:
        with contextlib.suppress(Boom), transaction.atomic(using=db):
            write("order", db)
            deliveries = written.via(pool).send_async(None, name="mail", db=db)
            inside.extend(response for _, response in deliveries.results(TIMEOUT))
            assert databases[db].connection is not None
            assert orders(db) == ["mail", "order"]
            raise Boom
        return orders(db)

    outer.connect(order)
    written.connect(write)
    for make in (kept, lambda: WorkerPool(1, around=connections)):
        with make() as pool:
            assert outer.via(pool).send_async(None).results(TIMEOUT) == [(order, [])]
    assert [each.connection for each in inside] == [None, None]


# --- on a worker's


def test_worker_of_any_pool_has_nothing_open_after_a_delivery(db: str) -> None:
    written.connect(write)
    with WorkerPool(1, around=connections) as pool:
        [(_, used)] = written.via(pool).send_async(None, name="mail", db=db).results(TIMEOUT)
        assert pool.drain(TIMEOUT)
        assert used.connection is None
    assert orders(db) == ["mail"]


def test_connection_is_closed_after_a_receiver_that_fails(db: str) -> None:
    used: list[Any] = []

    def fail(**named: Any) -> None:
        used.append(write("half", db))
        raise Boom

    written.connect(fail)
    with WorkerPool(1, around=connections) as pool:
        [(_, delivery)] = written.via(pool).send_async(None)
        assert isinstance(delivery.exception(TIMEOUT), Boom)
        assert pool.drain(TIMEOUT)
        assert used[0].connection is None


def test_busy_worker_keeps_its_connection_and_an_idle_one_holds_none(db: str) -> None:
    """One after the other without a pause: the worker never finds its queue empty."""
    opened: list[Any] = []
    gate = Latch()
    last: list[Any] = []

    def note(**named: Any) -> None:
        write("x", db)
        opened.append(databases[db].connection)
        last.append(databases[db])

    written.connect(note)
    with kept() as pool:
        pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        deliveries = [written.via(pool).send_async(None) for _ in range(20)]
        gate.opened.set()
        for each in deliveries:
            each.results(TIMEOUT)
        wait_until(lambda: last[-1].connection is None)
        assert len({id(connection) for connection in opened}) == 1
        assert not any(each is not None for each in (last[-1].connection,))
        written.via(pool).send_async(None).results(TIMEOUT)
        assert opened[-1] is not opened[0]
        wait_until(lambda: last[-1].connection is None)


def two_in_a_row(
    pool: WorkerPool, first: Callable[[], Any], second: Callable[[], Any]
) -> list[Any]:
    """Run both in the one worker, with no pause between them."""
    gate = Latch()
    pool.submit(gate)
    assert gate.entered.wait(TIMEOUT)
    futures = [pool.submit(first), pool.submit(second)]
    gate.opened.set()
    return [future.result(TIMEOUT) for future in futures]


def test_busy_worker_closes_a_connection_that_the_server_has_ended() -> None:
    django_project.configure()
    if "postgres" not in databases:
        pytest.skip("no PostgreSQL server answers")

    def ended() -> Any:
        write("a", "postgres")
        raw = databases["postgres"].connection
        in_another_thread(end, raw.info.backend_pid)
        with pytest.raises(OperationalError):
            write("b", "postgres")
        assert databases["postgres"].connection is raw
        return raw

    def end(process: int) -> None:
        with databases["postgres"].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [process])

    def next_one() -> Any:
        write("c", "postgres")
        return databases["postgres"].connection

    with django_project.emptied():
        with kept() as pool:
            old, new = two_in_a_row(pool, ended, next_one)
        assert new is not old
        assert orders("postgres") == ["a", "c"]


def test_busy_worker_closes_a_connection_that_is_too_old(db: str) -> None:
    def ages() -> Any:
        write("a", db)
        databases[db].settings_dict["CONN_MAX_AGE"] = 60
        databases[db].close_at = 0.0
        return databases[db].connection

    def younger() -> Any:
        found = databases[db].connection
        write("b", db)
        return found

    before = databases[db].settings_dict["CONN_MAX_AGE"]
    try:
        with kept() as pool:
            old, left = two_in_a_row(pool, ages, younger)
    finally:
        databases[db].settings_dict["CONN_MAX_AGE"] = before
    assert old is not None
    assert left is None


def test_transaction_that_a_receiver_left_open_harms_no_later_delivery(db: str) -> None:
    def leaves() -> Any:
        transaction.atomic(using=db).__enter__()
        write("lost", db)
        return databases[db]

    with kept() as pool:
        left, new = two_in_a_row(pool, leaves, lambda: write("kept", db))
        assert left is not new
    assert orders(db) == ["kept"]


def test_autocommit_that_a_receiver_left_off_harms_no_later_delivery(db: str) -> None:
    def leaves() -> Any:
        transaction.set_autocommit(False, using=db)
        write("lost", db)

    with kept() as pool:
        two_in_a_row(pool, leaves, lambda: write("kept", db))
    assert orders(db) == ["kept"]


def test_failure_to_close_is_logged_and_fails_no_delivery(
    db: str, caplog: pytest.LogCaptureFixture
) -> None:
    def use() -> str:
        write("a", db)
        connection = databases[db]

        def close() -> None:
            del connection.close  # the next one works
            raise Boom

        connection.close = close
        return "done"

    with WorkerPool(1, around=connections) as pool:
        assert pool.submit(use).result(TIMEOUT) == "done"
        assert pool.drain(TIMEOUT)
        pool.submit(databases.close_all).result(TIMEOUT)
    [record] = caplog.records
    assert record.getMessage() == f"cannot close the connection to database {db!r}"
    assert record.name == "tsignals"


def test_async_delivery_looks_at_no_connection(db: str) -> None:
    """It runs on an event loop, where Django has none; its ORM runs on a thread apart."""

    async def receiver(**named: Any) -> str:
        return threading.current_thread().name

    written.connect(receiver)
    with kept() as pool:
        [(_, name)] = written.via(pool).send_async(None).results(TIMEOUT)
    assert name


def test_async_receiver_does_not_wait_for_the_thread_of_the_request(db: str) -> None:
    """That of the request may be waiting for it."""

    async def receiver(**named: Any) -> int:
        return await sync_to_async(threading.get_ident)()

    def view() -> tuple[int, int]:
        [(_, ident)] = written.via(pool).send_async(None).results(TIMEOUT)
        return ident, threading.get_ident()

    async def request() -> tuple[int, int]:
        async with ThreadSensitiveContext():  # as Django's ASGI handler does
            return await sync_to_async(view)()

    written.connect(receiver)
    with kept() as pool:
        theirs, requests = asyncio.run(request())
    assert theirs != requests


def test_thread_of_async_receivers_closes_its_connections_and_ends(db: str) -> None:
    used: list[Any] = []
    idents: set[int] = set()
    both = asyncio.Barrier(2)

    async def receiver(name: str, **named: Any) -> None:
        await both.wait()
        used.append(await sync_to_async(write)(name, db))
        idents.add(await sync_to_async(threading.get_ident)())
        await both.wait()  # while both run, they share the thread

    written.connect(receiver)
    with kept() as pool:
        for deliveries in [written.via(pool).send_async(None, name=name) for name in "ab"]:
            deliveries.results(TIMEOUT)
        assert used[0] is used[1]
        assert len(idents) == 1
        wait_until(lambda: used[0].connection is None)
        wait_until(lambda: not idents & {thread.ident for thread in threading.enumerate()})
    assert orders(db) == ["a", "b"]


def test_sync_code_of_an_async_receiver_may_wait_for_another_async_receiver(db: str) -> None:
    async def inner(**named: Any) -> int:
        return await sync_to_async(threading.get_ident)()

    async def outer(**named: Any) -> Any:
        [(_, ident)] = await sync_to_async(send)()
        return ident, await sync_to_async(threading.get_ident)()

    def send() -> Any:
        return asked.via(pool).send_async(None).results(TIMEOUT)

    asked = Signal(name="asked")
    asked.connect(inner)
    written.connect(outer)
    with kept() as pool:
        [(_, (inners, outers))] = written.via(pool).send_async(None).results(TIMEOUT)
    assert inners != outers


def test_worker_that_ends_leaves_no_connection_open(db: str) -> None:
    used = []
    with kept() as pool:
        used.append(pool.submit(write, "a", db).result(TIMEOUT))
    assert used[0].connection is None


def test_server_has_no_connection_of_a_pool_that_has_nothing_to_do() -> None:
    """What the server says, not Django."""
    django_project.configure()
    if "postgres" not in databases:
        pytest.skip("no PostgreSQL server answers")
    with django_project.emptied():

        def connected() -> int:
            with databases["postgres"].cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                )
                return int(cursor.fetchone()[0])

        before = connected()
        with kept(4) as pool:
            barrier = threading.Barrier(4)

            def use() -> int:
                write("a", "postgres")
                barrier.wait(TIMEOUT)
                number = connected()
                barrier.wait(TIMEOUT)
                return number

            numbers = [pool.submit(use) for _ in range(4)]
            assert [each.result(TIMEOUT) for each in numbers] == [before + 4] * 4
            wait_until(lambda: connected() == before)
