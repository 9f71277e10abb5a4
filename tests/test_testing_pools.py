"""``tsignals.testing``: deliveries run in the sender, step by step, or in a pool of the test's."""

import asyncio
import contextlib
import contextvars
import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from typing import Any

import inside
import processes
import pytest
from event_loops import AsyncLatch
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    assert_gone,
    ignore,
    quiet,
    together,
    wait_until,
)

from tsignals import (
    PoolClosed,
    Retry,
    Signal,
    WorkerPool,
    background,
    get_default_executor,
    receiver_failed,
    set_default_executor,
)
from tsignals.testing import Steps, capture, connected, fresh_pool, inline, muted

pytestmark = pytest.mark.usefixtures("nobody_observes")


def signal_with(
    *receivers: Any, name: str = "paid", executor: Executor | None = None, **arguments: Any
) -> Signal:
    signal = Signal(name=name, executor=executor)
    for receiver in receivers:
        signal.connect(receiver, weak=False, **arguments)
    return signal


def here(**named: Any) -> int:
    return threading.get_ident()


async def async_here(**named: Any) -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


def failing(**named: Any) -> None:
    raise Boom


KINDS: dict[str, Any] = {
    "default": lambda: None,
    "pool": lambda: WorkerPool(1),
    "threads": lambda: ThreadPoolExecutor(1),
}


@pytest.fixture(params=KINDS)
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A signal's own one, or none."""
    executor = KINDS[request.param]()
    yield executor
    if executor is not None:
        executor.shutdown()


# -- inline --


@pytest.mark.parametrize("terms", ["", "ordered", "tracked"])
@pytest.mark.parametrize("how", ["send_async", "prepare", "via", "background"])
def test_deliveries_run_at_once_in_the_sender(how: str, terms: str, executor: Any) -> None:
    arguments: Any = {terms: True} if terms else {}
    me = threading.get_ident()
    if how == "background":
        if terms == "tracked":
            pytest.skip("that is for connect")
        receivers = [background(f, executor=executor, **arguments) for f in (here, async_here)]
        signal = signal_with(*receivers)
    else:
        receivers = [here, async_here]
        signal = signal_with(*receivers, executor=executor, **arguments)
    with inline():
        if how == "background":
            deliveries = signal.send(None)
        elif how == "prepare":
            prepared = signal.prepare(None)
            assert not any(delivery.done() for _, delivery in prepared.deliveries)
            prepared.submit()
            deliveries = prepared.deliveries
        else:
            view: Any = signal.via(executor) if how == "via" else signal
            deliveries = view.send_async(None)
            for receiver, delivery in deliveries:
                assert delivery.receiver is receiver
                assert (delivery.signal, delivery.sender) == (signal, None)
    assert all(delivery.done() for _, delivery in deliveries)
    assert [receiver for receiver, _ in deliveries] == receivers
    assert [delivery.result(0) for _, delivery in deliveries] == [me, me]
    assert get_default_executor().stats().submitted == 0


def test_under_a_running_loop_async_receivers_run_in_another_thread() -> None:
    async def main() -> None:
        with inline():
            [(_, sync), (_, own)] = signal_with(here, async_here).send_async(None)
        assert sync.result(0) == threading.get_ident()
        assert own.done()
        assert own.result(0) != threading.get_ident()

    asyncio.run(main())


def test_async_receiver_that_fails_under_a_running_loop_fails_its_delivery() -> None:
    async def fails(**named: Any) -> None:
        raise Boom

    async def main() -> None:
        with inline():
            [(_, delivery)] = signal_with(fails).send_async(None)
        assert type(delivery.exception(0)) is Boom

    with quiet():
        asyncio.run(main())


variable = contextvars.ContextVar("variable", default="default")


