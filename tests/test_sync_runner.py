"""``set_sync_runner``: a framework says where the sync receivers of an ``asend`` run."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from event_loops import run
from helpers import TIMEOUT, Boom, Ear, Latch, raiser
from pools import signal_to, told

from tsignals import Signal, set_sync_runner

VERBS = ["asend", "asend_robust"]
Call = Callable[[], None]
variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default=None)


@pytest.fixture(autouse=True)
def no_runner_left() -> Iterator[None]:
    yield
    set_sync_runner(None)


async def inline(call: Call) -> None:
    call()


async def to_thread(call: Call) -> None:
    await asyncio.to_thread(call)


async def in_bare_thread(call: Call) -> None:
    """Which carries no context variables."""
    await asyncio.get_running_loop().run_in_executor(None, call)


def take_back_cancellation() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


RUNNERS = [inline, to_thread, in_bare_thread]


def test_setting_a_runner_returns_the_former_and_none_resets() -> None:
    assert set_sync_runner(inline) is None
    assert set_sync_runner(to_thread) is inline
    assert set_sync_runner(None) is to_thread
    assert set_sync_runner(None) is None


def test_what_cannot_be_called_is_refused_and_changes_nothing() -> None:
    set_sync_runner(inline)
    bad: Any = 5
    with pytest.raises(TypeError, match="sync runner must be callable or None, not 'int'"):
        set_sync_runner(bad)
    assert set_sync_runner(None) is inline


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("verb", VERBS)
def test_runner_runs_the_sync_receivers_as_one_group_in_order(verb: str, runner: Any) -> None:
    signal, calls, steps = Signal(), list[Call](), list[Any]()

    async def counting(call: Call) -> None:
        calls.append(call)
        await runner(call)

    set_sync_runner(counting)
    for n in range(3):
        signal.connect(lambda n=n, **named: steps.append((n, threading.get_ident())), weak=False)

    async def later(**named: Any) -> None:
        steps.append((3, threading.get_ident()))

    signal.connect(later)
    assert len(run(getattr(signal, verb)(None))) == 4
    assert [n for n, _ in steps] == [0, 1, 2, 3]
    assert len({thread for _, thread in steps[:3]}) == 1
    assert (steps[0][1] == threading.get_ident()) == (runner is inline)
    assert len(calls) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_runner_is_not_asked_where_no_receiver_is_sync_nor_by_here(verb: str) -> None:
    signal, asked = Signal(), list[Call]()

    async def runner(call: Call) -> None:
        asked.append(call)
        call()

    async def hears(**named: Any) -> None: ...

    set_sync_runner(runner)
    signal.connect(hears)
    run(getattr(signal, verb)(None))
    signal.connect(Ear(), weak=False)
    run(getattr(signal.here, verb)(None))
    assert asked == []


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("verb", VERBS)
def test_receivers_see_the_senders_variables_and_the_sender_theirs(verb: str, runner: Any) -> None:
    signal, seen = Signal(), list[Any]()

    def sets(**named: Any) -> None:
        seen.append(variable.get())
        variable.set("set by a receiver")

    signal.connect(sets)
    set_sync_runner(runner)

    async def main() -> Any:
        variable.set("of the sender")
        await getattr(signal, verb)(None)
        return variable.get()

    assert run(main()) == "set by a receiver"
    assert seen == ["of the sender"]


def test_what_a_runner_has_carried_in_its_own_way_is_left() -> None:
    signal = signal_to(lambda **named: variable.set("the receiver's"), None)

    async def runner(call: Call) -> None:
        await asyncio.to_thread(call)
        variable.set("the runner's")

    set_sync_runner(runner)

    async def main() -> Any:
        await signal.asend(None)
        return variable.get()

    assert run(main()) == "the runner's"


@pytest.mark.parametrize("runner", RUNNERS)
def test_receivers_error_is_the_senders_and_not_the_runners(runner: Any) -> None:
    signal, error, seen = Signal(), Boom(), list[Any]()

    async def careful(call: Call) -> None:
        try:
            await runner(call)
        except BaseException as raised:
            seen.append(raised)

    signal.connect(raiser(error), weak=False)
    set_sync_runner(careful)
    with pytest.raises(Boom) as caught:
        run(signal.asend(None))
    assert caught.value is error
    with told() as failures:
        outcomes = run(signal.asend_robust(None))
    assert [raised for _, raised in outcomes.errors] == failures.errors == [error]
    assert seen == []


@pytest.mark.parametrize("verb", VERBS)
def test_runner_that_never_calls_is_an_error(verb: str) -> None:
    ear, kept = Ear(), list[Call]()
    signal = signal_to(ear, None)

    async def runner(call: Call) -> None:
        kept.append(call)

    set_sync_runner(runner)
    with pytest.raises(RuntimeError, match="has not called what it was given"):
        run(getattr(signal, verb)(None))
    kept[0]()  # too late
    assert ear.calls == []


@pytest.mark.parametrize("verb", VERBS)
def test_runner_that_calls_twice_calls_the_receivers_once(verb: str) -> None:
    ear = Ear()
    signal = signal_to(ear, None)

    async def runner(call: Call) -> None:
        call()
        call()

    set_sync_runner(runner)
    run(getattr(signal, verb)(None))
    assert len(ear.calls) == 1


def test_runner_that_calls_twice_at_once_calls_the_receivers_once() -> None:
    for _ in range(100):
        ear = Ear()
        signal = signal_to(ear, None)
        barrier = threading.Barrier(2)

        async def runner(call: Call) -> None:
            def both() -> None:
                barrier.wait(TIMEOUT)
                call()

            await asyncio.gather(asyncio.to_thread(both), asyncio.to_thread(both))

        set_sync_runner(runner)
        run(signal.asend(None))
        assert len(ear.calls) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_runner_that_raises_before_it_calls_has_its_error_raised(verb: str) -> None:
    ear = Ear()

    async def runner(call: Call) -> None:
        raise Boom

    set_sync_runner(runner)
    with pytest.raises(Boom):
        run(getattr(signal_to(ear, None), verb)(None))
    assert ear.calls == []


@pytest.mark.parametrize("verb", VERBS)
def test_runner_that_raises_afterwards_has_its_error_raised(verb: str) -> None:
    ear = Ear()

    async def runner(call: Call) -> None:
        call()
        raise Boom

    set_sync_runner(runner)
    with pytest.raises(Boom):
        run(getattr(signal_to(ear, None), verb)(None))
    assert len(ear.calls) == 1


def test_runner_that_cannot_be_awaited_is_a_type_error() -> None:
    bad: Any = lambda call: call()  # noqa: E731
    set_sync_runner(bad)
    with pytest.raises(TypeError):
        run(signal_to(Ear(), None).asend(None))


def test_runner_that_returns_early_is_waited_for() -> None:
    gate = Latch()
    with ThreadPoolExecutor(1) as executor:

        async def runner(call: Call) -> None:
            executor.submit(call)
            while not gate.entered.is_set():
                await asyncio.sleep(0.001)
            asyncio.get_running_loop().call_soon(gate.opened.set)

        set_sync_runner(runner)
        assert run(signal_to(gate, None).asend(None)) == [(gate, "through")]


def test_error_that_a_runner_awaits_and_catches_stops_nobody() -> None:
    """It comes into the coroutine in the same way as a cancellation."""
    ears = [Ear(), Ear()]
    signal = Signal()
    for ear in ears:
        signal.connect(ear)

    async def runner(call: Call) -> None:
        failing = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(failing.set_exception, Boom())
        with pytest.raises(Boom):
            await failing
        await asyncio.to_thread(call)

    set_sync_runner(runner)
    assert len(run(signal.asend(None))) == 2
    assert [len(ear.calls) for ear in ears] == [1, 1]


@pytest.mark.parametrize("catches", ["not", "", "and takes it back"])
@pytest.mark.parametrize("verb", VERBS)
def test_cancelled_sender_lets_the_one_that_runs_finish_and_calls_no_further_one(
    verb: str, catches: str
) -> None:
    """Also if the runner lets nobody cancel it: some receivers were not called."""
    gate, ear, signal = Latch(), Ear(), Signal()
    signal.connect(gate)
    signal.connect(ear)

    async def runner(call: Call) -> None:
        running = asyncio.ensure_future(asyncio.to_thread(call))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            if catches == "not":
                raise
            if catches:
                take_back_cancellation()
            await running

    set_sync_runner(runner)

    async def main() -> None:
        task = asyncio.ensure_future(getattr(signal, verb)(None))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.left.is_set()

    run(main())
    assert (gate.calls, ear.calls) == (1, [])


def test_cancellation_that_a_runner_takes_back_is_none_where_all_were_called() -> None:
    gate = Latch()

    async def runner(call: Call) -> None:
        running = asyncio.ensure_future(asyncio.to_thread(call))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            take_back_cancellation()
            await running

    set_sync_runner(runner)

    async def main() -> None:
        task = asyncio.ensure_future(signal_to(gate, None).asend(None))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        assert await task == [(gate, "through")]

    run(main())


def test_runner_that_is_cancelled_before_it_calls_calls_nobody_later() -> None:
    ear, kept = Ear(), list[Call]()
    signal = signal_to(ear, None)

    async def runner(call: Call) -> None:
        kept.append(call)
        await asyncio.sleep(TIMEOUT)

    set_sync_runner(runner)

    async def main() -> None:
        task = asyncio.ensure_future(signal.asend(None))
        while not kept:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    kept[0]()
    assert ear.calls == []


def test_send_that_is_closed_in_the_middle_ends_without_waiting() -> None:
    """As an event loop does that is closed under it."""
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    called: list[Call] = []

    async def runner(call: Call) -> None:
        called.append(call)
        call()
        await asyncio.sleep(TIMEOUT)

    set_sync_runner(runner)

    async def main() -> None:
        sending: Any = signal.asend(None)
        sending.send(None)
        sending.close()

    run(main())
    assert len(called) == len(ear.calls) == 1


@pytest.mark.parametrize("other", [None, inline])
def test_sends_that_have_begun_keep_the_former_runner(other: Any) -> None:
    ears = [Ear(), Ear()]
    signal, used = Signal(), list[str]()
    for ear in ears:
        signal.connect(ear)

    async def runner(call: Call) -> None:
        set_sync_runner(other)
        used.append("former")
        await asyncio.to_thread(call)

    set_sync_runner(runner)

    async def main() -> None:
        await signal.asend(None)
        await signal.asend(None)

    run(main())
    assert [len(ear.calls) for ear in ears] == [2, 2]
    assert used == ["former"]


def test_tracked_receiver_is_waited_for_and_skipped_under_a_runner() -> None:
    gate, signal = Latch(), Signal()
    connection = signal.connect(gate, tracked=True)
    set_sync_runner(to_thread)

    async def main() -> Any:
        task = asyncio.ensure_future(signal.asend(None))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            connection.disconnect(wait=0)
        gate.opened.set()
        await asyncio.to_thread(signal.disconnect, gate, wait=TIMEOUT)
        return await task

    assert run(main()) == [(gate, "through")]


# -- asgiref --


# asgiref keeps a thread for the requests that come.
asgirefs_threads = pytest.mark.foreign_threads("ThreadPoolExecutor")


@pytest.fixture
def asgiref() -> Any:
    sync = pytest.importorskip("asgiref.sync")
    set_sync_runner(lambda call: sync.sync_to_async(call, thread_sensitive=True)())
    return sync


@asgirefs_threads
@pytest.mark.parametrize("verb", VERBS)
def test_with_asgiref_receivers_run_on_the_thread_of_the_request(verb: str, asgiref: Any) -> None:
    signal = signal_to(lambda **named: threading.get_ident(), None)

    async def view() -> tuple[int, int]:
        thread = await asgiref.sync_to_async(threading.get_ident, thread_sensitive=True)()
        [(_, response)] = await getattr(signal, verb)(None)
        return thread, response

    thread, response = asgiref.async_to_sync(view)()
    assert thread == response == threading.get_ident()
    thread, response = run(view())
    assert thread == response


@asgirefs_threads
def test_with_asgiref_locals_and_variables_go_both_ways(asgiref: Any) -> None:
    from asgiref.local import Local

    local = Local()
    seen: list[Any] = []

    def sets(**named: Any) -> None:
        seen.append((local.value, variable.get()))
        local.value = "receiver"
        variable.set("receiver")

    signal = signal_to(sets, None)

    async def view() -> Any:
        local.value = "sender"
        variable.set("sender")
        await signal.asend(None)
        return local.value, variable.get()

    assert run(view()) == ("receiver", "receiver")
    assert seen == [("sender", "sender")]


@asgirefs_threads
def test_with_asgiref_a_cancelled_sender_waits_for_the_receiver_that_runs(asgiref: Any) -> None:
    gate, ear, signal = Latch(), Ear(), Signal()
    signal.connect(gate)
    signal.connect(ear)

    async def main() -> None:
        task = asyncio.ensure_future(signal.asend(None))
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.left.is_set()

    run(main())
    assert ear.calls == []


class Both:
    """A runner that awaits what is async, too: on a thread of its own."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    async def __call__(self, call: Call) -> None:
        call()

    def run_async(self, function: Callable[[], Any]) -> Any:
        context = contextvars.copy_context()

        def there() -> Any:
            self.threads.append(threading.get_ident())
            with asyncio.Runner() as runner:
                return runner.run(function(), context=context)

        with ThreadPoolExecutor(1) as executor:
            result = executor.submit(there).result(TIMEOUT)
        variable.set(context[variable])
        return result


