"""asend and asend_robust: sync receivers as one group on a thread, then the async ones together."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import inspect
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import inside
import processes
import pytest
from event_loops import (
    CANCELLED,
    STRAYS,
    AsyncLatch,
    async_kinds,
    async_raiser,
    every_loop,
    ignores,
    run,
    until,
)
from helpers import (
    TIMEOUT,
    BaseBoom,
    Boom,
    Ear,
    Equal,
    Latch,
    Running,
    Thing,
    assert_gone,
    gil_is_on,
    ignore,
    quiet,
    raiser,
    together,
    uncollected,
    wait_until,
)
from pools import told

from tsignals import (
    Outcomes,
    Signal,
    WorkerPool,
    receiver_failed,
    set_default_executor,
    set_sync_runner,
)

__all__ = ["every_loop"]

every_verb = pytest.mark.parametrize("verb", ["asend", "asend_robust"])


def send(signal: Signal, verb: str, sender: object = None, /, **named: Any) -> Any:
    """What ``await signal.verb(sender, **named)`` gives on an event loop of its own."""
    return run(getattr(signal, verb)(sender, **named))


def responses(pairs: Any) -> list[Any]:
    return [response for _, response in pairs]


# The result


@every_verb
def test_sync_receivers_come_first_then_the_async_ones_each_in_call_order(verb: str) -> None:
    signal, ears = Signal(), [Ear(f"ear {n}", response=n) for n in range(3)]
    first, second = async_kinds()["coroutine function"], async_kinds()["object"]
    signal.connect(first)
    signal.connect(ears[0])
    signal.connect(second, priority=1)
    signal.connect(ears[1])
    signal.connect(ears[2].hear, priority=1)
    pairs = send(signal, verb, n="n")
    assert pairs == [(ears[2].hear, 2), (ears[0], 0), (ears[1], 1), (second, "n"), (first, "n")]
    assert type(pairs) is (list if verb == "asend" else Outcomes)


@every_verb
def test_receivers_are_told_signal_sender_and_values(verb: str) -> None:
    signal, sender, ear, heard = Signal(), Thing(), Ear(), list[dict[str, Any]]()

    async def hears(**named: Any) -> None:
        heard.append(named)

    signal.connect(ear)
    signal.connect(hears, sender=sender)
    send(signal, verb, sender, self=1, live=2)
    told = {"signal": signal, "sender": sender, "self": 1, "live": 2}
    assert (ear.calls, heard) == ([told], [told])
    assert len(send(signal, verb)) == 1


@every_verb
def test_value_named_signal_is_refused_before_any_receiver_runs(verb: str) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    signal.connect(ignores)
    with pytest.raises(TypeError, match="signal"):
        send(signal, verb, signal=1)
    assert ear.calls == []


@pytest.mark.parametrize(("verb", "kind"), [("asend", list), ("asend_robust", Outcomes)])
def test_to_nobody_it_needs_no_event_loop(verb: str, kind: type) -> None:
    sending = getattr(Signal(), verb)(None)
    with pytest.raises(StopIteration) as ended:
        sending.send(None)
    assert ended.value.value == []
    assert type(ended.value.value) is kind


@every_verb
def test_works_on_the_connections_as_they_were_when_it_started(verb: str) -> None:
    signal, late = Signal(), Ear()

    def changes(**named: Any) -> None:
        signal.connect(late)
        signal.connect(ignores)
        gone.disconnect()

    async def stays(**named: Any) -> str:
        return "called once more"

    signal.connect(changes)
    gone = signal.connect(stays)
    assert send(signal, verb) == [(changes, None), (stays, "called once more")]
    assert [receiver for receiver, _ in send(signal, verb)] == [changes, late, ignores]


@every_verb
def test_weakly_held_async_receivers_die_as_others_do(verb: str) -> None:
    signal, gate = Signal(), AsyncLatch()
    gate.opened.set()
    signal.connect(gate)
    assert responses(send(signal, verb)) == ["through"]
    reference = weakref.ref(gate)
    del gate
    assert_gone(reference)
    assert (send(signal, verb), signal.receivers) == ([], [])


# What is async


@every_verb
@pytest.mark.parametrize("kind", async_kinds())
def test_what_is_defined_as_async_is_awaited(verb: str, kind: str) -> None:
    signal, receiver = Signal(), async_kinds()[kind]
    signal.connect(receiver, weak=False)
    assert send(signal, verb, n=7) == [(receiver, 7)]


@every_verb
def test_sync_receiver_that_returns_an_awaitable_is_not_guessed_at(verb: str) -> None:
    signal = Signal()

    class Later:
        def __await__(self) -> Any:
            raise AssertionError("awaited")

    later = Later()

    def returns(**named: Any) -> Later:
        return later

    signal.connect(returns)
    assert send(signal, verb) == [(returns, later)]


# Threads


@every_verb
def test_sync_receivers_run_as_one_group_on_a_thread_without_a_loop(verb: str) -> None:
    signal, threads = Signal(), list[int]()

    def hears(**named: Any) -> None:
        threads.append(threading.get_ident())
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        asyncio.run(asyncio.sleep(0))  # one can be run there

    others = [lambda **named: hears() for _ in range(3)]
    for receiver in (hears, *others):
        signal.connect(receiver)
    assert len(send(signal, verb)) == 4
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


@every_verb
def test_async_receivers_run_on_the_senders_loop(verb: str) -> None:
    signal = Signal()

    async def hears(**named: Any) -> Any:
        return asyncio.get_running_loop(), threading.get_ident()

    signal.connect(ignore)
    signal.connect(hears)

    async def main() -> None:
        here = asyncio.get_running_loop(), threading.get_ident()
        assert responses(await getattr(signal, verb)(None)) == [None, here]

    run(main())


@every_verb
def test_loop_goes_on_while_sync_receivers_run(verb: str) -> None:
    signal, gate = Signal(), Latch()
    signal.connect(gate)

    async def main() -> None:
        sending = asyncio.ensure_future(getattr(signal, verb)(None))
        await until(gate.entered)
        gate.opened.set()
        assert responses(await sending) == ["through"]

    run(main())


@pytest.mark.slow
@every_verb
def test_no_limit_holds_up_sync_receivers(verb: str) -> None:
    """As many as no executor would run at once meet."""
    signal, meeting = Signal(), threading.Barrier(80)

    def meets(**named: Any) -> bool:
        return meeting.wait(TIMEOUT) >= 0

    signal.connect(meets)

    async def main() -> None:
        sends = (getattr(signal, verb)(None) for _ in range(80))
        assert await asyncio.gather(*sends) == [[(meets, True)]] * 80

    run(main())


def test_thread_is_used_again_rather_than_another_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal, threads = Signal(), set[threading.Thread]()
    signal.connect(lambda **named: threads.add(threading.current_thread()), weak=False)

    async def main() -> None:
        for _ in range(10):
            await signal.asend(None)

    with monkeypatch.context() as patched:
        inside.PATIENCE_OF_THREADS.patch(patched, TIMEOUT)  # or it goes where a send comes late
        run(main())
    assert len(threads) == 1
    run(main())  # after which it does not wait so long


def test_thread_that_is_about_to_end_stays_for_who_has_taken_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving, taken = threading.Event(), threading.Event()

    class Idle(dict[Any, None]):
        """The thread steps back between its last look and its leaving."""

        def pop(self, *arguments: Any) -> Any:
            leaving.set()
            assert taken.wait(TIMEOUT)
            return super().pop(*arguments)

        def popitem(self) -> Any:
            found = super().popitem()
            taken.set()
            return found

    inside.IDLE_THREADS.patch(monkeypatch, Idle())
    signal = Signal()
    signal.connect(lambda **named: threading.current_thread(), weak=False)
    [first] = responses(send(signal, "asend"))
    assert leaving.wait(TIMEOUT)
    [second] = responses(send(signal, "asend"))
    assert second is first


@every_verb
def test_async_receivers_run_together(verb: str) -> None:
    signal = Signal()

    async def main() -> None:
        ready = [asyncio.Event(), asyncio.Event()]

        async def first(**named: Any) -> str:
            ready[0].set()
            await ready[1].wait()
            return "first"

        async def second(**named: Any) -> str:
            ready[1].set()
            await ready[0].wait()
            return "second"

        signal.connect(first)
        signal.connect(second)
        assert responses(await getattr(signal, verb)(None)) == ["first", "second"]

    run(main())


@every_verb
def test_loops_of_several_threads_send_one_signal_at_once(verb: str) -> None:
    signal, gates = Signal(), [Latch() for _ in range(4)]

    def meets(n: int, **named: Any) -> int:
        gates[n].entered.set()
        assert all(gate.entered.wait(TIMEOUT) for gate in gates)
        return n

    async def hears(n: int, **named: Any) -> tuple[int, int]:
        await asyncio.sleep(0)
        return n, threading.get_ident()

    signal.connect(meets)
    signal.connect(hears)

    def sends(n: int) -> Callable[[], list[Any]]:
        return lambda: [*responses(send(signal, verb, n=n)), threading.get_ident()]

    results = together(*map(sends, range(4)))
    assert [(a, b) for a, b, _ in results] == [(n, (n, me)) for n, (_, _, me) in enumerate(results)]


def start_eagerly() -> None:
    loop = asyncio.get_running_loop()
    if not hasattr(asyncio, "eager_task_factory") or type(loop).__module__.startswith("uvloop"):
        pytest.skip("this event loop cannot")
    loop.set_task_factory(asyncio.eager_task_factory)


@every_verb
def test_tasks_may_start_eagerly(verb: str) -> None:
    signal, gate = Signal(), AsyncLatch()
    gate.opened.set()
    for receiver in (ignore, ignores, gate):
        signal.connect(receiver)

    async def main() -> None:
        start_eagerly()
        assert responses(await getattr(signal, verb)(None)) == [None, None, "through"]

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="task groups of 3.12 then cancel who sends")
def test_eager_task_that_fails_at_once_is_the_last_to_start() -> None:
    signal, raising, after = Signal(), async_raiser(Boom("eager")), AsyncLatch()
    signal.connect(ignores)
    signal.connect(raising)
    signal.connect(after)

    async def main() -> None:
        start_eagerly()
        with pytest.raises(Boom, match="eager"):
            await signal.asend(None)

    run(main())
    assert after.calls == 0


@every_verb
def test_receivers_may_send_in_turn(verb: str) -> None:
    signal, inner = Signal(), Signal()
    inner.connect(ignore)
    inner.connect(ignores)

    async def sends(**named: Any) -> Any:
        return await getattr(inner, verb)(None)

    def runs(**named: Any) -> Any:
        return asyncio.run(getattr(inner, verb)(None))

    def sends_here(**named: Any) -> Any:
        return inner.send(None)

    for receiver in (sends, runs, sends_here):
        signal.connect(receiver)
    assert responses(send(signal, verb)) == [[(ignore, None), (ignores, None)]] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_works_in_a_forked_child() -> None:
    """There, no thread that waits for work is left."""
    signal = Signal()
    signal.connect(ignore)
    send(signal, "asend")

    def child() -> None:
        assert send(signal, "asend") == [(ignore, None)]

    assert processes.forked(child) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_sync_receiver_that_forks_goes_on_in_the_parent() -> None:
    """In the child its thread is the only one, and ends with it."""
    signal, pids = Signal(), list[int]()

    def forks(**named: Any) -> str:
        pid = os.fork()
        if pid == 0:
            return "in the child"
        pids.append(pid)
        return "in the parent"

    signal.connect(forks)
    assert responses(send(signal, "asend")) == ["in the parent"]
    os.waitpid(pids[0], 0)
    assert responses(send(signal, "asend")) == ["in the parent"]
    os.waitpid(pids[1], 0)


# What is around sync receivers


class Connections:
    """An ``around``: opens a connection for each call, and notes what is done with it."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.here = contextvars.ContextVar[str]("here", default="outside")

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        self.steps.append("open")
        token = self.here.set("inside")
        try:
            yield
        finally:
            self.here.reset(token)
            self.steps.append("close")

    def hear(self, **named: Any) -> None:
        self.steps.append(f"heard {self.here.get()}")

    async def hear_async(self, **named: Any) -> None:
        self.hear(**named)