def test_inline_deliveries_have_their_own_context_inside_of_around() -> None:
    heard = list[str]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        variable.set(variable.get() + ", around")
        yield
        heard.append("left")

    def hear(**named: Any) -> None:
        heard.append(variable.get())
        variable.set("receiver")

    async def async_hear(**named: Any) -> None:
        hear()

    with WorkerPool(1, around=around) as pool, inline():
        token = variable.set("sender")
        signal_with(hear, async_hear, executor=pool).send_async(None).results(0)
        former = set_default_executor(pool)
        signal_with(hear).send_async(None).results(0)
        signal_with(background(hear)).send(None)
        set_default_executor(former)
        assert variable.get() == "sender"
        variable.reset(token)
    assert heard == ["sender, around", "left"] * 4


def test_inline_failures_are_told_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    failures = list[Any]()
    with inline(), connected(receiver_failed, lambda failure, **_: failures.append(failure)):
        signal = signal_with(failing, ignore)
        deliveries = signal.send_async("sender", n=1)
        assert type(deliveries[0][1].exception(0)) is Boom
        assert deliveries[1][1].result(0) is None
        signal_with(background(failing)).send("sender", n=2)
    assert [(f.mode, f.named, f.sender) for f in failures] == [
        ("send_async", {"n": 1}, "sender"),
        ("background", {"n": 2}, "sender"),
    ]
    assert len(caplog.records) == 2


def test_what_inline_deliveries_send_is_inline_too() -> None:
    inner = signal_with(here, name="inner")
    outer = signal_with(lambda **named: inner.send_async(None).results(0))
    with inline(), capture(inner) as sent:
        [(_, [(_, thread)])] = outer.send_async(None).results(0)
    assert thread == threading.get_ident()
    sent.assert_once()


def test_ordered_delivery_that_its_own_receiver_sends_runs_after_it() -> None:
    log = list[str]()
    ahead = list[Any]()

    def hear(n: int, **named: Any) -> None:
        log.append(f"begins {n}")
        if n < 3:
            [(_, delivery)] = signal.send_async(None, n=n + 1)
            ahead.append(delivery)
            assert not delivery.done()
        log.append(f"ends {n}")

    signal = signal_with(hear, ordered=True)
    with inline():
        signal.send_async(None, n=1).results(0)
    assert log == [f"{what} {n}" for n in (1, 2, 3) for what in ("begins", "ends")]
    assert [delivery.result(0) for delivery in ahead] == [None, None]


def test_ordered_deliveries_of_threads_run_one_at_a_time() -> None:
    running, most, ran = [0], [0], [0]

    def hear(**named: Any) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0)
        ran[0] += 1
        running[0] -= 1

    signal = signal_with(hear, ordered=True)
    with inline():
        contexts = [contextvars.copy_context() for _ in range(4)]

        def sends() -> list[Any]:
            return [signal.send_async(None) for _ in range(8)]

        sent = together(*[lambda c=c: c.run(sends) for c in contexts])
        assert all(deliveries.wait(TIMEOUT) for each in sent for deliveries in each)
    assert (most[0], ran[0]) == (1, 32)


def test_ctrl_c_in_an_inline_receiver_reaches_the_sender() -> None:
    def interrupted(n: int, **named: Any) -> None:
        if n == 1:
            signal.send_async(None, n=2)
            raise KeyboardInterrupt

    signal = signal_with(interrupted, ordered=True)
    with inline(), capture() as sent:
        with pytest.raises(KeyboardInterrupt):
            signal.send_async(None, n=1)
        signal.send_async(None, n=3).results(0)
    assert [type(each.responses[0][1]) for each in sent] == [KeyboardInterrupt, *[type(None)] * 2]


def test_inline_holds_in_its_own_context_only() -> None:
    signal = signal_with(here)
    me = threading.get_ident()
    with inline():
        outside = contextvars.Context().run(signal.send_async, None)
        [(_, thread)] = outside.results(TIMEOUT)
        assert thread != me
    [(_, thread)] = signal.send_async(None).results(TIMEOUT)
    assert thread != me


