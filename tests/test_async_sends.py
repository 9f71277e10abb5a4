"""Async receivers of send and send_robust: awaited on an event loop made for them."""

import asyncio
import contextvars
import functools
import gc
import signal as signals
import sys
import threading
from collections.abc import Iterator
from typing import Any

import processes
import pytest
from async_pools import responses, variable
from event_loops import AsyncLatch, async_kinds, async_raiser, every_loop, ignores, run, until
from helpers import TIMEOUT, BaseBoom, Boom, Ear, Running, Thing, raiser
from pools import told

from tsignals import Signal

__all__ = ["every_loop"]


every_verb = pytest.mark.parametrize("verb", ["send", "send_robust"])


@every_verb
def test_send_runs_async_receivers_after_the_sync_ones(verb: str) -> None:
    signal, ear, steps = Signal(), Ear(response="sync"), list[int]()

    async def hears(n: int, **named: Any) -> int:
        assert len(ear.calls) == 1
        await asyncio.sleep(0)
        steps.append(threading.get_ident())
        return n

    signal.connect(hears)
    signal.connect(ear)
    assert getattr(signal, verb)(None, n=3) == [(ear, "sync"), (hears, 3)]
    assert steps == [threading.get_ident()]


@every_verb
@pytest.mark.parametrize("kind", async_kinds())
def test_send_awaits_what_is_defined_as_async(verb: str, kind: str) -> None:
    signal, receiver = Signal(), async_kinds()[kind]
    signal.connect(receiver, weak=False)
    assert getattr(signal, verb)(None, n=7) == [(receiver, 7)]


@every_verb
def test_send_runs_async_receivers_together(verb: str) -> None:
    signal, meeting = Signal(), list[asyncio.Event]()

    async def hears(**named: Any) -> int:
        meeting.append(asyncio.Event())
        if len(meeting) == 3:
            for event in meeting:
                event.set()
        await asyncio.wait_for(meeting[-1].wait(), TIMEOUT)
        return len(meeting)

    receivers: list[Any] = [hears, *(functools.partial(hears, n=n) for n in range(2))]
    for receiver in receivers:
        signal.connect(receiver)
    assert responses(getattr(signal, verb)(None)) == [3, 3, 3]


@every_verb
def test_send_on_a_thread_with_a_running_loop_is_refused_before_any_receiver_runs(
    verb: str,
) -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    signal.connect(ignores)

    async def main() -> None:
        with pytest.raises(RuntimeError, match=rf"await signal\.a{verb}\("):
            getattr(signal, verb)(None)
        assert ear.calls == []
        sent = await asyncio.to_thread(getattr(signal, verb), None)
        assert [receiver for receiver, _ in sent] == [ear, ignores]

    run(main())


@every_verb
def test_send_that_reaches_no_async_receiver_may_run_on_a_loop(verb: str) -> None:
    signal, ear, sender, dead = Signal(), Ear(), Thing(), AsyncLatch()
    signal.connect(ear)
    signal.connect(ignores, sender=sender)
    signal.connect(dead)
    del dead

    async def main() -> None:
        assert getattr(signal, verb)(None) == [(ear, None)]

    run(main())


@every_verb
@pytest.mark.parametrize("current", [True, False])
def test_send_leaves_the_threads_current_event_loop_as_it_was(verb: str, current: bool) -> None:
    signal = Signal()
    signal.connect(ignores)

    def sends() -> None:
        loop = asyncio.new_event_loop() if current else None
        asyncio.set_event_loop(loop)
        try:
            getattr(signal, verb)(None)
            if loop is None:
                with pytest.raises(RuntimeError):
                    asyncio.get_event_loop()
            else:
                assert asyncio.get_event_loop() is loop
                assert not loop.is_closed()
        finally:
            asyncio.set_event_loop(None)
            if loop is not None:
                loop.close()

    Running(sends).result()


@every_verb
def test_send_leaves_nothing_running(verb: str) -> None:
    signal, gate, left = Signal(), AsyncLatch(), list[asyncio.Task[Any]]()

    async def leaves(**named: Any) -> None:
        left.append(asyncio.ensure_future(gate()))
        await until(gate.entered)

    signal.connect(leaves)
    getattr(signal, verb)(None)
    assert gate.cancelled.is_set()


@every_verb
def test_variables_that_async_receivers_set_are_set_for_the_sender(verb: str) -> None:
    signal = Signal()

    def first(**named: Any) -> None:
        variable.set([*variable.get(), "first"])

    async def second(**named: Any) -> None:
        variable.set([*variable.get(), "second"])

    async def third(**named: Any) -> None:
        variable.set([*variable.get(), "third"])

    for receiver in (second, third, first):
        signal.connect(receiver)

    def sends() -> Any:
        variable.set(["sender"])
        getattr(signal, verb)(None)
        return variable.get()

    expected = ["sender", "first", "second", "third"]
    assert contextvars.copy_context().run(sends) == expected


def test_send_raises_what_the_sync_receiver_raises_and_calls_no_async_one() -> None:
    signal, raising, gate = Signal(), raiser(Boom()), AsyncLatch()
    signal.connect(gate)
    signal.connect(raising)
    with pytest.raises(Boom):
        signal.send(None)
    assert gate.calls == 0