@pytest.mark.parametrize("whose", ["signal's", "default"])
@every_verb
def test_sync_receivers_run_each_inside_the_around_of_the_pool_that_send_async_would_use(
    verb: str, whose: str
) -> None:
    ours, others, signal = Connections(), Connections(), Signal()
    signal.connect(ours.hear)
    signal.connect(first := functools.partial(ours.hear))
    signal.connect(ours.hear_async, priority=1)
    with WorkerPool(1, around=ours.around) as pool, WorkerPool(1, around=others.around) as other:
        former = set_default_executor(other if whose == "signal's" else pool)
        try:
            if whose == "signal's":
                signal.executor = pool
            send(signal, verb)
        finally:
            set_default_executor(former)
        assert pool.stats().submitted == 0  # it is not run there
    once = ["open", "heard inside", "close"]
    assert ours.steps == [*once, *once, "heard outside"]
    assert others.steps == []
    del first


@every_verb
def test_nothing_is_around_where_there_is_no_pool_and_none_is_made(verb: str) -> None:
    ear, signal = Ear(), Signal()
    signal.connect(ear)
    former = set_default_executor(None)
    try:
        before = inside.pools()
        send(signal, verb)
        assert inside.pools() <= before
        with ThreadPoolExecutor(1) as signal.executor:
            send(signal, verb)
    finally:
        set_default_executor(former)
    assert len(ear.calls) == 2