def test_block_that_ends_while_a_thread_sends_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal = signal_with(here)
    with WorkerPool(1, around=contextlib.nullcontext) as pool:
        block = inline()
        with contextlib.ExitStack() as open_block:
            open_block.enter_context(block)
            context = contextvars.copy_context()  # as that of a thread that still has it
            ends = [open_block.close]
            inside.when_a_taker_is_looked_at(block, lambda: ends and ends.pop()(), monkeypatch)
            assert context.run(signal.via(pool).send_async, None).results(TIMEOUT)


def test_what_is_prepared_inline_runs_where_it_is_submitted() -> None:
    with inline():
        prepared = signal_with(here).prepare(None)
        dropped = signal_with(here).prepare(None)
    thread = Running(lambda: (prepared.submit(), threading.get_ident())[1])
    assert prepared.deliveries.results(TIMEOUT) == [(here, thread.result())]
    dropped.drop()
    with pytest.raises(Exception, match="dropped"):
        dropped.deliveries.results(0)


def test_muted_receivers_have_no_inline_deliveries() -> None:
    with inline(), muted():
        assert signal_with(here).send_async(None) == []


def test_tracked_receiver_that_waits_for_itself_inline_does_not_hang() -> None:
    def leaves(**named: Any) -> bool:
        return connection.disconnect(wait=True)

    signal = Signal()
    connection = signal.connect(leaves, tracked=True)
    with inline():
        assert signal.send_async(None).results(0) == [(leaves, True)]


# -- Steps --


def test_deliveries_run_when_the_test_says_so_in_the_order_it_says(executor: Any) -> None:
    ran = list[Any]()

    def first(n: int, **named: Any) -> int:
        ran.append(("first", n))
        return threading.get_ident()

    async def second(n: int, **named: Any) -> None:
        ran.append(("second", n))

    signal = signal_with(first, second, executor=executor)
    with Steps() as steps:
        one = signal.send_async("sender", n=1)
        prepared = signal.prepare(None, n=2)
        assert [d.receiver for d in steps.pending] == [first, second]
        assert {(d.signal, d.sender) for d in steps.pending} == {(signal, "sender")}
        prepared.submit()
        assert not ran
        assert steps.run(one[1][1]) is one[1][1]
        assert ran == [("second", 1)]
        steps.run(prepared.deliveries[0][1])
        steps.run(second)
        assert steps.run().result(0) == threading.get_ident()
        assert steps.pending == []
        with pytest.raises(LookupError):
            steps.run()
    assert ran == [("second", 1), ("first", 2), ("second", 2), ("first", 1)]
    assert prepared.deliveries.results(0) == [(first, threading.get_ident()), (second, None)]


def test_steps_are_an_executor_as_any_other() -> None:
    steps = Steps()
    mail = background(here, executor=steps)
    signal = signal_with(here, mail, executor=steps)
    signal.send_async(None)
    signal.send(None)
    call = steps.submit(divmod, 7, 2)
    assert len(steps.pending) == 4
    assert "4 wait" in repr(steps)
    assert steps.run_all() == 4
    assert call.result(0) == (3, 1)
    other = signal_with(here)
    with inline():  # an executor of the test's stays what it is
        [(_, delivery)] = other.via(steps).send_async(None)
        assert not delivery.done()
    steps.shutdown()
    with quiet():
        [(_, refused)] = other.via(steps).send_async(None)
    assert type(refused.exception(0)) is PoolClosed
    assert steps.run() is delivery
    with pytest.raises(RuntimeError, match="closed"):
        steps.__enter__()


def test_run_all_runs_what_comes_meanwhile() -> None:
    def again(n: int, **named: Any) -> None:
        if n:
            signal.send_async(None, n=n - 1)

    signal = signal_with(again)
    with Steps() as steps:
        signal.send_async(None, n=3)
        assert steps.run_all() == 4


