"""What is sent inside a transaction of Django's is delivered after its commit, or dropped."""

import asyncio
import contextlib
import contextvars
import functools
import threading
import unittest
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zoneinfo import ZoneInfo

import django_project
import pytest
from helpers import TIMEOUT, Boom, Ear, Latch, Running, Thing, ignore, raiser, together, uncollected

from tsignals import (
    DeliveryDropped,
    Failure,
    PoolClosed,
    Retry,
    Signal,
    WorkerPool,
    background,
    receiver_failed,
    set_default_executor,
)

pytest.importorskip("django")

from asgiref.sync import markcoroutinefunction
from django.db import connections as databases  # type: ignore[import-untyped]
from django.db import transaction
from django.db.models.signals import post_save  # type: ignore[import-untyped]
from django.dispatch import Signal as DjangoSignal  # type: ignore[import-untyped]
from django.test import TestCase  # type: ignore[import-untyped]
from django.utils import timezone, translation  # type: ignore[import-untyped]

from tsignals.django import after_commit, connections, on_commit
from tsignals.testing import Steps, inline

placed = Signal(name="placed")


@pytest.fixture(params=["default", "postgres"], ids=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> str:
    """The alias of a database."""
    django_project.configure()
    if request.param not in databases:
        pytest.skip("no PostgreSQL server answers")
    return str(request.param)


@pytest.fixture(autouse=True)
def pool() -> Iterator[WorkerPool]:
    """The default pool, as the app makes it; empty tables; nobody connected."""
    django_project.configure()
    former = post_save.receivers
    post_save.receivers = []
    placed_before = [*placed.receivers, *receiver_failed.receivers]
    with django_project.emptied():
        pool = WorkerPool(
            2, around=connections, initializer=connections.worker, idle=connections.idle
        )
        set_default_executor(pool)
        yield pool
        pool.shutdown(wait=True)
    post_save.receivers = former
    post_save.sender_receivers_cache.clear()
    for connection in [*placed.receivers, *receiver_failed.receivers]:
        if connection not in placed_before:
            connection.disconnect()


def order(name: str, db: str) -> Any:
    """Save a new order, which sends ``post_save``."""
    from django_project.models import Order

    return Order.objects.using(db).create(name=name)


def orders(db: str) -> list[str]:
    from django_project.models import Order

    return list(Order.objects.using(db).order_by("name").values_list("name", flat=True))


class Seen(Ear):
    """A receiver that remembers which orders a worker sees."""

    def __call__(self, /, **named: Any) -> Any:
        self.thread = threading.current_thread()
        self.seen = orders(named["using"])
        return super().__call__(**named)


# --- on_commit


def test_receiver_runs_in_a_worker_once_the_transaction_has_committed(
    db: str, pool: WorkerPool
) -> None:
    ear = Seen()
    receiver = on_commit(ear)
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        order("a", db)
        assert pool.stats().submitted == 0
    assert pool.drain(TIMEOUT)
    assert ear.seen == ["a"]
    assert ear.thread is not threading.current_thread()
    [call] = ear.calls
    assert call["signal"] is post_save
    assert call["instance"].name == "a"
    assert call["created"] is True


def test_receiver_responds_with_a_delivery_that_is_pending_until_the_commit(db: str) -> None:
    receiver = on_commit(Ear(response="done"))
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
        assert not delivery.done()
        assert delivery.signal is post_save
    assert delivery.result(TIMEOUT) == "done"


def test_signal_without_using_waits_for_the_default_database() -> None:
    signal, receiver = DjangoSignal(), on_commit(Ear())
    signal.connect(receiver)
    with transaction.atomic():
        [(_, delivery)] = signal.send(sender=None)
        assert not delivery.done()
        assert databases["default"].run_on_commit
    delivery.result(TIMEOUT)


def test_using_of_the_receiver_comes_before_that_of_the_signal() -> None:
    receiver = on_commit(using="other")(Ear())
    post_save.connect(receiver)
    with transaction.atomic(using="other"):
        with transaction.atomic():
            [(_, delivery)] = post_save.send(sender=Thing, using="default")
        assert not delivery.done()
        assert databases["other"].run_on_commit
    delivery.result(TIMEOUT)


def test_each_database_has_its_own_commit(pool: WorkerPool) -> None:
    ear = Seen()
    receiver = on_commit(ear)
    post_save.connect(receiver)
    with pytest.raises(Boom), transaction.atomic():
        order("lost", "default")
        with transaction.atomic(using="other"):
            order("kept", "other")
        raise Boom
    assert pool.drain(TIMEOUT)
    assert [call["instance"].name for call in ear.calls] == ["kept"]
    assert (pool.stats().completed, pool.stats().dropped) == (1, 1)


def test_without_a_transaction_it_is_delivered_at_once(db: str) -> None:
    receiver = on_commit(Ear(response="done"))
    post_save.connect(receiver)
    [(_, delivery)] = post_save.send(sender=Thing, using=db)
    assert delivery.result(TIMEOUT) == "done"


def test_with_autocommit_off_the_send_raises_and_nothing_is_queued(
    db: str, pool: WorkerPool
) -> None:
    receiver = on_commit(Ear())
    post_save.connect(receiver)
    transaction.set_autocommit(False, using=db)
    try:
        with pytest.raises(transaction.TransactionManagementError, match="manual"):
            post_save.send(sender=Thing, using=db)
        with pytest.raises(transaction.TransactionManagementError, match="manual"):
            after_commit(placed, None, using=db)
    finally:
        transaction.rollback(using=db)
        transaction.set_autocommit(True, using=db)
    assert pool.stats().submitted == 0


def test_tsignals_sends_that_wait_for_no_commit_are_refused_inside_a_transaction(
    db: str, pool: WorkerPool
) -> None:
    ear = Ear(response="done")
    receiver = on_commit(using=db)(ear)
    with placed.connect(receiver):
        with transaction.atomic(using=db):
            with pytest.raises(transaction.TransactionManagementError, match="use send, or after_"):
                placed.send_async(None)
            assert pool.stats().submitted == 0
            deliveries = after_commit(placed, None, using=db)
            [(_, delivery)] = placed.send(None)
            assert not delivery.done() and ear.calls == []
        assert deliveries.results(TIMEOUT) == [(receiver, "done")]
        assert delivery.result(TIMEOUT) == "done"
        assert placed.send_async(None).results(TIMEOUT) == [(receiver, "done")]


def test_send_async_connects_to_no_database_and_works_on_an_event_loop(db: str) -> None:
    receiver = on_commit(using=db)(Ear(response="done"))

    async def on_a_loop() -> Any:
        return await asyncio.wait_for(placed.send_async(None), TIMEOUT)

    def send() -> Any:
        found = placed.send_async(None).results(TIMEOUT)
        assert databases[db].connection is None
        return found

    with placed.connect(receiver):
        assert asyncio.run(on_a_loop()) == [(receiver, "done")]
        assert Running(send).result() == [(receiver, "done")]


def test_send_async_with_autocommit_off_is_refused_and_a_test_cases_own_transaction_is_none(
    db: str, pool: WorkerPool
) -> None:
    receiver = on_commit(using=db)(Ear(response="done"))
    with placed.connect(receiver):
        transaction.set_autocommit(False, using=db)
        try:
            using = "" if db == "default" else f", using='{db}'"
            with pytest.raises(transaction.TransactionManagementError, match=f"sender{using}, ..."):
                placed.send_async(None)
        finally:
            transaction.rollback(using=db)
            transaction.set_autocommit(True, using=db)
        assert pool.stats().submitted == 0

        class Case(TestCase):  # type: ignore[misc]
            databases = {db}  # noqa: RUF012 - as Django has it

            def test(self) -> None:
                assert placed.send_async(None).results(TIMEOUT) == [(receiver, "done")]
                with transaction.atomic(using=db):
                    with pytest.raises(transaction.TransactionManagementError):
                        placed.send_async(None)

        result = unittest.TestResult()
        Case("test").run(result)
        assert (result.errors, result.failures, result.testsRun) == ([], [], 1)


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_async_receivers_in_other_executors_are_what_asgiref_expects(executor: str) -> None:
    async def hears(**named: Any) -> str:
        return "heard"

    placed.connect(hears)
    try:
        with warnings.catch_warnings(), ThreadPoolExecutor(1) as threads:
            warnings.simplefilter("error")
            if executor == "threads":
                assert placed.via(threads).send_async(None).results(TIMEOUT) == [(hears, "heard")]
            else:
                with inline():
                    assert placed.send_async(None).results(TIMEOUT) == [(hears, "heard")]
    finally:
        placed.disconnect(hears)


@pytest.mark.parametrize("how", ["send", "after_commit", "send_async"])
def test_failure_names_the_receiver_that_was_connected(how: str) -> None:
    boom, told = Boom(), list[Failure]()

    def tell(failure: Failure, **named: Any) -> None:
        told.append(failure)

    receiver = on_commit(raiser(boom))
    with placed.connect(receiver), receiver_failed.connect(tell):
        sends = {"send": placed.send, "send_async": placed.send_async}
        if how == "after_commit":
            [(_, delivery)] = after_commit(placed, None)
        else:
            [(_, delivery)] = sends[how](None)
        assert delivery.exception(TIMEOUT) is boom
    assert [failure.receiver for failure in told] == [receiver]


def test_steps_run_it_by_the_receiver_that_was_connected() -> None:
    receiver = on_commit(Ear(response="done"))
    with placed.connect(receiver), Steps() as steps:
        [(_, delivery)] = placed.send(None)
        steps.run(receiver)
    assert delivery.result(0) == "done"


@pytest.mark.parametrize("option", [{"ordered": True}, {"retry": Retry(Boom)}])
def test_what_connect_cannot_keep_for_it_is_refused(option: Any) -> None:
    with pytest.raises(ValueError, match="a background receiver has"):
        placed.connect(on_commit(Ear()), **option)


def test_rollback_drops_and_counts_what_waited(db: str, pool: WorkerPool) -> None:
    ear = Ear()
    receiver = on_commit(ear)
    post_save.connect(receiver)
    with uncollected():
        with pytest.raises(Boom), transaction.atomic(using=db):
            [(_, delivery)] = post_save.send(sender=Thing, using=db)
            order("a", db)
            raise Boom
        assert delivery.done()  # by the hook's last reference, not by the collector
    with pytest.raises(DeliveryDropped):
        delivery.result(0)
    assert pool.stats().submitted == pool.stats().dropped == 2
    assert ear.calls == []


def test_rolled_back_savepoint_drops_what_was_sent_in_it_and_nothing_else(
    db: str, pool: WorkerPool
) -> None:
    ear = Ear()
    receiver = on_commit(ear)
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        order("before", db)
        with pytest.raises(Boom), transaction.atomic(using=db):
            order("inside", db)
            raise Boom
        assert pool.stats().dropped == 1
        order("after", db)
    assert pool.drain(TIMEOUT)
    assert sorted(call["instance"].name for call in ear.calls) == ["after", "before"]


def test_savepoint_made_by_hand_is_not_known_to_djangos_hooks(db: str, pool: WorkerPool) -> None:
    """The docs say so."""
    receiver = on_commit(Ear())
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        # Before Django 6.1 it has another name.
        make = getattr(transaction, "savepoint_create", None) or transaction.savepoint
        savepoint = make(using=db)
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
        transaction.savepoint_rollback(savepoint, using=db)
        assert not delivery.done()
    assert delivery.exception(TIMEOUT) is None


def test_end_of_a_nested_transaction_is_no_commit(db: str, pool: WorkerPool) -> None:
    receiver = on_commit(Ear())
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        with transaction.atomic(using=db):
            [(_, delivery)] = post_save.send(sender=Thing, using=db)
        assert not delivery.done()
        assert pool.stats().submitted == 0
    delivery.result(TIMEOUT)


def test_connection_closed_inside_a_transaction_drops_what_waited(db: str) -> None:
    receiver = on_commit(Ear())
    post_save.connect(receiver)
    with pytest.raises(Boom), transaction.atomic(using=db):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
        databases[db].close()
        raise Boom
    with pytest.raises(DeliveryDropped):
        delivery.result(TIMEOUT)


def test_another_hook_that_raises_first_takes_ours_with_it(db: str, pool: WorkerPool) -> None:
    """Django calls no hook after one that raises. The transaction has committed all the same."""

    def fail() -> None:
        raise Boom

    receiver = on_commit(Ear())
    post_save.connect(receiver)
    with uncollected():  # it goes with the traceback, which holds Django's list of hooks
        with pytest.raises(Boom), transaction.atomic(using=db):
            transaction.on_commit(fail, using=db)
            order("a", db)
        assert pool.stats().dropped == 1
    assert orders(db) == ["a"]


def test_hooks_of_ours_do_not_keep_later_ones_from_running(db: str, pool: WorkerPool) -> None:
    """A pool that takes nothing is the failure of the delivery, and the commit stands."""
    failures: list[Failure] = []
    receiver_failed.connect(lambda failure, **named: failures.append(failure), weak=False)
    receiver, later = on_commit(Ear()), Ear()
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
        transaction.on_commit(later, using=db)
        pool.shutdown()
    assert later.calls == [{}]
    with pytest.raises(PoolClosed):
        delivery.result(0)
    [failure] = failures
    assert isinstance(failure.exception, PoolClosed)


def test_failure_is_told_as_that_of_a_background_receiver(db: str) -> None:
    failures: list[Failure] = []
    told = lambda failure, **named: failures.append(failure)  # noqa: E731
    receiver_failed.connect(told, sender=post_save)
    boom = Boom()
    receiver = on_commit(raiser(boom))
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
    assert delivery.exception(TIMEOUT) is boom
    [failure] = failures
    assert failure.signal is post_save
    assert failure.mode == "background"
    assert failure.exception is boom
    assert failure.named["using"] == db


def test_method_is_a_receiver_as_well_and_is_held_weakly(db: str, pool: WorkerPool) -> None:
    class Shop:
        def __init__(self) -> None:
            self.names: list[str] = []

        @on_commit
        def placed(self, instance: Any, **named: Any) -> str:
            self.names.append(instance.name)
            return "noted"

    shop, gone = Shop(), Shop()
    post_save.connect(shop.placed)
    post_save.connect(gone.placed)
    del gone
    order_ = order("a", db)
    [(_, delivery)] = post_save.send(sender=Thing, instance=order_, using=db)
    assert delivery.result(TIMEOUT) == "noted"
    assert pool.drain(TIMEOUT)
    assert shop.names == ["a", "a"]


def test_async_receiver_runs_on_the_pools_event_loop_with_the_senders_language(db: str) -> None:
    @on_commit
    async def receiver(**named: Any) -> tuple[Any, str | None]:
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), translation.get_language()

    post_save.connect(receiver)
    with transaction.atomic(using=db), translation.override("de"):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
    assert delivery.result(TIMEOUT)[1] == "de"