@pytest.mark.parametrize("verb", ["send", "send_robust"])
def test_nothing_is_around_what_runs_where_it_is_sent(verb: str) -> None:
    connections, signal = Connections(), Signal()
    signal.connect(connections.hear)
    with WorkerPool(1, around=connections.around) as signal.executor:
        getattr(signal, verb)(None)
    assert connections.steps == ["heard outside"]


@every_verb
def test_around_that_fails_is_that_receivers_failure(verb: str) -> None:
    error, ear, signal = Boom(), Ear(), Signal()
    entered = list[None]()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        entered.append(None)
        if len(entered) == 1:
            raise error
        yield

    signal.connect(ignore)
    signal.connect(ear)
    with WorkerPool(1, around=around) as signal.executor, told() as hears:
        if verb == "asend":
            with pytest.raises(Boom) as raised:
                send(signal, verb)
            assert raised.value is error
            assert (ear.calls, hears.errors) == ([], [])
        else:
            outcomes = send(signal, verb)
            assert outcomes.errors == [(ignore, error)]
            assert (len(ear.calls), hears.errors) == (1, [error])


@every_verb
def test_nothing_is_around_a_tracked_receiver_that_is_not_called(verb: str) -> None:
    connections, signal = Connections(), Signal()

    def disconnects(**named: Any) -> None:
        connection.disconnect(wait=True)

    signal.connect(disconnects)
    connection = signal.connect(connections.hear, tracked=True)
    with WorkerPool(1, around=connections.around) as signal.executor:
        assert len(send(signal, verb)) == 1
    assert connections.steps == ["open", "close"]