def test_send_raises_the_error_of_one_async_receiver_and_a_group_of_several() -> None:
    signal, errors = Signal(), [Boom("first"), Boom("second")]
    first, second = map(async_raiser, errors)
    signal.connect(first)
    with pytest.raises(Boom) as single:
        signal.send(None)
    assert single.value is errors[0]
    signal.connect(second)
    with pytest.raises(ExceptionGroup) as group:
        signal.send(None)
    assert list(group.value.exceptions) == errors


def test_send_robust_collects_and_tells() -> None:
    signal, errors = Signal(), [Boom("sync"), Boom("async")]
    raising, async_raising = raiser(errors[0]), async_raiser(errors[1])
    for receiver in (async_raising, raising, ignores):
        signal.connect(receiver)
    with told() as hears:
        outcomes = signal.send_robust(None)
    assert outcomes == [(raising, errors[0]), (async_raising, errors[1]), (ignores, None)]
    assert outcomes.errors == outcomes[:2]
    assert hears.errors == errors
    assert {failure.mode for failure in hears.failures} == {"send_robust"}


@pytest.fixture
def collected() -> Iterator[None]:
    """What asyncio says of tasks that the collector finds, it says before the next test."""
    yield
    gc.collect()


@every_verb
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("error", [BaseBoom, KeyboardInterrupt, SystemExit])
def test_send_lets_through_what_is_no_exception(verb: str, error: type[BaseException]) -> None:
    signal, raising, gate = Signal(), async_raiser(error()), AsyncLatch()
    signal.connect(raising)
    signal.connect(gate)
    with pytest.raises(error):
        getattr(signal, verb)(None)
    assert gate.calls == gate.cancelled.is_set()


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("verb", ["send", "send_robust"])
@pytest.mark.parametrize("error", [BaseBoom, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("late", [False, True])
def test_asyncio_does_not_complain_of_what_send_has_let_through(
    verb: str, error: type[BaseException], late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def raises(**named: Any) -> None:
        if late:
            await asyncio.sleep(0)
        raise error

    signal = Signal()
    signal.connect(raises)
    with pytest.raises(error):
        getattr(signal, verb)(None)
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("verb", ["send_robust", "asend_robust"])
def test_response_that_will_not_say_its_class_is_a_response(verb: str) -> None:
    class Lazy:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError("not to be asked")

    lazy = Lazy()

    async def responds(**named: object) -> Lazy:
        return lazy

    signal = Signal()
    signal.connect(responds)
    outcomes = getattr(signal, verb)(None)
    if verb == "asend_robust":
        outcomes = asyncio.run(outcomes)
    assert [response is lazy for _, response in outcomes] == [True]
    assert not outcomes.errors


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@every_verb
def test_ctrl_c_ends_a_send(verb: str) -> None:
    signal, gate = Signal(), AsyncLatch()
    signal.connect(gate)

    def interrupts() -> None:
        assert gate.entered.wait(TIMEOUT)
        signals.raise_signal(signals.SIGINT)

    before = signals.signal(signals.SIGINT, signals.default_int_handler)
    try:
        thread = Running(interrupts)
        with pytest.raises(KeyboardInterrupt):
            getattr(signal, verb)(None)
        thread.result()
        assert signals.getsignal(signals.SIGINT) is signals.default_int_handler
    finally:
        signals.signal(signals.SIGINT, before)
    assert gate.cancelled.is_set()


@pytest.mark.slow
def test_asyncio_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys, tsignals\n"
        "signal = tsignals.Signal()\n"
        "signal.connect(lambda **named: None, weak=False)\n"
        "signal.send(None)\n"
        "signal.send_async(None).results()\n"
        "assert 'asyncio' not in sys.modules\n"
        "async def hears(**named): pass\n"
        "signal.connect(hears)\n"
        "signal.send_async(None).results()\n"
        "assert 'asyncio' in sys.modules\n"
    )
    done = processes.command([sys.executable, "-W", "error", "-c", code])
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.skipif(not hasattr(signals, "setitimer"), reason="the system has no timers")
@pytest.mark.parametrize("how", ["send_robust(None)", "send_async(None)", "prepare(None).submit()"])
@pytest.mark.parametrize("kind", ["plain", "background"])
def test_handlers_that_send_in_the_middle_of_the_first_send_find_all_of_it(
    how: str, kind: str
) -> None:
    """The first send to an async receiver was what imported asyncio, and half of it was found."""
    done = processes.run(
        f"""
        from tsignals import Signal, background

        async def receiver(**named):
            return 1

        one = Signal(name="one")
        one.connect(background(receiver) if {kind!r} == "background" else receiver, weak=False)
        errors, calls = [], []

        def handler(*_):
            calls.append(None)
            if len(calls) == 3:
                signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                one.{how}
            except BaseException as error:
                if "this thread runs an event loop" not in str(error):  # that of the main send
                    errors.append(repr(error))

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, .004, .004)
        one.{how}
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert errors == [], errors
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