def test_ordered_receiver_hears_in_the_order_of_the_sends(db: str, pool: WorkerPool) -> None:
    ear = Ear()
    receiver = on_commit(ear, ordered=True)
    post_save.connect(receiver)
    for start in (0, 10):
        with transaction.atomic(using=db):
            for number in range(start, start + 10):
                post_save.send(sender=Thing, using=db, number=number)
    assert pool.drain(TIMEOUT)
    assert [call["number"] for call in ear.calls] == list(range(20))


def test_receiver_ordered_by_key_hears_in_the_order_of_the_commits_of_each(
    db: str, pool: WorkerPool
) -> None:
    ear, asked = Ear(), list[object]()

    def key(sender: object, number: int, **named: object) -> int:
        asked.append((sender, threading.get_ident()))
        return number % 3

    receiver = on_commit(ear, ordered=key)
    post_save.connect(receiver)
    for start in (0, 10):
        with transaction.atomic(using=db):
            for number in range(start, start + 10):
                post_save.send(sender=Thing, using=db, number=number)
    assert asked == [(Thing, threading.get_ident())] * 20
    assert pool.drain(TIMEOUT)
    for of in range(3):
        heard = [call["number"] for call in ear.calls if call["number"] % 3 == of]
        assert heard == list(range(of, 20, 3))