def test_ordered_deliveries_have_their_turn() -> None:
    signal = signal_with(here, ordered=True)
    other = signal_with(ignore, ordered=True)
    with Steps() as steps:
        [[(_, first)], [(_, second)]] = [signal.send_async(None) for _ in range(2)]
        other.send_async(None)
        with pytest.raises(RuntimeError, match=r"ordered, and <delivery of here .*first"):
            steps.run(second)
        steps.run(ignore)
        steps.run(first)
        assert steps.run(second) is second


def test_steps_at_the_end_cancel_what_has_not_run() -> None:
    signal = signal_with(here)
    with Steps() as steps, capture(signal) as sent:
        [(_, delivery)] = signal.send_async(None)
        [(_, other)] = signal.send_async(None)
        assert other.cancel()
        assert other.cancel()
        assert steps.pending == [delivery]
    assert delivery.cancelled()
    assert [type(each.responses[0][1]) for each in sent] == [CancelledError] * 2
    assert "cancelled" in repr(delivery)
    [(_, later)] = signal.send_async(None)
    assert later.result(TIMEOUT) != threading.get_ident()


@pytest.mark.parametrize("way", [inline, Steps])
def test_failed_deliveries_are_collected(way: Any) -> None:
    async def fails_async(**named: Any) -> None:
        raise Boom

    def fails() -> "weakref.ref[Any]":
        sender = Thing()
        with way() as block:
            deliveries = signal_with(failing, fails_async).send_async(sender)
            if way is Steps:
                assert block.run_all() == 2
        assert [type(error) for _, error in deliveries.outcomes(0)] == [Boom, Boom]
        return weakref.ref(sender)

    with quiet():
        assert_gone(fails())


def test_steps_keep_to_their_own_context() -> None:
    signal = signal_with(here)

    def one() -> None:
        for _ in range(20):
            with Steps() as steps:
                [(_, delivery)] = signal.send_async(None)
                assert steps.pending == [delivery]
                assert steps.run().result(0) == threading.get_ident()

    together(*[one] * 3)


def test_several_threads_run_each_delivery_once() -> None:
    ran = list[int]()
    with Steps() as steps:
        signal = signal_with(lambda n, **named: ran.append(n))
        for n in range(200):
            signal.send_async(None, n=n)

        def runs() -> int:
            count = 0
            with contextlib.suppress(LookupError):
                while True:
                    steps.run()
                    count += 1
            return count

        together(runs, runs, runs)
    assert sorted(ran) == list(range(200))


def test_threads_that_find_the_same_delivery_keep_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    latch, both_have_found_it = Latch(), threading.Barrier(2)
    with Steps() as steps:
        signal = signal_with(latch, ordered=True)
        [(_, first)] = signal.send_async(None)
        signal.send_async(None)
        with monkeypatch.context() as patched:
            inside.when_steps_find(lambda: both_have_found_it.wait(TIMEOUT), patched)
            threads = [Running(steps.run), Running(steps.run)]
            assert latch.entered.wait(TIMEOUT)
            wait_until(lambda: any(thread.done for thread in threads))
        [late] = [thread for thread in threads if thread.done]
        with pytest.raises(RuntimeError, match="comes first"):
            late.result()
        with pytest.raises(RuntimeError, match="comes first"):
            steps.run()
        latch.opened.set()
        [early] = [thread for thread in threads if thread is not late]
        assert early.result() is first
        assert first.done()
        assert steps.run_all() == 1
        assert latch.calls == 2


def test_threads_may_run_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = list[int]()
    with Steps() as steps:
        signal = signal_with(lambda n, **named: ran.append(n))
        for n in range(2):
            signal.send_async(None, n=n)
        with monkeypatch.context() as patched:
            both_have_found_it = threading.Barrier(2)
            finds = [lambda: both_have_found_it.wait(TIMEOUT)] * 2
            inside.when_steps_find(lambda: finds and finds.pop()(), patched)
            assert sum(together(steps.run_all, steps.run_all)) == 2
    assert sorted(ran) == [0, 1]


