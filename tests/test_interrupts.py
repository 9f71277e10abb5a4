"""Ctrl-C at every point where CPython may run the handler: nothing is lost, held or half done.

A trace function raises at each of these points in turn (``points.py``).
``stress/sigint.py`` does the same with real signals, at random moments.
"""

import concurrent.futures
import contextlib
import gc
import logging
import queue
import signal as signals
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import inside
import pytest
from helpers import (
    TIMEOUT,
    Boom,
    Ear,
    Latch,
    Running,
    Thing,
    gil_is_on,
    handled,
    ignore,
    uncollected,
    wait_until,
)
from points import FIRST, STRIDE, Handler, Interrupter
from pools import add_up, held
from processes import run

from tsignals import Connection, Deliveries, QueueFull, Signal, WorkerPool, receiver_failed

MOST = 200
"""Of a call with more points, about so many will do here: every n-th."""


class World:
    """A pool, receivers that count, and whatever a call under test has given back."""

    def __init__(self, workers: int = 1, **arguments: Any) -> None:
        self.pool = WorkerPool(workers, **arguments)
        self.gate = Latch()
        self.ran: list[int] = []
        self.signal = Signal(name="watched", executor=self.pool)
        for n in range(2):
            self.signal.connect(lambda n=n, **named: self.ran.append(n), weak=False)
        self.signal.connect(lambda **named: self.ran.append(2), weak=False, ordered=True)
        self.other = Signal(name="other", executor=self.pool)
        self.futures: list[Any] = []
        self.got: list[Any] = []
        self.threads: list[Running[Any]] = []
        self.connections: list[Connection] = []  # tracked ones

    def hold(self, waiting: int = 0) -> "World":
        """Hold the worker up, with so many in the queue."""
        self.futures.append(self.pool.submit(self.gate))
        assert self.gate.entered.wait(TIMEOUT)
        self.futures += [self.pool.submit(int) for _ in range(waiting)]
        return self

    def warm(self) -> "World":
        self.pool.submit(int).result(TIMEOUT)
        wait_until(lambda: self.pool.stats().idle == 1)
        return self

    def open_when(self, condition: Callable[["World"], object]) -> "World":
        """Let the worker go on once ``condition(world)``, or when told to at the end."""

        def wait() -> None:
            wait_until(lambda: condition(self) or self.gate.opened.is_set())
            self.gate.opened.set()

        self.threads.append(Running(wait))
        return self

    def check(self) -> None:
        self.gate.opened.set()
        pool = self.pool
        for thread in self.threads:
            thread.result()
        assert pool.drain(TIMEOUT), f"it does not come to rest: {pool.stats()}"
        for deliveries in [got for got in self.got if isinstance(got, Deliveries)]:
            self.futures += deliveries.futures
        for future in self.futures:
            assert future.done()
        stats, state = pool.stats(), inside.state_of(pool)
        assert add_up(stats)
        assert (stats.pending, stats.running) == (0, 0)
        assert state.room_used == 0
        assert not inside.blocked_senders(pool) and not inside.waiting_for_quiet(pool)
        assert inside.interrupts_of(pool) == []
        # What follows the counting is done by the same thread, a moment later.
        wait_until(lambda: not inside.unresolved(pool) and not inside.lanes_of(pool))
        workers = inside.workers_of(pool)
        wait_until(lambda: sum(t.is_alive() for t in workers) == pool.stats().workers)
        assert threading.get_ident() not in inside.idents_of(pool)
        for connection in self.connections:
            assert Running(connection.disconnect, wait=TIMEOUT).result(2 * TIMEOUT)
        threads = list(workers)
        Running(pool.shutdown).result()
        for thread in threads:
            assert not thread.is_alive()


def submit(world: World) -> None:
    world.got.append(world.pool.submit(world.ran.append, 7))


def send(world: World) -> None:
    with contextlib.suppress(QueueFull):
        world.got.append(world.signal.send_async(None))


def cancel(world: World) -> None:
    world.futures[-1].cancel()


def cancel_all(world: World) -> None:
    world.got.append(world.signal.send_async(None))
    world.got[-1].cancel()