def test_receivers_own_executor_is_used(db: str, pool: WorkerPool) -> None:
    with ThreadPoolExecutor(1, "theirs") as executor:
        receiver = on_commit(lambda **named: threading.current_thread().name, executor=executor)
        post_save.connect(receiver)
        with transaction.atomic(using=db):
            [(_, delivery)] = post_save.send(sender=Thing, using=db)
        assert delivery.result(TIMEOUT).startswith("theirs")
    assert pool.stats().submitted == 0


def test_tsignals_signal_takes_the_receiver_too(db: str) -> None:
    receiver = on_commit(Ear(response="done"))
    placed.connect(receiver)
    with transaction.atomic(using=db):
        [(_, delivery)] = placed.send(None, using=db)
        assert not delivery.done()
    assert delivery.result(TIMEOUT) == "done"


def test_delivery_can_be_taken_back_before_the_commit(db: str, pool: WorkerPool) -> None:
    ear = Ear()
    receiver = on_commit(ear)
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
        assert delivery.cancel()
    assert pool.drain(TIMEOUT)
    assert ear.calls == []


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="on_commit needs a callable, not 'str'"):
        on_commit("name")  # type: ignore[call-overload]


def test_receiver_has_the_name_of_what_it_wraps() -> None:
    def mail(**named: Any) -> None:
        """Write to the customer."""

    assert on_commit(mail).__name__ == "mail"
    assert on_commit(mail).__doc__ == "Write to the customer."
    assert "mail" in repr(on_commit(functools.partial(mail, copy=True)))