def test_run_all_leaves_what_stands_behind_a_delivery_that_runs_elsewhere() -> None:
    """Or below that call: a receiver that has sent again may run all, too."""
    gate, others, counts = Latch(), Ear(), list[int]()
    with Steps() as steps:
        signal, again = Signal(executor=steps), Signal(executor=steps)
        signal.connect(gate, ordered=True)
        signal.connect(others)
        for _ in range(2):
            signal.send_async(None)
        running = Running(steps.run_all)
        assert gate.entered.wait(TIMEOUT)
        assert steps.run_all() == len(others.calls) == 2
        gate.opened.set()
        assert running.result() == 2

        def sends_again(depth: int, **named: Any) -> None:
            if depth:
                again.send_async(None, depth=depth - 1)
                counts.append(steps.run_all())

        again.connect(sends_again, weak=False, ordered=True)
        again.send_async(None, depth=1)
        assert steps.run_all() == 2
        assert counts == [0]
        assert steps.pending == []


def test_what_comes_while_steps_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps()
    signal = signal_with(here, executor=steps)
    inside.when_steps_take(lambda: steps.shutdown(cancel_futures=True), monkeypatch)
    [(_, delivery)] = signal.send_async(None)
    assert delivery.cancelled()
    assert steps.pending == []


def test_tracked_receiver_that_is_disconnected_has_its_steps_cancelled() -> None:
    signal = Signal()
    connection = signal.connect(here, tracked=True)
    with Steps() as steps:
        [(_, delivery)] = signal.send_async(None)
        assert connection.disconnect(wait=TIMEOUT)
        assert delivery.cancelled()
        assert steps.pending == []


# -- fresh_pool --


def test_fresh_pool_is_the_default_one_in_the_block() -> None:
    former = get_default_executor()
    signal = signal_with(here)
    with fresh_pool(1, max_pending=3) as pool:
        assert get_default_executor() is pool
        assert contextvars.Context().run(get_default_executor) is pool
        [(_, thread)] = signal.send_async(None).results(TIMEOUT)
        assert thread != threading.get_ident()
        for _ in range(10):
            signal_with(background(here)).send(None)
    assert pool.stats()._replace(workers=0, idle=0) == (0, 0, 0, 0, 11, 11, 0, 0, 0, 0)
    assert get_default_executor() is former
    with pytest.raises(PoolClosed):
        pool.submit(ignore)


@pytest.mark.parametrize("how", ["send_async", "send_robust", "background", "elsewhere"])
def test_receiver_that_fails_fails_the_test(how: str) -> None:
    signal = signal_with(background(failing) if how == "background" else failing)
    with quiet(), pytest.raises(AssertionError, match=r"failing raised Boom") as raised:
        with fresh_pool():
            if how == "background":
                signal.send(None)
            elif how == "elsewhere":  # in no context of the block's, but in its pool
                contextvars.Context().run(signal.send_async, None)
            else:
                getattr(signal, how)(None)
    assert type(raised.value.__cause__) is Boom


def test_failure_that_the_sender_sees_is_none_of_the_pool() -> None:
    with fresh_pool(), pytest.raises(Boom):
        signal_with(failing).send(None)


def test_test_takes_the_failures_that_it_expects() -> None:
    with quiet(), fresh_pool() as pool:
        signal_with(failing).send_async(None).wait(TIMEOUT)
        [(receiver, error)] = pool.failures
        assert (receiver, type(error)) == (failing, Boom)
        pool.failures.clear()


def test_list_of_failures_may_be_replaced() -> None:
    signal = signal_with(failing)
    with quiet(), pytest.raises(AssertionError, match="raised Boom"), fresh_pool() as pool:
        signal.send_async(None).wait(TIMEOUT)
        pool.failures = []
        signal.send_async(None).wait(TIMEOUT)
        assert len(pool.failures) == 1