# Context variables

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
other: contextvars.ContextVar[Any] = contextvars.ContextVar("other")


@every_verb
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_variables_that_receivers_set_are_set_for_the_sender(verb: str, kind: str) -> None:
    signal = Signal()

    def sets(**named: Any) -> None:
        variable.set((*variable.get(), "sync"))
        other.set("new")

    async def sets_too(**named: Any) -> None:
        sets()

    signal.connect(sets if kind == "sync" else sets_too)

    async def main() -> None:
        variable.set(("sender",))
        await getattr(signal, verb)(None)
        assert (variable.get(), other.get()) == (("sender", "sync"), "new")

    run(main())


@every_verb
def test_receivers_share_one_context(verb: str) -> None:
    signal = Signal()

    def first(**named: Any) -> None:
        variable.set("first")

    async def second(**named: Any) -> None:
        assert variable.get() == "first"
        variable.set("second")

    async def third(**named: Any) -> None:
        assert variable.get() == "second"

    for receiver in (first, second, third):
        signal.connect(receiver)
    assert len(send(signal, verb)) == 3


@every_verb
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_variables_are_compared_by_identity(verb: str, kind: str) -> None:
    signal, old, new = Signal(), Equal("old"), Equal("new")

    def sets(**named: Any) -> None:
        variable.set(new)

    async def sets_too(**named: Any) -> None:
        sets()

    signal.connect(sets if kind == "sync" else sets_too)

    async def main() -> None:
        variable.set(old)
        await getattr(signal, verb)(None)
        assert variable.get() is new

    run(main())


@every_verb
def test_unsetting_is_not_carried(verb: str) -> None:
    signal = Signal()
    token = list[contextvars.Token[Any]]()

    async def resets(**named: Any) -> None:
        token.append(other.set("set"))
        other.reset(token[0])

    signal.connect(resets)

    async def main() -> None:
        other.set("sender's")
        await getattr(signal, verb)(None)
        assert other.get() == "sender's"

    run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_variables_are_set_although_a_receiver_fails(kind: str) -> None:
    signal = Signal()

    def sets(**named: Any) -> None:
        variable.set("set")
        raise Boom

    async def sets_too(**named: Any) -> None:
        sets()

    signal.connect(sets if kind == "sync" else sets_too)

    async def main() -> None:
        variable.set("sender's")
        with pytest.raises(Boom):
            await signal.asend(None)
        assert variable.get() == "set"

    run(main())


@every_verb
def test_only_what_receivers_set_is_set(verb: str) -> None:
    """Two senders share a context; one must not undo meanwhile what the other has set."""
    signal, outer = Signal(), Signal()

    async def main() -> None:
        sent, changed = asyncio.Event(), asyncio.Event()

        async def waits(**named: Any) -> None:
            sent.set()
            await changed.wait()

        async def sends(**named: Any) -> None:
            await getattr(signal, verb)(None)
            assert variable.get() == "changed meanwhile"

        async def changes(**named: Any) -> None:
            await sent.wait()
            variable.set("changed meanwhile")
            changed.set()

        signal.connect(waits)
        outer.connect(sends)
        outer.connect(changes)
        variable.set("before")
        await getattr(outer, verb)(None)
        assert variable.get() == "changed meanwhile"

    run(main())


# Errors


@pytest.mark.parametrize("error", [Boom(), BaseBoom()])
def test_first_sync_error_propagates_and_the_rest_is_not_called(error: BaseException) -> None:
    signal, ear, raising, gate = Signal(), Ear(), raiser(error), AsyncLatch()
    signal.connect(raising)
    signal.connect(ear)
    signal.connect(gate)
    with pytest.raises(type(error)) as caught:
        send(signal, "asend")
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert (ear.calls, gate.calls) == ([], 0)


@pytest.mark.parametrize("error", [Boom(), BaseBoom(), ExceptionGroup("own", [Boom()])])
def test_single_failing_async_receiver_raises_its_own_error(error: BaseException) -> None:
    """Also when it is a group; the others are cancelled and awaited."""
    signal, gate = Signal(), AsyncLatch()

    async def raises(**named: Any) -> None:
        await until(gate.entered)
        raise error

    signal.connect(gate)
    signal.connect(raises)
    with pytest.raises(type(error)) as caught:
        send(signal, "asend")
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert gate.cancelled.is_set()