def wait(world: World) -> None:
    world.futures[-1].result(TIMEOUT)


def wait_in_vain(world: World) -> None:
    with contextlib.suppress(TimeoutError):
        world.futures[-1].result(0)


def as_completed(world: World) -> None:
    world.got.append(world.signal.send_async(None))
    list(world.got[-1].as_completed(TIMEOUT))


def drain(world: World) -> None:
    world.pool.drain(TIMEOUT)


def shutdown(world: World) -> None:
    world.pool.shutdown()


def cancel_and_shut_down(world: World) -> None:
    world.pool.shutdown(wait=False, cancel_futures=True)


def give_up(world: World) -> None:
    world.pool.shutdown(timeout=0)


def call_back(world: World) -> None:
    world.futures[-1].add_done_callback(world.got.append)


def whole_pool(world: World) -> None:
    with WorkerPool(1) as pool:
        pool.submit(int)


def in_lane(world: World) -> None:
    """In the caller, an ordered receiver that sends to itself, and one that waits."""
    signal = Signal(name="again", executor=world.pool)  # its name would be looked for everywhere

    def again(left: int, **named: Any) -> None:
        world.ran.append(left)
        if left:
            signal.send_async(None, left=left - 1)
            world.signal.send_async(None).wait(TIMEOUT)

    signal.connect(again, ordered=True)
    signal.send_async(None, left=1)


def with_async_and_tracked(world: World) -> World:
    """A world whose other signal has an async receiver, and a tracked one; its loop runs."""
    signal = world.other

    async def hears(**named: Any) -> None:
        world.ran.append(3)

    signal.connect(hears, weak=False)
    world.connections.append(
        signal.connect(lambda **named: world.ran.append(4), weak=False, tracked=True)
    )
    assert signal.send_async(None).wait(TIMEOUT)
    world.ran.clear()
    return world


def send_other(world: World) -> None:
    world.got.append(world.other.send_async(None))


def blocked(world: World) -> object:
    return inside.blocked_senders(world.pool)


def waits(world: World) -> object:
    return any(inside.is_waited_for(future) for future in world.futures)


Case = tuple[Callable[[], World], Callable[[World], None]]
CASES: dict[str, Case] = {
    "submit to a new pool": (lambda: World(), submit),
    "submit to an idle worker": (lambda: World().warm(), submit),
    "submit behind another": (lambda: World().hold(), submit),
    "send to a new pool": (lambda: World(3), send),
    "send behind another": (lambda: World().hold(), send),
    "send, block, room in time": (
        lambda: World(max_pending=2).hold(1).open_when(blocked),
        send,
    ),
    "send, block, no room in time": (lambda: World(max_pending=2, block_timeout=0).hold(1), send),
    "send, raise": (lambda: World(max_pending=2, overflow="raise").hold(1), send),
    "send, drop newest": (lambda: World(max_pending=2, overflow="drop_newest").hold(1), send),
    "send, drop oldest": (lambda: World(max_pending=3, overflow="drop_oldest").hold(2), send),
    "send, caller runs": (lambda: World(max_pending=2, overflow="caller_runs").hold(1), send),
    "caller runs a lane": (lambda: World(max_pending=1, overflow="caller_runs").hold(1), in_lane),
    "caller runs async and tracked ones": (
        lambda: with_async_and_tracked(World(max_pending=1, overflow="caller_runs")).hold(1),
        send_other,
    ),
    "cancel": (lambda: World().hold(1), cancel),
    "cancel where it cannot be": (lambda: World().hold(), cancel),
    "cancel all": (lambda: World().hold(), cancel_all),
    "wait": (lambda: World().hold(1).open_when(waits), wait),
    "wait in vain": (lambda: World().hold(1), wait_in_vain),
    "as completed": (lambda: World(), as_completed),
    "drain": (
        lambda: World().hold(1).open_when(lambda world: inside.waiting_for_quiet(world.pool)),
        drain,
    ),
    "shut down": (
        lambda: World().hold(1).open_when(lambda world: inside.waiting_for_quiet(world.pool)),
        shutdown,
    ),
    "cancel and shut down": (lambda: World().hold(2), cancel_and_shut_down),
    "give up": (lambda: World().hold(2), give_up),
    "add a callback": (lambda: World().hold(1), call_back),
    "a whole pool": (lambda: World(), whole_pool),
}