def test_async_receiver_that_hangs_is_shown_where_it_stands_and_not_its_loop() -> None:
    bank = AsyncLatch()

    async def pays(**named: Any) -> None:
        await bank()

    signal = signal_with(pays)
    with pytest.raises(AssertionError) as raised, fresh_pool(1, timeout=0.05) as pool:
        signal.send_async(None)
        assert bank.entered.wait(TIMEOUT)
    [told] = str(raised.value).split("has run for")[1:]
    assert told.index("await bank()") < told.index("in __call__")
    assert "run_forever" not in told
    bank.opened.set()
    assert pool.drain(TIMEOUT)


def test_receiver_that_hangs_fails_the_test_and_does_not_hang_it() -> None:
    latch = Latch()
    signal = signal_with(latch, name="paid")
    with pytest.raises(AssertionError, match=r"not all deliveries have ended") as raised:
        with fresh_pool(1, timeout=0.05) as pool:
            deliveries = signal.send_async(None)
            assert latch.entered.wait(TIMEOUT)
            waiting = signal.send_async(None)
    told = str(raised.value)
    assert "of signal 'paid' has run for" in told
    assert "in __call__" in told  # where it stands
    assert waiting[0][1].cancelled()
    latch.opened.set()
    assert deliveries.results(TIMEOUT) == [(latch, "through")]
    assert pool.drain(TIMEOUT)


def test_receiver_that_hangs_does_not_hold_up_the_end_of_the_process_either() -> None:
    done = processes.run(
        """
        import threading
        from tsignals import Signal
        from tsignals.testing import fresh_pool

        paid = Signal(name="paid")
        paid.connect(lambda **named: threading.Event().wait(), weak=False)
        try:
            with fresh_pool(1, timeout=0.05):
                paid.send_async(None)
        except AssertionError:
            print("failed")
        """,
        TSIGNALS_EXIT_SECONDS="1000",
    )
    assert (done.returncode, done.stdout) == (0, "failed\n")


def test_receiver_that_waits_to_be_tried_again_is_named_with_its_error() -> None:
    retry = Retry(Boom, timeout=None, wait_initial=3600, wait_max=3600)
    signal = signal_with(failing, name="paid", retry=retry)
    with quiet(), pytest.raises(AssertionError) as raised, fresh_pool(1, timeout=0.05):
        [(_, delivery)] = signal.send_async(None)
        wait_until(lambda: inside.is_paused(delivery))
    assert "of signal 'paid' waits to be tried again after Boom()" in str(raised.value)
    assert "has run for" not in str(raised.value)


def test_error_of_the_test_itself_comes_first() -> None:
    with quiet(), pytest.raises(KeyError) as raised, fresh_pool():
        signal_with(failing).send_async(None)
        raise KeyError("the test's own")
    [note] = raised.value.__notes__
    assert "raised Boom" in note


def test_pools_of_several_tests_at_once_do_not_see_each_others_failures() -> None:
    def good(n: int) -> None:
        for _ in range(5):
            with fresh_pool(2) as pool:
                assert get_default_executor() is pool
                signal_with(here).send_async(None).results(TIMEOUT)
                inside = signal_with(lambda **named: get_default_executor())
                assert inside.send_async(None).results(TIMEOUT)[0][1] is pool

    def bad() -> None:
        for _ in range(5):
            with pytest.raises(AssertionError, match="Boom"), fresh_pool(2):
                signal_with(failing).send_async(None)

    former = get_default_executor()
    with quiet():
        together(lambda: good(1), bad, lambda: good(2))
    assert get_default_executor() is former


def test_fresh_pool_of_another_thread_is_nobody_elses() -> None:
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with fresh_pool() as pool:
            inside.set()
            assert done.wait(TIMEOUT)
            assert get_default_executor() is pool

    former = get_default_executor()
    running = Running(other)
    assert inside.wait(TIMEOUT)
    assert get_default_executor() is former
    done.set()
    running.result()