# --- context, language, time zone

request_id = contextvars.ContextVar("request_id", default="none")


def seen_here(**named: Any) -> tuple[str, str | None, str]:
    return request_id.get(), translation.get_language(), str(timezone.get_current_timezone())


def tagged(function: Any) -> Any:
    """Call ``function`` with a request id, a language and a time zone."""

    def run() -> Any:
        request_id.set("r1")
        with translation.override("fr"), timezone.override(ZoneInfo("Asia/Tokyo")):
            return function()

    return contextvars.copy_context().run(run)


@pytest.mark.parametrize("executor", [None, "bare"])
def test_context_language_and_time_zone_are_those_of_the_send(db: str, executor: Any) -> None:
    """Not those of the commit; also in a pool with nothing around its deliveries."""
    bare = WorkerPool(1) if executor else None
    receiver = on_commit(seen_here, executor=bare)
    post_save.connect(receiver)
    with transaction.atomic(using=db):
        [(_, delivery)] = tagged(lambda: post_save.send(sender=Thing, using=db))
        assert translation.get_language() == "en"
    assert delivery.result(TIMEOUT) == ("r1", "fr", "Asia/Tokyo")
    if bare is not None:
        bare.shutdown()


def test_after_commit_carries_context_language_and_time_zone(db: str) -> None:
    placed.connect(seen_here)
    with transaction.atomic(using=db):
        deliveries = tagged(lambda: after_commit(placed, None, using=db))
    assert deliveries[0][1].result(TIMEOUT) == ("r1", "fr", "Asia/Tokyo")