def test_runner_that_awaits_runs_the_async_receivers_of_send() -> None:
    async def receiver(**named: Any) -> Any:
        seen, _ = variable.get(), variable.set("theirs")
        return threading.get_ident(), seen

    async def failing(**named: Any) -> Any:
        raise error

    error = Boom()
    runner = Both()
    set_sync_runner(runner)
    signal = signal_to(receiver, None)
    for send in signal.send, signal.send_robust:
        variable.set("mine")
        [(_, response)] = send(None)
        assert response == (runner.threads[-1], "mine")
        assert variable.get() == "theirs"
    signal.connect(failing)
    with pytest.raises(Boom) as raised:
        signal.send(None)
    assert raised.value is error
    with told() as hears:
        outcomes = signal.send_robust(None)
    assert outcomes.errors == [(failing, error)]
    assert [failure.mode for failure in hears.failures] == ["send_robust"]
    assert len(runner.threads) == 4


def test_receivers_see_nothing_of_who_sent_before_on_that_thread() -> None:
    """A sender without variables is no reason to run in those that the thread has."""
    user = contextvars.ContextVar("user", default="nobody")
    seen = list[str]()

    def hears(who: str, **named: Any) -> None:
        seen.append(user.get())
        user.set(who)

    async def request(who: str) -> str:
        await signal.asend(None, who=who)
        return user.get()

    signal = Signal()
    signal.connect(hears)
    with ThreadPoolExecutor(1) as thread:
        # Here: where a thread begins in a copy of the context that starts it, not in the sender's.
        thread.submit(user.set, "of the thread").result(TIMEOUT)

        async def runner(call: Callable[[], object]) -> None:
            await asyncio.get_running_loop().run_in_executor(thread, call)

        former = set_sync_runner(runner)
        try:
            for who in ("ann", "bob"):
                assert contextvars.Context().run(asyncio.run, request(who)) == who
        finally:
            set_sync_runner(former)
    assert seen == ["nobody", "nobody"]