def test_several_failing_async_receivers_raise_a_group() -> None:
    signal, errors = Signal(), [Boom("first"), Boom("second"), ValueError("third")]

    async def fails_when_cancelled(**named: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise errors[2] from None

    raising = [async_raiser(errors[0]), async_raiser(errors[1]), fails_when_cancelled]
    for receiver in raising:
        signal.connect(receiver)
    with pytest.raises(ExceptionGroup, match="3 receivers failed") as caught:
        send(signal, "asend")
    assert list(caught.value.exceptions) == errors


def test_group_with_what_is_no_exception_is_a_base_exception_group() -> None:
    signal, errors = Signal(), [Boom(), BaseBoom()]
    raising = [async_raiser(error) for error in errors]
    for receiver in raising:
        signal.connect(receiver)
    with pytest.raises(BaseExceptionGroup) as caught:
        send(signal, "asend")
    assert list(caught.value.exceptions) == errors
    assert not isinstance(caught.value, ExceptionGroup)


@pytest.fixture(
    params=[
        None,
        pytest.param(
            "eager_task_factory",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="needs Python 3.12"),
        ),
    ]
)
def factory(request: pytest.FixtureRequest) -> Any:
    """How the loop of a test is to make its tasks."""
    if request.param is None:
        return None
    factory = getattr(asyncio, request.param)
    if "uvloop" in asyncio.new_event_loop.__module__:
        try:
            inspect.signature(factory).bind(None, None, eager_start=True)
        except TypeError:
            pytest.skip("uvloop gives it what it does not take before Python 3.13.3")
    return factory


def undisturbed() -> bool:
    """Whether the sender is alone and not cancelled."""
    task = asyncio.current_task()
    assert task is not None
    return asyncio.all_tasks() == {task} and task.cancelling() == 0


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("tracked", [False, True])
def test_cancellation_that_nobody_asked_for_is_raised_as_any_error(
    stray: str, tracked: bool, factory: Any
) -> None:
    """The others are cancelled and awaited, and the sender is not cancelled."""
    signal, gate = Signal(), AsyncLatch()
    signal.connect(gate)
    signal.connect(STRAYS[stray], weak=False, tracked=tracked)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        with pytest.raises(CANCELLED) as caught:
            await signal.asend(None)
        if "by hand" in stray:
            assert caught.value.args == ("by hand",)
        assert gate.cancelled.is_set() or not gate.entered.is_set()
        await asyncio.sleep(0)
        assert undisturbed()

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("tracked", [False, True])
def test_asend_robust_collects_it_with_all_other_outcomes(
    stray: str, tracked: bool, factory: Any
) -> None:
    signal, ear, gate, opened = Signal(), Ear(response="heard"), AsyncLatch(), list[bool]()
    connection = signal.connect(STRAYS[stray], weak=False, tracked=tracked)
    signal.connect(ear)
    signal.connect(gate)

    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(factory)
        failed.connect(lambda **_: opened.append(True) or gate.opened.set(), weak=False)
        outcomes = await signal.asend_robust(None)
        await asyncio.sleep(0)
        assert undisturbed()
        return outcomes

    failed = Signal()
    with told() as hears, receiver_failed.connect(lambda **_: failed.send(None), weak=False):
        outcomes = run(main())
    [(receiver, error)] = outcomes.errors
    assert isinstance(error, CANCELLED)
    assert receiver is connection.receiver
    assert outcomes == [(ear, "heard"), (receiver, error), (gate, "through")]
    assert [(f.exception, f.mode) for f in hears.failures] == [(error, "asend_robust")]
    assert opened == [True]


@every_verb
def test_error_of_a_task_factory_is_raised_and_leaves_nobody_running(verb: str) -> None:
    signal, first, second = Signal(), AsyncLatch(), AsyncLatch()
    signal.connect(first)
    signal.connect(second)
    error, made = Boom(), list[Any]()

    def factory(loop: Any, coroutine: Any, **given: Any) -> Any:
        made.append(coroutine)
        if len(made) > 1:
            raise error
        return asyncio.Task(coroutine, loop=loop, **given)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        with pytest.raises(Boom) as caught:
            await getattr(signal, verb)(None)
        loop.set_task_factory(None)
        assert caught.value is error
        assert undisturbed()

    run(main())
    assert second.calls == 0


def test_several_cancellations_are_raised_as_a_group() -> None:
    signal, errors = Signal(), [asyncio.CancelledError("first"), Boom("second")]
    for error in errors:
        signal.connect(async_raiser(error), weak=False)
    with pytest.raises(BaseExceptionGroup, match="2 receivers failed") as caught:
        send(signal, "asend")
    assert list(caught.value.exceptions) == errors


@pytest.mark.parametrize("error", [asyncio.CancelledError(), concurrent.futures.CancelledError()])
def test_sync_receivers_cancellation_is_its_own_too(error: BaseException) -> None:
    signal, raising, ear = Signal(), raiser(error), Ear(response="heard")
    signal.connect(raising)
    signal.connect(ear)
    signal.connect(ignores)

    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await signal.asend(None)
        assert caught.value is error
        assert ear.calls == []
        with told() as hears:
            outcomes = await signal.asend_robust(None)
        assert outcomes == [(raising, error), (ear, "heard"), (ignores, None)]
        assert outcomes.errors == [(raising, error)]
        assert hears.errors == [error]
        assert undisturbed()

    run(main())