@pytest.fixture(autouse=True)
def fast_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is interrupted in the middle of a thread's start leaves it in a table of its own."""
    yield
    for thread in list(threading._limbo):  # type: ignore[attr-defined]
        del threading._limbo[thread]  # type: ignore[attr-defined]


# CPython has nobody to raise it to where it closes a generator.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("case", CASES)
def test_interrupted_call_has_taken_effect_or_has_not(case: str) -> None:
    make, act = CASES[case]
    world = make()
    with Interrupter(0) as interrupter:
        act(world)
    world.check()
    assert interrupter.points > 1
    at, step = FIRST, STRIDE * (1 + interrupter.points // MOST)
    while True:
        world = make()
        before = world.pool.stats().submitted
        with Interrupter(at) as interrupter:
            act(world)
        try:
            world.check()
            assert not inside.workers_waiting()
            if act is send:  # all receivers of the send, or none
                assert world.pool.stats().submitted - before in (0, 3)
            assert len(world.ran) == len(set(world.ran)) or act is in_lane
        except AssertionError as error:
            pytest.fail(f"at point {at}, {interrupter.where}: {error}")
        if not interrupter.raised:
            return
        at += step


def test_send_that_is_interrupted_after_its_delivery_has_run_keeps_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot know that it has run, and so queues it once more."""
    publish, interrupts = inside.QUEUE_IT.now, [KeyboardInterrupt()]

    def interrupted(engine: Any, works: Any, *arguments: Any) -> None:
        publish(engine, works, *arguments)
        if interrupts:
            wait_until(lambda: works[0].done() and works[0] not in inside.unresolved(world.pool))
            raise interrupts.pop()

    world = World()
    with monkeypatch.context() as patch:
        inside.QUEUE_IT.patch(patch, interrupted)
        with pytest.raises(KeyboardInterrupt):
            submit(world)
    world.check()
    assert world.ran == [7]
    assert world.pool.stats().completed == 1


async def hears(**named: Any) -> None: ...


LATER: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "plain": (ignore, {}),
    "ordered": (ignore, {"ordered": True}),
    "tracked": (ignore, {"tracked": True}),
    "async": (hears, {}),
    "submit": (ignore, {}),
}


def sends_of(world: World, way: str) -> Callable[[object], Any]:
    """A way to send with a sender, which the delivery knows."""
    if way == "submit":
        return lambda sender: world.pool.submit(id, sender)
    receiver, terms = LATER[way]
    signal = Signal(name=way, executor=world.pool)
    signal.connect(receiver, weak=False, **terms)
    return lambda sender: signal.send_async(sender)[0][1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
@pytest.mark.parametrize("way", LATER)
@pytest.mark.parametrize("overflow", ["block", "caller_runs"])
def test_interrupts_that_are_kept_keep_nothing_of_what_is_sent_later(
    way: str, overflow: str
) -> None:
    """Their tracebacks know frames of ours, and these what they looked at."""
    world, kept, gone = World(max_pending=2, overflow=overflow), list[BaseException](), list[Any]()
    send, raised = sends_of(world, way), True
    send(None).result(TIMEOUT)
    if overflow == "caller_runs":
        world.hold(2)  # all is run here
    at, most = 0, 400
    while raised and at < most:
        at += 1 if way == "submit" else 2  # a submit has fewer points
        with Interrupter(at) as interrupter:
            try:
                send(None)
            except KeyboardInterrupt as interrupt:
                kept.append(interrupt)
        raised = interrupter.raised
        if overflow == "block":
            assert world.pool.drain(TIMEOUT)
    world.gate.opened.set()
    assert world.pool.drain(TIMEOUT)

    def send_later(count: int) -> None:
        for _ in range(count):
            sender = Thing()
            gone.append(weakref.ref(sender))
            send(sender).result(TIMEOUT)

    send_later(10)
    gc.collect()
    before = len(gc.get_objects())
    send_later(60)
    world.pool.submit(int).result(TIMEOUT)  # a worker lets go of one as it takes the next
    gc.collect()
    more = len(gc.get_objects()) - before - 60  # of the weak references
    left = sum(reference() is not None for reference in gone)
    world.check()
    assert len(kept) > 10
    kept.clear()
    assert left <= 1, f"{left} senders are kept"
    assert more < 50, f"{more} objects are kept"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
def test_interrupts_that_are_kept_keep_nothing_of_what_comes_later_in_a_lane_that_goes_on() -> None:
    world, kept, gone = World(2), list[BaseException](), list[Any]()
    may_end = queue.SimpleQueue[None]()
    signal = Signal(name="lane", executor=world.pool)
    signal.connect(lambda **named: may_end.get(timeout=TIMEOUT), weak=False, ordered=True)

    def go_on(sender: object = None) -> None:
        """Send, and have all that came before end: so the lane never does."""
        signal.send_async(sender)
        stats = world.pool.stats()
        for _ in range(stats.pending + stats.running - 1):
            may_end.put(None)
        wait_until(lambda: sum(world.pool.stats()[2:4]) == 1)

    go_on()
    at, raised = 0, True
    while raised and at < 400:
        at += 2
        with Interrupter(at) as interrupter:
            try:
                signal.send_async(None)
            except KeyboardInterrupt as interrupt:
                kept.append(interrupt)
        raised = interrupter.raised
        go_on()
    for _ in range(40):
        sender = Thing()
        gone.append(weakref.ref(sender))
        go_on(sender)
    del sender
    go_on()
    world.pool.submit(int).result(TIMEOUT)  # a worker lets go of one as it takes the next
    gc.collect()
    left = sum(reference() is not None for reference in gone)
    may_end.put(None)
    world.check()
    assert len(kept) > 10
    kept.clear()
    assert left <= 2, f"{left} senders are kept"


def interrupt_next_send(pool: WorkerPool, then: Callable[[], object]) -> None:
    """Call ``then``, and interrupt, when the next send has been queued."""

    def interrupted() -> None:
        then()
        raise KeyboardInterrupt

    inside.interrupt_next_send(pool, interrupted)


def test_send_that_is_interrupted_while_it_makes_its_deliveries_leaves_no_cycle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Deliveries):
        def append(self, pair: Any) -> None:
            super().append(pair)
            raise KeyboardInterrupt

    inside.LIST_OF_DELIVERIES.patch(monkeypatch, Interrupted)
    with WorkerPool(1) as pool, uncollected():
        signal, sender = Signal(executor=pool), Thing()
        signal.connect(ignore)
        gone = weakref.ref(sender)
        with contextlib.suppress(KeyboardInterrupt):
            signal.send_async(sender)
        del sender
        assert gone() is None


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"tracked": True}])
@pytest.mark.parametrize("kind", ["one", "several", "async"])
def test_what_interrupts_the_telling_of_a_failure_leaves_no_cycle(
    kind: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def interrupts(**named: Any) -> None:
        raise KeyboardInterrupt

    def fails(**named: Any) -> None:
        raise Boom

    async def fails_on_loop(**named: Any) -> None:
        raise Boom

    caplog.set_level(logging.CRITICAL, "tsignals")
    with WorkerPool(1) as pool, receiver_failed.connect(interrupts):
        signal, sender = Signal(executor=pool), Thing()
        for n in range(2 if kind == "several" else 1):
            receiver = fails_on_loop if kind == "async" else fails
            signal.connect(receiver, dispatch_uid=f"{n}", **options)
        sent = weakref.ref(sender)
        with uncollected():
            assert signal.send_async(sender).wait(TIMEOUT)
            del sender
            wait_until(lambda: sent() is None)


@pytest.mark.parametrize("count", [1, 3])
def test_fan_out_that_is_interrupted_after_it_has_run_leaves_the_pool(count: int) -> None:
    world, ran = World(), list[int]()
    signal = Signal(executor=world.pool)
    for n in range(count):
        signal.connect(lambda n=n, **named: ran.append(n), weak=False)

    def let_run() -> None:
        wait_until(lambda: len(ran) == count and not inside.unresolved(world.pool))
        world.hold()  # or the worker would find the entry that is queued once more

    interrupt_next_send(world.pool, let_run)
    with pytest.raises(KeyboardInterrupt):
        signal.send_async(None)
    assert [*inside.unresolved(world.pool)] == world.futures
    world.gate.opened.set()
    assert world.pool.drain(TIMEOUT)
    assert ran == [*range(count)]


@pytest.mark.parametrize("count", [2, 3])
def test_fan_out_that_runs_while_its_interrupted_sender_looks_for_it_is_left_whole(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It has been queued, and queued once more, before the sender looks whether it was."""
    world, ran, looks, meanwhile = World().hold(), list[int](), list[object](), Latch()
    signal = Signal(executor=world.pool)
    for n in range(count):
        signal.connect(lambda n=n, **named: ran.append(n), weak=False)

    class Late(dict[Any, None]):
        def __contains__(self, entry: object) -> bool:
            looks.append(entry)
            if len(looks) == 2:  # the first is that of what makes good
                world.gate.opened.set()
                assert meanwhile.entered.wait(TIMEOUT)
            return super().__contains__(entry)

    def replace_and_follow() -> None:
        inside.replace_unresolved(world.pool, Late)
        world.pool.submit(meanwhile)  # between the two

    interrupt_next_send(world.pool, replace_and_follow)
    with pytest.raises(KeyboardInterrupt):
        signal.send_async(None)
    assert len(looks) >= 2
    meanwhile.opened.set()
    assert world.pool.drain(TIMEOUT)
    assert ran == [*range(count)]
    world.pool.shutdown()
    assert caplog.records == []
    assert not inside.unresolved(world.pool)


def test_interrupt_of_a_change_that_another_has_overtaken_leaves_that_one_alone() -> None:
    world = World()
    inside.let_another_come_first(world.pool, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        submit(world)
    assert world.pool.stats()[2:9] == (0, 0, 1, 0, 0, 0, 1)
    submit(world)
    world.check()
    assert world.ran == [7]
    assert world.pool.stats()[2:9] == (0, 0, 2, 1, 0, 0, 1)


def test_interrupt_that_had_to_wait_is_raised_in_the_thread_that_it_befell() -> None:
    world = World()
    waiting, others = threading.Event(), threading.Event()

    def befallen() -> None:
        inside.defer(world.pool, KeyboardInterrupt())
        waiting.set()
        assert others.wait(TIMEOUT)
        with pytest.raises(KeyboardInterrupt):
            submit(world)

    thread = Running(befallen)
    assert waiting.wait(TIMEOUT)
    submit(world)
    assert world.pool.submit(int).result(TIMEOUT) == 0
    others.set()
    thread.result()
    world.check()
    assert world.ran == [7, 7]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
@pytest.mark.parametrize("ask", ["send", "receivers"])
def test_look_that_is_interrupted_keeps_nobody_alive_who_connects_later(ask: str) -> None:
    at, raised = 0, True
    while raised:
        at += 1
        signal, mortal, doomed = Signal(name="watched"), Ear(), list[Ear]()

        class Trap:
            """A weak reference in the middle of which another dies."""

            def __call__(self, doomed: list[Ear] = doomed) -> Any:
                doomed.clear()
                return ignore

        inside.connect_reference(signal, Trap())
        signal.connect(mortal)
        inside.look_at(signal)
        doomed.append(mortal)
        del mortal
        with Interrupter(at) as interrupter:
            signal.send(None) if ask == "send" else signal.receivers
        raised = interrupter.raised
        late = Ear()
        signal.connect(late)
        reference = weakref.ref(late)
        del late
        assert reference() is None, f"at point {at}, {interrupter.where}"
    assert at > 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
@pytest.mark.parametrize("verb", ["send", "send_robust", "send_async"])
def test_tracked_receiver_is_left_wherever_its_send_is_interrupted(verb: str) -> None:
    class AtOnce(concurrent.futures.Executor):
        def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
            future = concurrent.futures.Future[Any]()
            future.set_result(function(*arguments, **named))
            return future

    at, raised = 0, True
    while raised:
        at += 1
        signal = Signal(name="tracked", executor=AtOnce())
        connection = signal.connect(ignore, tracked=True)
        with Interrupter(at) as interrupter:
            getattr(signal, verb)(None)
        raised = interrupter.raised
        if interrupter.where.startswith("Condition."):
            continue  # the standard future's lock may stay held
        try:
            # In another thread: this one would not wait for a call of its own.
            assert Running(connection.disconnect, wait=TIMEOUT).result(2 * TIMEOUT)
        except TimeoutError:
            pytest.fail(f"at point {at}, {interrupter.where}: it counts as running")
    assert at > 1


def test_what_is_run_while_its_sender_is_interrupted_is_not_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was still waiting at one look of the sender's, and gone at the next."""
    publish, released = inside.QUEUE_IT.now, list[bool]()

    class Late(dict[Any, None]):
        def __contains__(self, work: object) -> bool:
            if not released:
                released.append(True)
                gate.opened.set()
                wait_until(lambda: not super(Late, self).__contains__(work))
            return super().__contains__(work)

    def interrupted(*arguments: Any) -> None:
        inside.QUEUE_IT.patch(monkeypatch, publish)
        publish(*arguments)
        raise KeyboardInterrupt

    with WorkerPool(1) as pool:
        gate, ran = Latch(), list[int]()
        held = pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        inside.replace_unresolved(pool, Late)
        inside.QUEUE_IT.patch(monkeypatch, interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.submit(ran.append, 1)
        assert released
        assert held.result(TIMEOUT) == "through"
        assert pool.drain(TIMEOUT)
        assert ran == [1]
        assert pool.stats()[2:9] == (0, 0, 2, 2, 0, 0, 0)


AFTER: dict[str, str] = {
    "submit": "pool.submit(int)",
    "send_async": "plain.send_async(None)",
    "ordered": "ordered.send_async(None)",
    "async": "on_loop.send_async(None)",
    "asend": "asyncio.run(plain.asend(None))",
    "retry": "again.send_async(None)",
    "slow_after": "slow.send(None)",
}


@pytest.mark.parametrize("call", AFTER)
def test_interrupt_in_the_start_of_a_thread_leaves_no_lock_of_threading_held(call: str) -> None:
    """A handler raises as ``with lock`` has just taken it, as it may from CPython 3.14 on; only the
    main thread runs handlers.
    """
    done = run(
        f"""
        import _thread, asyncio, queue
        from tsignals import Retry, Signal, WorkerPool

        main, armed = threading.get_ident(), []

        class Interrupted:
            def __init__(self, lock):
                self.acquire, self.release = lock.acquire, lock.release

            def __enter__(self):
                self.acquire()
                if armed and threading.get_ident() == main:
                    armed.pop()
                    raise KeyboardInterrupt  # and there is no exit from what was not entered

            def __exit__(self, *error):
                self.release()

        threading._active_limbo_lock = Interrupted(threading._active_limbo_lock)

        async def hears(**named): ...

        pool = WorkerPool(2)
        os.environ["TSIGNALS_EXIT_SECONDS"] = "0"
        plain, ordered, on_loop = (Signal(executor=pool) for _ in range(3))
        plain.connect(lambda **named: None, weak=False)
        ordered.connect(lambda **named: None, weak=False, ordered=True)
        on_loop.connect(hears, weak=False)
        slow = Signal(slow_after=60)
        slow.connect(lambda **named: None, weak=False)
        full = WorkerPool(1, max_pending=1, overflow="caller_runs")  # this thread runs what comes
        go_on = threading.Event()
        held = [full.submit(go_on.wait, 20)]
        while full.stats().pending:
            time.sleep(0.001)
        held.append(full.submit(int))
        again = Signal(executor=full)
        again.connect(lambda **named: 1 / 0, weak=False, retry=Retry(ArithmeticError, attempts=2))
        armed.append(True)
        try:
            {AFTER[call]}
        except KeyboardInterrupt:
            pass
        armed.clear()
        lock, found = threading._active_limbo_lock, queue.SimpleQueue()

        def take():  # not in the main thread, which may take it again
            found.put(lock.acquire(timeout=3) and not lock.release())

        _thread.start_new_thread(take, ())
        assert found.get(timeout=20), "it is held"
        for send in (plain, ordered, on_loop):
            assert send.send_async(None).wait(10)
        assert pool.submit(int).result(10) == 0
        threading.Thread(target=int).start()
        go_on.set()
        assert pool.drain(10) and full.drain(10)
        pool.shutdown()
        print("all has run")
        """
    )
    assert (done.stdout, done.returncode) == ("all has run\n", 0), done.stderr


# A handler that waits

WAITS: dict[str, Callable[[WorkerPool, Any], Any]] = {
    "result": lambda pool, future: future.result(TIMEOUT),
    "exception": lambda pool, future: future.exception(TIMEOUT),
    "a full queue": lambda pool, future: pool.submit(int),
    "drain": lambda pool, future: pool.drain(TIMEOUT),
    "shutdown": lambda pool, future: pool.shutdown(),
    "wait": lambda pool, future: concurrent.futures.wait([future], TIMEOUT),
    "as_completed": lambda pool, future: list(concurrent.futures.as_completed([future], TIMEOUT)),
    "disconnect": lambda pool, future: disconnect_and_wait(),
}


def disconnect_and_wait() -> None:
    signal = Signal()
    connection = signal.connect(lambda **named: None, weak=False, tracked=True)
    try:
        connection.disconnect(wait=TIMEOUT)
    finally:
        assert connection.connected


@pytest.mark.parametrize("wait", WAITS)
def test_handler_cannot_wait_for_what_it_has_interrupted(
    wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that is admitted and not yet queued; nothing is changed by trying."""
    publish, refused = inside.QUEUE_IT.now, list[str]()

    def handler(*_: object) -> None:
        before = pool.stats()
        with pytest.raises(RuntimeError, match="finalizer or signal handler") as caught:
            WAITS[wait](pool, waiting)
        refused.append(str(caught.value))
        assert pool.stats() == before

    def interrupted(engine: Any, works: Any, *arguments: Any) -> None:
        signals.raise_signal(signals.SIGINT)
        publish(engine, works, *arguments)

    with WorkerPool(1, max_pending=2) as pool:
        with held(pool):
            waiting = pool.submit(int)
            former = signals.signal(signals.SIGINT, handler)
            try:
                with monkeypatch.context() as patch:
                    inside.QUEUE_IT.patch(patch, interrupted)
                    sent = pool.submit(int)
            finally:
                signals.signal(signals.SIGINT, former)
            assert len(refused) == 1
            assert (waiting.done(), sent.done()) == (False, False)
        assert sent.result(TIMEOUT) == waiting.result(TIMEOUT) == 0
        assert pool.submit(int).result(TIMEOUT) == 0


@pytest.mark.parametrize(
    "case",
    [
        "submit to a new pool",
        "submit to an idle worker",
        "send to a new pool",
        "send, caller runs",
        "caller runs a lane",
        "cancel",
        "cancel all",
        "cancel and shut down",
    ],
)
def test_handler_that_waits_for_what_it_has_interrupted_is_refused_at_any_point(case: str) -> None:
    """It may wait before anything was admitted, and once all is queued."""
    make, act = CASES[case]
    world = make()
    with Handler(0, ignore) as handler:
        act(world)
    world.check()
    step = STRIDE * (1 + handler.points // MOST)
    at, reached, refused = FIRST, True, 0
    while reached:
        world, answers = make(), list[Any]()

        def drains() -> None:
            world.gate.opened.set()  # only what this thread keeps back keeps it from quiet
            try:
                answers.append(world.pool.drain(TIMEOUT))
            except RuntimeError as error:
                answers.append(error)

        with Handler(at, drains) as handler:
            act(world)
        reached = handler.reached
        assert answers in ([], [True]) or isinstance(answers[0], RuntimeError), handler.where
        refused += bool(answers) and answers[0] is not True
        world.check()
        at += step
    assert refused * STRIDE > 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("wait", ["a full queue", "drain"])
def test_handler_cannot_wait_where_its_own_thread_waits_for_room(wait: str) -> None:
    """It stands behind that thread, which goes on only after it."""
    answers = list[Any]()

    def handle() -> None:
        try:
            answers.append(WAITS[wait](pool, waiting))
        except Exception as error:
            answers.append(error)
        finally:
            gate.opened.set()

    with WorkerPool(1, max_pending=1, block_timeout=TIMEOUT) as pool, held(pool) as gate:
        waiting = pool.submit(int)
        with handled(handle, lambda: inside.blocked_senders(pool)):
            sent = pool.submit(int)
        assert [type(answer) for answer in answers] == [RuntimeError]
        assert sent.result(TIMEOUT) == waiting.result(TIMEOUT) == 0
        assert pool.stats().submitted == 3


# What all of this rests on


class _Noted:
    stage = 0


@pytest.mark.skipif(not hasattr(signals, "setitimer"), reason="the system has no timers")
def test_no_signal_comes_between_a_return_and_the_store_of_its_value() -> None:
    """What a function has done as its last step, its caller has noted, or neither has happened."""
    done, noted, interrupts = [0], _Noted(), 0

    def step() -> int:
        at = done[0] + 1
        done[0] = at
        return at

    def interrupt(*details: object) -> None:
        raise Boom

    def many() -> None:
        while True:
            noted.stage = step()

    former = signals.signal(signals.SIGALRM, interrupt)
    try:
        for _ in range(2000):
            try:
                signals.setitimer(signals.ITIMER_REAL, 1e-4 + interrupts % 97 * 1e-6)
                many()
            except Boom:
                interrupts += 1
            assert noted.stage == done[0], f"after {interrupts} interrupts"
    finally:
        signals.setitimer(signals.ITIMER_REAL, 0)
        signals.signal(signals.SIGALRM, former)
    assert interrupts == 2000


@pytest.mark.skipif(not hasattr(signals, "setitimer"), reason="the system has no timers")
def test_no_signal_comes_between_an_operator_and_the_store_that_follows() -> None:
    """So who has put a version of a pool's state in place has also made it the current one."""
    current, interrupts = _Noted(), 0
    successors: list[int] = []

    def interrupt(*details: object) -> None:
        raise Boom

    def many() -> None:
        last = successors
        while True:
            last += (len(last),)
            current.stage = last[-1]

    former = signals.signal(signals.SIGALRM, interrupt)
    try:
        for _ in range(2000):
            successors[:] = [current.stage]
            try:
                signals.setitimer(signals.ITIMER_REAL, 1e-4 + interrupts % 97 * 1e-6)
                many()
            except Boom:
                interrupts += 1
            assert current.stage == successors[-1], f"after {interrupts} interrupts"
    finally:
        signals.setitimer(signals.ITIMER_REAL, 0)
        signals.signal(signals.SIGALRM, former)
    assert interrupts == 2000


@pytest.mark.skipif(not hasattr(signals, "setitimer"), reason="there are no timers")
def test_thread_that_is_taken_for_an_asend_does_not_wait_for_ever() -> None:
    done = run(
        """
        import inside

        inside.end_idle_threads_soon(0.05)

        class Interrupt(Exception):
            pass

        armed = []

        def handler(*details):
            if armed:
                armed.clear()
                raise Interrupt

        signal.signal(signal.SIGALRM, handler)
        end = time.monotonic() + 3
        n = 0
        while time.monotonic() < end:
            n += 1
            try:
                armed.append(True)
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + n % 7))
                for _ in range(3):
                    inside.run_in_cached_thread(int, int)
                for _ in range(200):
                    pass
                armed.clear()
            except Interrupt:
                pass
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        end = time.monotonic() + 20
        while len(left := threading.enumerate()) > 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(left) == 1, left
        """
    )
    assert done.returncode == 0, done.stderr