def test_language_of_one_delivery_is_not_seen_by_the_next(db: str) -> None:
    with WorkerPool(1, around=connections) as one:
        receiver = on_commit(seen_here, executor=one)
        post_save.connect(receiver)
        for language in ("fr", "en", "de"):
            with transaction.atomic(using=db), translation.override(language):
                [(_, delivery)] = post_save.send(sender=Thing, using=db)
            assert delivery.result(TIMEOUT)[1] == language
        assert one.submit(translation.get_language).result(TIMEOUT) == "en"


def test_sender_without_a_translation_has_none_in_the_worker(db: str) -> None:
    receiver = on_commit(seen_here)
    post_save.connect(receiver)
    with translation.override(None):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
    assert delivery.result(TIMEOUT)[1] is None


def test_what_a_receiver_activates_is_not_undone_by_what_it_calls(db: str) -> None:
    """``around`` is entered again for a delivery that it runs, with its own language in force."""
    inside = Signal(name="inside")
    inside.connect(seen_here)

    @on_commit
    def receiver(**named: Any) -> Any:
        with translation.override("de"):
            inside.send_async(None).results(TIMEOUT)
            return translation.get_language()

    post_save.connect(receiver)
    with translation.override("fr"):
        [(_, delivery)] = post_save.send(sender=Thing, using=db)
    assert delivery.result(TIMEOUT) == "de"