@every_verb
def test_receiver_whose_task_is_cancelled_by_another_before_it_begins_has_failed(
    verb: str,
) -> None:
    signal, gate = Signal(), AsyncLatch()

    async def main() -> None:
        sender = asyncio.current_task()

        async def cancels_all_others(**named: Any) -> None:
            for task in asyncio.all_tasks() - {sender, asyncio.current_task()}:
                task.cancel()

        signal.connect(cancels_all_others)
        signal.connect(gate)
        if verb == "asend":
            with pytest.raises(asyncio.CancelledError):
                await signal.asend(None)
        else:
            with told() as hears:
                outcomes = await signal.asend_robust(None)
            [(receiver, error)] = outcomes.errors
            assert outcomes == [(cancels_all_others, None), (receiver, error)]
            assert receiver is gate
            assert isinstance(error, asyncio.CancelledError)
            assert hears.errors == [error]
        assert undisturbed()

    # Without the timeout around, whose task would be cancelled, too.
    asyncio.run(main())
    assert gate.calls == 0


@pytest.mark.slow
@every_verb
@pytest.mark.parametrize("failing", ["raises it by hand", "Boom", None])
def test_cancelled_task_may_send_in_its_finally(
    verb: str, failing: str | None, factory: Any
) -> None:
    signal, ear, gate = Signal(), Ear(response="heard"), AsyncLatch()
    signal.connect(ear)
    gate.opened.set()
    signal.connect(gate)
    if failing is not None:
        raising = {**STRAYS, "Boom": async_raiser(Boom())}[failing]
        signal.connect(raising, weak=False)
    caught = list[BaseException]()
    started = asyncio.Event()

    async def sends() -> None:
        try:
            started.set()
            await asyncio.sleep(TIMEOUT)
        finally:
            try:
                pairs = await getattr(signal, verb)(None)
                caught.extend(getattr(pairs, "errors", []))
                assert pairs[:2] == [(ear, "heard"), (gate, "through")]
            except (asyncio.CancelledError, Boom) as error:
                caught.append(error)
            await asyncio.sleep(0)  # it is not cancelled once more
            caught.append(Boom("the end"))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        task = asyncio.ensure_future(sends())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert len(caught) == (1 if failing is None else 2)
    assert str(caught[-1]) == "the end"


@every_verb
def test_cancelled_task_that_sends_in_its_finally_may_be_cancelled_again(verb: str) -> None:
    signal, gate = Signal(), AsyncLatch()
    signal.connect(gate)
    started = asyncio.Event()

    async def sends() -> None:
        try:
            started.set()
            await asyncio.sleep(TIMEOUT)
        finally:
            await getattr(signal, verb)(None)

    async def main() -> None:
        task = asyncio.ensure_future(sends())
        await started.wait()
        task.cancel()
        await until(gate.entered)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.cancelled.is_set()

    with told() as hears:
        run(main())
    assert hears.failures == []


def test_receiver_that_fails_as_the_sender_is_cancelled_comes_first() -> None:
    """Its error would be lost, and the cancellation is not: the sender is still cancelled."""
    signal, gate = Signal(), AsyncLatch()

    async def fails(**named: Any) -> None:
        try:
            await gate()
        finally:
            raise Boom

    signal.connect(fails)

    async def main() -> None:
        sending = asyncio.ensure_future(signal.asend(None))
        await until(gate.entered)
        sending.cancel()
        with pytest.raises(Boom):
            await sending
        assert sending.cancelling() == 1
        assert undisturbed()

    run(main())


@every_verb
def test_cancellation_keeps_nothing_alive_once_it_is_dropped(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:

    class Found(asyncio.CancelledError):
        pass

    async def raises(**named: Any) -> None:
        raise Found

    signal = Signal()
    signal.connect(raises)
    caplog.set_level(logging.CRITICAL, "tsignals")  # whoever collects the log holds the error

    async def main() -> "weakref.ref[Found]":
        try:
            for _, error in (await getattr(signal, verb)(None)).errors:
                return weakref.ref(error)
        except Found as error:
            return weakref.ref(error)
        raise AssertionError

    with uncollected():
        reference = run(main())
        wait_until(lambda: reference() is None)


def test_failed_task_that_sent_leaves_no_cycle() -> None:
    signal = Signal()

    async def raises(**named: Any) -> None:
        raise Boom

    async def main() -> "weakref.ref[Any]":
        sending = asyncio.ensure_future(signal.asend(None))
        await asyncio.wait([sending])
        assert isinstance(sending.exception(), Boom)
        return weakref.ref(sending)

    signal.connect(raises)

    with uncollected():
        reference = run(main())
        wait_until(lambda: reference() is None)


async def raised_by_asend(signal: Signal, kind: type[Exception]) -> "weakref.ref[Exception]":
    """The error of that kind with which the send ends, held weakly."""
    try:
        await signal.asend(None)
    except kind as error:
        return weakref.ref(error)
    raise AssertionError


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
@pytest.mark.parametrize("where", ["a tracked receiver", "a sync runner"])
def test_error_of_what_is_awaited_leaves_no_cycle(where: str) -> None:
    class Found(Exception):
        pass

    def fails() -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_exception, Found())
        return future

    async def awaits(call: Any = None, **named: Any) -> None:
        await fails()

    signal = Signal()
    if where == "a tracked receiver":
        signal.connect(awaits, tracked=True)
    else:
        signal.connect(Ear(), weak=False)
        set_sync_runner(awaits)

    try:
        with uncollected():
            reference = run(raised_by_asend(signal, Found))
            wait_until(lambda: reference() is None)
    finally:
        set_sync_runner(None)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_error_keeps_nothing_alive_once_it_is_dropped(kind: str) -> None:
    """No cycle of error, traceback and frame is left for the collector."""
    signal = Signal()

    class Found(Exception):
        pass

    def raises(**named: Any) -> None:
        raise Found

    async def raises_too(**named: Any) -> None:
        raise Found

    signal.connect(raises if kind == "sync" else raises_too)

    with uncollected():
        reference = run(raised_by_asend(signal, Found))
        wait_until(lambda: reference() is None)  # free-threaded builds have its thread drop it