def test_fresh_pool_has_its_own_around_and_nests_with_the_others() -> None:
    with fresh_pool(around=contextlib.nullcontext) as outer, inline():
        [(_, thread)] = signal_with(here).send_async(None).results(0)
        assert thread == threading.get_ident()
        with fresh_pool() as inner:
            assert get_default_executor() is inner
            [(_, thread)] = signal_with(here).send_async(None).results(TIMEOUT)
            assert thread != threading.get_ident()
        assert get_default_executor() is outer


def test_fresh_pools_of_the_main_thread_may_end_in_any_order() -> None:
    former = get_default_executor()
    for order in itertools.permutations(range(3)):
        blocks = [fresh_pool(1) for _ in range(3)]
        pools = [block.__enter__() for block in blocks]
        assert get_default_executor() is pools[2]
        for n, each in enumerate(order, 1):
            blocks[each].__exit__(None, None, None)
            left = [pool for i, pool in enumerate(pools) if i not in order[:n]]
            assert get_default_executor() is (left[-1] if left else former)
            assert "open" in repr(get_default_executor())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_connected_in_a_forked_child_waits_for_no_thread_of_the_parent() -> None:
    signal, inside_of_it = Signal(), Latch()

    class Uid:
        def __hash__(self) -> int:
            inside_of_it()
            return 1

    def child() -> None:
        with connected(Signal(), ignore):
            pass

    blocks = Running(lambda: connected(signal, ignore, dispatch_uid=Uid()).__enter__())
    assert inside_of_it.entered.wait(TIMEOUT)
    try:
        assert processes.forked(child) == 0
    finally:
        inside_of_it.opened.set()
    blocks.result()


def test_fresh_pool_refuses_what_is_no_pool_and_changes_nothing() -> None:
    former = get_default_executor()
    with pytest.raises(ValueError, match="max_workers"):
        fresh_pool(0).__enter__()
    assert get_default_executor() is former
    with pytest.raises(TypeError, match="seconds"):
        fresh_pool(timeout=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not nan"):
        fresh_pool(timeout=float("nan"))
    block = fresh_pool()
    with block, pytest.raises(RuntimeError, match="make another"):
        block.__enter__()


def test_receivers_get_the_sender_and_what_was_sent_in_every_executor_of_tests() -> None:
    sender = Thing()
    signal = Signal()

    def hear(signal: Signal, sender: object, **named: Any) -> tuple[Any, ...]:
        return signal, sender, named

    with connected(signal, hear):
        with inline():
            assert signal.send_async(sender, n=1).results(0)[0][1] == (signal, sender, {"n": 1})
        with Steps() as steps:
            signal.send_async(sender, n=1)
            assert steps.run().result(0) == (signal, sender, {"n": 1})


def test_fresh_pool_has_around_what_the_default_pool_has() -> None:
    where = contextvars.ContextVar("where", default="nowhere")
    told = list[str]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        where.set("inside")
        yield

    def hears(**named: Any) -> None:
        told.append(where.get())

    with WorkerPool(1, around=around, initializer=told.append, initargs=("begun",)) as pool:
        former = set_default_executor(pool)
        try:
            for arguments in ({}, {"around": None}):
                with fresh_pool(1, **arguments):  # type: ignore[arg-type]
                    assert signal_with(hears).send_async(None).wait(TIMEOUT)
                    with fresh_pool(1):
                        assert signal_with(hears).send_async(None).wait(TIMEOUT)
        finally:
            set_default_executor(former)
    assert told == ["begun", "inside", "begun", "inside", "nowhere", "nowhere"]


def test_fresh_pool_is_not_blamed_for_another_whose_name_begins_alike() -> None:
    with quiet(), WorkerPool(1, thread_name_prefix="app_mail") as other:
        elsewhere = contextvars.Context()
        with fresh_pool(1, thread_name_prefix="app"):
            sent = elsewhere.run(signal_with(failing).via(other).send_async, None)
            assert sent.wait(TIMEOUT)