# --- after_commit


def test_after_commit_delivers_to_all_receivers_after_the_commit(db: str, pool: WorkerPool) -> None:
    seen: list[list[str]] = []
    first, second = Ear(response=1), lambda **named: seen.append(orders(db))
    placed.connect(first)
    placed.connect(second)
    sender = object()
    with transaction.atomic(using=db):
        deliveries = after_commit(placed, sender, using=db, order_id=7)
        order("a", db)
        assert [receiver for receiver, _ in deliveries] == [first, second]
        assert not any(delivery.done() for _, delivery in deliveries)
        assert pool.stats().submitted == 0
    assert deliveries.results(TIMEOUT) == [(first, 1), (second, None)]
    assert seen == [["a"]]
    # using= is for after_commit itself, and is not sent.
    assert first.calls == [{"signal": placed, "sender": sender, "order_id": 7}]


def test_after_commit_hears_only_who_was_connected_at_the_send(db: str, pool: WorkerPool) -> None:
    early, late = Ear("early"), Ear("late")
    placed.connect(early)
    with transaction.atomic(using=db):
        after_commit(placed, None, using=db)
        placed.connect(late)
    assert pool.drain(TIMEOUT)
    assert (len(early.calls), len(late.calls)) == (1, 0)


def test_after_commit_without_a_transaction_is_sent_at_once(db: str) -> None:
    placed.connect(ear := Ear(response="done"))
    assert after_commit(placed, None, using=db).results(TIMEOUT) == [(ear, "done")]
    assert len(ear.calls) == 1


def test_after_commit_that_is_rolled_back_is_dropped(db: str, pool: WorkerPool) -> None:
    placed.connect(ear := Ear())
    with pytest.raises(Boom), transaction.atomic(using=db):
        deliveries = after_commit(placed, None, using=db)
        raise Boom
    [(_, error)] = deliveries.outcomes(TIMEOUT).errors
    assert isinstance(error, DeliveryDropped)
    assert (pool.stats().submitted, pool.stats().dropped) == (1, 1)
    assert ear.calls == []


def test_after_commit_to_nobody_gives_no_deliveries(db: str, pool: WorkerPool) -> None:
    with transaction.atomic(using=db):
        assert list(after_commit(placed, None, using=db)) == []
    assert pool.stats().submitted == 0


def test_after_commit_refuses_a_signal_of_djangos() -> None:
    with pytest.raises(TypeError, match="needs a signal of tsignals, not 'ModelSignal'"):
        after_commit(post_save, None)


def test_after_commit_takes_a_view_of_a_signal(db: str) -> None:
    placed.connect(seen_here)
    with WorkerPool(1, thread_name_prefix="mine") as mine:
        deliveries = after_commit(placed.via(mine), None, using=db)
        deliveries.results(TIMEOUT)
        assert mine.stats().completed == 1


# --- many threads


def test_threads_that_save_roll_back_and_nest_lose_nothing_and_deliver_nothing_rolled_back(
    db: str, pool: WorkerPool
) -> None:
    heard: list[str] = []
    receiver = on_commit(lambda instance, **named: heard.append(instance.name))
    post_save.connect(receiver)

    def work(thread: int) -> list[str]:
        kept = []
        try:
            for turn in range(12):
                name = f"{thread}-{turn}"
                with contextlib.suppress(Boom), transaction.atomic(using=db):
                    order(f"{name}-outer", db)
                    with contextlib.suppress(Boom), transaction.atomic(using=db):
                        order(f"{name}-inner", db)
                        if turn % 2:
                            raise Boom
                    if turn % 3 == 2:
                        raise Boom
                    kept += [f"{name}-outer", *([] if turn % 2 else [f"{name}-inner"])]
            return kept
        finally:
            databases.close_all()

    kept = [
        name
        for names in together(*[functools.partial(work, n) for n in range(6)])
        for name in names
    ]
    assert pool.drain(TIMEOUT)
    assert sorted(heard) == sorted(kept) == orders(db)
    stats = pool.stats()
    assert stats.submitted == 6 * 24
    assert stats.completed == len(kept)
    assert stats.dropped == 6 * 24 - len(kept)