def test_asend_robust_collects_and_tells() -> None:
    signal, sender, ear = Signal(), Thing(), Ear(response=Boom("returned"))
    errors = [Boom("sync"), Boom("async")]
    raising, async_raising = raiser(errors[0]), async_raiser(errors[1])
    for receiver in (async_raising, raising, ignores, ear):
        signal.connect(receiver)
    with told() as hears:
        outcomes = send(signal, "asend_robust", sender)
    assert outcomes == [
        (raising, errors[0]),
        (ear, ear.response),
        (async_raising, errors[1]),
        (ignores, None),
    ]
    assert outcomes.errors == [(raising, errors[0]), (async_raising, errors[1])]
    assert errors[1].__traceback__ is not None
    for failure, error, receiver in zip(
        hears.failures, errors, (raising, async_raising), strict=True
    ):
        assert (failure.exception, failure.receiver) == (error, receiver)
        assert (failure.signal, failure.sender) == (signal, sender)
        assert (failure.mode, failure.queued_seconds) == ("asend_robust", 0.0)
        assert failure.ran_seconds >= 0


@pytest.mark.parametrize("raising", [raiser(BaseBoom()), async_raiser(BaseBoom())])
def test_asend_robust_lets_through_what_is_no_exception(raising: Any) -> None:
    signal, gate = Signal(), AsyncLatch()
    signal.connect(raising)
    signal.connect(gate)
    with told() as hears, pytest.raises(BaseBoom):
        send(signal, "asend_robust")
    assert hears.failures == []
    assert gate.calls == gate.cancelled.is_set()


# Cancelling


@every_verb
def test_cancelled_send_cancels_and_awaits_its_async_receivers(verb: str) -> None:
    signal, gates = Signal(), [AsyncLatch(), AsyncLatch()]
    for gate in gates:
        signal.connect(gate)

    async def main() -> None:
        sending = asyncio.ensure_future(getattr(signal, verb)(None))
        for gate in gates:
            await until(gate.entered)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert all(gate.cancelled.is_set() for gate in gates)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


@every_verb
@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_send_lets_the_sync_receiver_finish_and_calls_no_other(
    verb: str, times: int
) -> None:
    signal, gate, ear, later = Signal(), Latch(), Ear(), AsyncLatch()
    for receiver in (gate, ear, later):
        signal.connect(receiver)

    async def main() -> None:
        sending = asyncio.ensure_future(getattr(signal, verb)(None))
        await until(gate.entered)
        for _ in range(times):
            sending.cancel()
            await asyncio.sleep(0)
            assert not sending.done()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert gate.left.is_set()
        assert (ear.calls, later.calls) == ([], 0)

    run(main())


@every_verb
def test_cancellation_prevails_over_what_the_sync_receiver_raises(verb: str) -> None:
    signal, gate = Signal(), Latch()

    def raises(**named: Any) -> None:
        gate()
        raise BaseBoom

    signal.connect(raises)

    async def main() -> None:
        sending = asyncio.ensure_future(getattr(signal, verb)(None))
        await until(gate.entered)
        sending.cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await sending

    run(main())


@every_verb
def test_timeout_ends_it(verb: str) -> None:
    signal, gate = Signal(), AsyncLatch()
    signal.connect(gate)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as patience:
                sending = asyncio.ensure_future(until(gate.entered))
                sending.add_done_callback(lambda _: patience.reschedule(0))
                await getattr(signal, verb)(None)
        assert gate.cancelled.is_set()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main())


@every_verb
def test_variables_that_are_set_before_the_cancellation_are_set_for_the_sender(verb: str) -> None:
    signal, gate = Signal(), AsyncLatch()

    def sets(**named: Any) -> None:
        variable.set("set")

    signal.connect(sets)
    signal.connect(gate)

    async def main() -> None:
        async def sends() -> None:
            with pytest.raises(asyncio.CancelledError):
                await getattr(signal, verb)(None)
            assert variable.get() == "set"

        sending = asyncio.ensure_future(sends())
        await until(gate.entered)
        sending.cancel()
        await sending

    run(main())


@every_verb
def test_cancellation_that_meets_the_end_of_the_last_receiver_prevails(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has yet to hear that it has ended."""
    signal, gate, reported = Signal(), Latch(), threading.Event()
    signal.connect(gate)
    notify = inside.NOTIFY_LOOP.now

    def notify_and_tell(*arguments: Any) -> None:
        notify(*arguments)
        reported.set()

    inside.NOTIFY_LOOP.patch(monkeypatch, notify_and_tell)

    async def main() -> None:
        sending = asyncio.ensure_future(getattr(signal, verb)(None))
        await until(gate.entered)
        gate.opened.set()
        assert reported.wait(TIMEOUT)  # holds up the loop
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    run(main())
    assert gate.left.is_set()


def test_send_that_is_closed_calls_no_further_receiver() -> None:
    """The coroutine of a loop that died under it."""
    signal, gate, ear = Signal(), Latch(), Ear()
    signal.connect(gate)
    signal.connect(ear)
    loop = asyncio.new_event_loop()
    sending = signal.asend(None)

    async def main() -> None:
        sending.send(None)

    try:
        loop.run_until_complete(main())
        assert gate.entered.wait(TIMEOUT)
        sending.close()
    finally:
        loop.close()
    gate.opened.set()
    assert gate.left.wait(TIMEOUT)
    Running(send, signal, "asend").result()  # by the same thread, when it is done with the first
    assert len(ear.calls) == 1


# Tracked receivers that share a context


def test_wait_for_another_async_receiver_of_the_same_send_does_wait() -> None:
    """It shares the context, but encloses nothing."""
    signal, gate, waits = Signal(), AsyncLatch(), threading.Event()

    async def disconnects(**named: Any) -> bool:
        await until(gate.entered)

        def wait() -> bool:
            with pytest.raises(TimeoutError):
                connection.disconnect(wait=0)
            waits.set()
            return connection.disconnect(wait=True)

        await asyncio.to_thread(wait)
        return gate.left.is_set()

    async def opens(**named: Any) -> None:
        await until(waits)
        gate.opened.set()

    connection = signal.connect(gate, tracked=True)
    signal.connect(disconnects, tracked=True)
    signal.connect(opens)
    assert responses(send(signal, "asend")) == ["through", True, None]


def test_tracked_async_receiver_is_awaited_as_any_other() -> None:
    """Whatever it awaits, throws and catches comes through."""
    signal, steps = Signal(), list[str]()

    async def hears(**named: Any) -> str:
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            steps.append("timed out")
        try:
            await asyncio.gather(raises())
        except Boom:
            steps.append("caught")
        return await asyncio.to_thread(lambda: "through")

    async def raises() -> None:
        raise Boom

    signal.connect(hears, tracked=True)
    assert responses(send(signal, "asend")) == ["through"]
    assert steps == ["timed out", "caught"]


def test_send_from_a_tracked_receiver_encloses_its_sync_receivers() -> None:
    """They run on another thread, and could not wait for the one that waits for them."""
    outer, inner = Signal(), Signal()

    async def sends(**named: Any) -> Any:
        return responses(await inner.asend(None))

    def disconnects(**named: Any) -> bool:
        return connection.disconnect(wait=True)

    connection = outer.connect(sends, tracked=True)
    inner.connect(disconnects)
    assert responses(send(outer, "asend")) == [[True]]


@pytest.mark.parametrize("verb", ["asend", "asend_robust"])
def test_what_a_sync_receiver_raises_is_told_with_the_cancellation(verb: str) -> None:
    entered, error = threading.Event(), Boom("disk full")

    def hears(**named: Any) -> None:
        entered.set()
        gate()
        raise error

    async def main() -> BaseException | None:
        task = asyncio.create_task(getattr(signal, verb)(None))
        await asyncio.to_thread(entered.wait, TIMEOUT)
        task.cancel()
        gate.opened.set()
        try:
            await task
        except asyncio.CancelledError as cancelled:
            return cancelled.__context__
        raise AssertionError

    gate, signal = Latch(), Signal()
    signal.connect(hears)
    with quiet():
        assert asyncio.run(main()) is (error if verb == "asend" else None)


@pytest.mark.parametrize("ended_by", ["another that fails", "its time limit"])
def test_receiver_that_hangs_though_cancelled_is_ended_with_its_loop(ended_by: str) -> None:
    """Its sender cancels it once; the end of the loop does so again."""
    signal, cancelled = Signal(), list[str]()
    begun, tidying = asyncio.Event(), asyncio.Event()

    async def tidies_up(**named: Any) -> None:
        try:
            begun.set()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append("once")
            tidying.set()
            try:
                await asyncio.sleep(3600)
            finally:
                cancelled.append("twice")

    async def fails(**named: Any) -> None:
        raise Boom

    async def main() -> None:
        sending = asyncio.create_task(signal.asend(None))
        if ended_by == "its time limit":
            await asyncio.wait_for(begun.wait(), TIMEOUT)
            sending.cancel()
        await asyncio.wait_for(tidying.wait(), TIMEOUT)

    signal.connect(tidies_up)
    if ended_by == "another that fails":
        signal.connect(fails)
    loop = asyncio.new_event_loop()
    errors = list[Any]()
    loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    assert cancelled == ["once", "twice"]
    assert [type(error) for error in errors] == [Boom] * (ended_by == "another that fails")