def test_commit_waits_for_room_in_a_full_queue_and_holds_no_transaction_meanwhile(db: str) -> None:
    gate = Latch()
    with WorkerPool(1, max_pending=1) as full:
        receiver = on_commit(gate, executor=full)
        post_save.connect(receiver)

        def three() -> None:
            try:
                with transaction.atomic(using=db):
                    for name in "abc":
                        order(name, db)
            finally:
                databases.close_all()

        committing = Running(three)
        assert gate.entered.wait(TIMEOUT)
        assert not committing.done
        assert orders(db) == ["a", "b", "c"]  # committed, and another may write
        gate.opened.set()
        committing.result()
    assert gate.calls == 3


# --- Django's test cases


def test_capture_on_commit_callbacks_delivers_what_waited() -> None:
    """Under ``TestCase`` nothing commits; executing the captured callbacks stands for it."""
    receiver = on_commit(ear := Ear(response="done"))
    post_save.connect(receiver)
    with pytest.raises(Boom), transaction.atomic():  # as TestCase does
        with TestCase.captureOnCommitCallbacks(execute=True) as callbacks:
            [(_, delivery)] = post_save.send(sender=Thing, using="default")
            assert not delivery.done()
        assert delivery.result(TIMEOUT) == "done"
        assert len(callbacks) == 1
        raise Boom
    assert len(ear.calls) == 1


def test_function_that_a_framework_marks_as_async_is_awaited() -> None:
    """On CPython 3.11 by asgiref's own mark, which ``inspect`` does not know."""
    called = list[int]()

    async def work() -> None:
        called.append(1)

    @markcoroutinefunction
    def hears(**named: Any) -> Any:
        return work()

    @on_commit
    @markcoroutinefunction
    def waits(**named: Any) -> Any:
        return work()

    signal = Signal()
    signal.connect(background(hears), weak=False)
    signal.connect(waits)
    for _, delivery in signal.send(None):
        delivery.result(TIMEOUT)
    assert called == [1, 1]


def test_wrong_options_are_refused_before_there_is_a_function() -> None:
    with pytest.raises(TypeError, match="Executor"):
        on_commit(executor=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="retry"):
        on_commit(retry=5)  # type: ignore[call-overload]


@pytest.mark.parametrize("using", [3, b"default", ["default"]])
def test_database_is_named_by_its_alias(using: Any) -> None:
    with pytest.raises(TypeError, match="using must be the alias of a database"):
        on_commit(using=using)
    with pytest.raises(TypeError, match="using must be the alias of a database"):
        on_commit(ignore, using=using)
    with pytest.raises(TypeError, match="using must be the alias of a database"):
        after_commit(Signal(), None, using=using)


@pytest.mark.parametrize("verb", ["send", "send_async"])
def test_signal_that_carries_another_using_says_how_to_name_the_database(verb: str) -> None:
    ear = Ear(response="done")
    with placed.connect(receiver := on_commit(ear)):
        with pytest.raises(TypeError, match=r"its signal is 5, .*on_commit\(using='default'\)"):
            getattr(placed, verb)(None, using=5)
    with placed.connect(receiver := on_commit(using="default")(ear)):
        after_commit(placed, None, n=1).results(TIMEOUT)
        assert getattr(placed, verb)(None, using=5)
        receiver(using=5).result(TIMEOUT)
    assert {"using": 5} in ear.calls


def test_on_commit_of_what_is_in_the_background_is_refused() -> None:
    class Mails:
        @background
        def mail(self, **named: Any) -> None: ...

    function = background(ignore)
    for receiver in (function, functools.partial(function), Mails().mail, on_commit(ignore)):
        with pytest.raises(TypeError, match=r"runs in the background as it is, .* pass on_commit"):
            on_commit(receiver)
