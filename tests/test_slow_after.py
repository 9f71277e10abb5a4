"""``slow_after``: a receiver that runs too long is named in the log while it still runs."""

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import re
import signal as signals
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import inside
import processes
import pytest
from helpers import TIMEOUT, Boom, Latch, assert_gone, awaited, ignore, steps, together, wait_until
from test_docs_examples import examples

from tsignals import Retry, Signal, WorkerPool, background, set_sync_runner
from tsignals.observing import set_slow_after

SOON = 0.01
NEVER_HERE = 3600.0
THREAD = "tsignals-slow"

request_id = contextvars.ContextVar("request_id", default="-")


class Warnings(logging.Handler):
    """Keeps what is logged, and the request id of where; receivers wait for a warning of theirs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.request_ids: list[str] = []
        self.threads: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.request_ids.append(request_id.get())
        self.threads.append(threading.current_thread().name)
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in list(self.records)]

    def of(self, name: str) -> list[str]:
        """What was said of one receiver."""
        return [text for text in self.texts if text.startswith(f"receiver {name} ")]

    def wait_for(self, name: str, count: int = 1) -> None:
        wait_until(lambda: len(self.of(name)) >= count)

    @property
    def found(self) -> list[str]:
        """What was said of a receiver that was seen where it is to be seen.

        Others may have come before that, and after it: it has not ended as soon as it is seen.
        """
        return [text for text in self.texts if "in stand_here" in text]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine is slow, the first look may come before the receiver is where we wait."""
    inside.tell_of_slow_ones_again_after(SOON, monkeypatch)


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    handler, logger = Warnings(), logging.getLogger("tsignals")
    logger.addHandler(handler)
    logger.propagate = False
    yield handler
    logger.propagate = True
    logger.removeHandler(handler)
    set_slow_after(None)


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@contextlib.contextmanager
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A watchdog that starts meanwhile stays, however slow this machine is, to the end of this."""
    with monkeypatch.context() as patched:
        inside.PATIENCE_OF_WATCHDOG.patch(patched, TIMEOUT)
        yield
    soon = Signal(slow_after=SOON)
    soon.connect(ignore)
    soon.send(None)  # wakes it, after which it does not wait so long


# -- In every way to send --


def sync_receiver(warnings: Warnings) -> Callable[..., Any]:
    def stand_here() -> None:
        wait_until(lambda: warnings.found)

    def receiver(sender: object, **named: Any) -> str:
        stand_here()
        return "done"

    receiver.__qualname__ = "receiver_of_test"
    return receiver


def async_receiver(warnings: Warnings) -> Callable[..., Any]:
    async def stand_here() -> None:
        while not warnings.found:
            await asyncio.sleep(0.001)

    async def receiver(**named: Any) -> str:
        await stand_here()
        return "done"

    receiver.__qualname__ = "receiver_of_test"
    return receiver


def blocking_async_receiver(warnings: Warnings) -> Callable[..., Any]:
    """It holds up its event loop: so it does not wait, it runs."""

    async def receiver(**named: Any) -> str:
        def stand_here() -> None:
            wait_until(lambda: warnings.found)

        await asyncio.sleep(0)
        stand_here()
        return "done"

    receiver.__qualname__ = "receiver_of_test"
    return receiver


def asends(verb: str, here: bool = False) -> Callable[[Signal], Any]:
    def act(signal: Signal) -> Any:
        view: Any = signal.here if here else signal
        method: Callable[..., Awaitable[Any]] = getattr(view, verb)
        return awaited(method, None)

    return act


def sends_in_a_pool(signal: Signal) -> Any:
    with WorkerPool(1) as pool:
        return signal.via(pool).send_async(None).results(TIMEOUT)


def sends_elsewhere(signal: Signal) -> Any:
    with ThreadPoolExecutor(1) as executor:
        return signal.via(executor).send_async(None).results(TIMEOUT)


WAYS: dict[str, tuple[str, Callable[[Signal], Any]]] = {
    "send": ("send", lambda signal: signal.send(None)),
    "send_robust": ("send_robust", lambda signal: signal.send_robust(None)),
    "asend": ("asend", asends("asend")),
    "asend_robust": ("asend_robust", asends("asend_robust")),
    "here": ("asend", asends("asend", here=True)),
    "send_async": ("send_async", sends_in_a_pool),
    "other executor": ("send_async", sends_elsewhere),
}


@pytest.mark.parametrize("make", [sync_receiver, async_receiver, blocking_async_receiver])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("default", [False, True], ids=["own", "default"])
@pytest.mark.usefixtures("often")
def test_slow_receiver_is_named_with_its_stack_while_it_runs(
    default: bool, way: str, make: Callable[[Warnings], Any], warnings: Warnings
) -> None:
    mode, act = WAYS[way]
    if default:
        set_slow_after(SOON)
    signal = Signal(name="order_paid", slow_after=None if default else SOON)
    receiver = make(warnings)
    signal.connect(receiver)
    assert act(signal) == [(receiver, "done")]
    text = warnings.found[0]
    assert text.startswith(f"receiver receiver_of_test for 'order_paid' ({mode}) has been running")
    assert "longer than slow_after=0.01, and stands here:\n" in text
    stack = text.partition("stands here:\n")[2]
    assert "in stand_here" in stack
    assert __file__ in stack
    assert set(warnings.threads) == {THREAD}


@pytest.mark.parametrize("make", [sync_receiver, async_receiver])
@pytest.mark.usefixtures("often")
def test_background_receiver_is_named_and_not_its_sender(
    make: Callable[[Warnings], Any], warnings: Warnings
) -> None:
    with WorkerPool(1) as pool:
        signal = Signal(name="order_paid", slow_after=SOON)
        receiver = background(make(warnings), executor=pool)
        signal.connect(receiver)
        [(_, delivery)] = signal.send(None)
        assert delivery.result(TIMEOUT) == "done"
    text = warnings.found[0]
    assert "for 'order_paid' (background) has been running" in text
    assert "in stand_here" in text


@pytest.mark.usefixtures("often")
def test_receiver_of_another_librarys_signal_is_named_by_the_default(warnings: Warnings) -> None:
    blinker = pytest.importorskip("blinker")
    set_slow_after(SOON)
    signal = blinker.Signal()
    with WorkerPool(1) as pool:
        receiver = background(sync_receiver(warnings), executor=pool)
        signal.connect(receiver, weak=False)
        [(_, delivery)] = signal.send(None)
        assert delivery.result(TIMEOUT) == "done"
    assert warnings.of("receiver_of_test")


def test_methods_partials_and_objects_are_named(warnings: Warnings) -> None:
    class Mailer:
        def send(self, **named: Any) -> None:
            warnings.wait_for(f"{Mailer.__qualname__}.send")

        def __call__(self, **named: Any) -> None:
            warnings.wait_for("<Mailer>")

    mailer = Mailer()
    signal = Signal(slow_after=SOON)
    signal.connect(mailer.send)
    signal.connect(functools.partial(mailer), weak=False)
    signal.send(None)
    assert len(warnings.texts) == 2


@pytest.mark.usefixtures("often")
def test_warning_is_written_in_the_context_of_the_receiver(warnings: Warnings) -> None:
    signal = Signal(slow_after=SOON)
    receiver = sync_receiver(warnings)
    signal.connect(receiver)

    def request() -> None:
        request_id.set("req-42")
        with WorkerPool(1) as pool:
            signal.via(pool).send_async(None).results(TIMEOUT)

    contextvars.copy_context().run(request)
    assert set(warnings.request_ids) == {"req-42"}


# -- How often --


def test_receiver_is_named_once_a_minute_however_many_of_its_calls_run(warnings: Warnings) -> None:
    latch = Latch()

    def other(**named: Any) -> None:
        warnings.wait_for("other")

    other.__qualname__ = "other"
    signal, later = Signal(slow_after=SOON), Signal(slow_after=SOON)
    signal.connect(latch)
    later.connect(other)
    with WorkerPool(3) as pool:
        calls = [signal.via(pool).send_async(None) for _ in range(2)]
        wait_until(lambda: latch.calls == 2)
        later.send(None)  # due after both, so these have been looked at when it is named
        latch.opened.set()
        assert all(call.wait(TIMEOUT) for call in calls)
    assert len(warnings.of("<Latch>")) == 1


def test_receiver_that_goes_on_running_is_named_again(
    warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside.tell_of_slow_ones_again_after(SOON, monkeypatch)
    signal = Signal(slow_after=SOON)

    def receiver(**named: Any) -> None:
        warnings.wait_for("receiver", count=3)

    receiver.__qualname__ = "receiver"
    signal.connect(receiver)
    signal.send(None)


def test_receiver_is_named_again_by_a_later_call(
    warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside.tell_of_slow_ones_again_after(SOON, monkeypatch)
    signal = Signal(slow_after=SOON)
    counts = iter([1, 2])

    def receiver(**named: Any) -> None:
        # At the second call's turn, what the first one was told of may have been said twice.
        warnings.wait_for("receiver", count=len(warnings.of("receiver")) + next(counts))

    receiver.__qualname__ = "receiver"
    signal.connect(receiver)
    signal.send(None)
    signal.send(None)


def test_receivers_that_end_in_time_are_not_named(warnings: Warnings) -> None:
    signal = Signal(slow_after=NEVER_HERE)
    signal.connect(ignore)
    for _ in range(100):
        signal.send(None)
    assert not inside.watched_calls()
    assert warnings.texts == []


def test_failing_and_interrupted_receivers_are_forgotten(warnings: Warnings) -> None:
    signal = Signal(slow_after=NEVER_HERE)

    def fail(**named: Any) -> None:
        raise KeyboardInterrupt

    signal.connect(fail)
    with pytest.raises(KeyboardInterrupt):
        signal.send(None)
    assert not inside.watched_calls()


@pytest.mark.parametrize("terms", ["tracked", "once", "tracked, once"])
@pytest.mark.usefixtures("often")
def test_async_receiver_behind_a_gate_is_shown_where_it_stands(
    terms: str, warnings: Warnings
) -> None:
    asked = dict.fromkeys(terms.split(", "), True)
    with WorkerPool(1) as pool:
        signal, hear = Signal(slow_after=SOON, executor=pool), async_receiver(warnings)
        signal.connect(hear, **asked)  # type: ignore[arg-type]
        signal.send_async(None).results(TIMEOUT)  # it ends once it is seen where it stands
    assert warnings.found


class Awaits:
    """A framework's runner, whose event loop runs in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    async def __call__(self, call: Callable[[], None]) -> None:
        call()

    def run_async(self, function: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(function(), self.loop).result(TIMEOUT)


@pytest.fixture
def runner() -> Iterator[Awaits]:
    made = Awaits()
    made.thread.start()
    before = set_sync_runner(made)
    try:
        yield made
    finally:
        set_sync_runner(before)
        made.loop.call_soon_threadsafe(made.loop.stop)
        made.thread.join(TIMEOUT)
        made.loop.close()


@pytest.mark.usefixtures("often", "runner")
def test_async_receiver_that_a_framework_awaits_elsewhere_is_shown_where_it_stands(
    warnings: Warnings,
) -> None:
    stand = async_receiver(warnings)

    async def hear(**named: Any) -> Any:
        async with asyncio.timeout(TIMEOUT):
            return await stand()

    signal = Signal(slow_after=SOON)
    signal.connect(hear)
    assert sends_elsewhere(signal) == [(hear, "done")]
    assert "in stand_here" in warnings.found[0]


@pytest.mark.usefixtures("often")
def test_what_else_runs_where_a_framework_awaits_is_not_shown_to_stand_there(
    runner: Awaits, warnings: Warnings
) -> None:
    signal, other = Signal(), Signal(slow_after=SOON)
    entered, opened = threading.Event(), asyncio.Event()

    async def stand_here() -> None:
        entered.set()
        async with asyncio.timeout(TIMEOUT):
            await opened.wait()

    async def hear(**named: Any) -> None:
        await stand_here()

    def stand_there(**named: Any) -> None:
        wait_until(lambda: any("in stand_there" in text for text in warnings.texts))

    signal.connect(hear)
    other.connect(stand_there)
    with ThreadPoolExecutor(1) as executor:
        deliveries = signal.via(executor).send_async(None)
        assert entered.wait(TIMEOUT)
        called: Future[Any] = Future()
        runner.loop.call_soon_threadsafe(lambda: called.set_result(other.send(None)))
        called.result(TIMEOUT)
        runner.loop.call_soon_threadsafe(opened.set)
        deliveries.results(TIMEOUT)
    assert warnings.texts
    assert not warnings.found


@pytest.mark.parametrize("is_async", [False, True])
def test_pause_before_another_attempt_is_no_time_that_it_runs(is_async: bool) -> None:
    def fail(**named: Any) -> None:
        raise Boom

    async def fail_on_the_loop(**named: Any) -> None:
        raise Boom

    retry = Retry(Boom, wait_initial=NEVER_HERE, wait_max=NEVER_HERE, timeout=None)
    with WorkerPool(1) as pool:
        signal = Signal(slow_after=NEVER_HERE, executor=pool)
        signal.connect(fail_on_the_loop if is_async else fail, retry=retry)
        deliveries = signal.send_async(None)
        wait_until(lambda: inside.pauses_of(pool) == 1)
        assert not inside.watched_calls()
        assert deliveries.cancel() == 1


# -- Which signals, and what it costs the others --


@pytest.mark.usefixtures("often")
def test_own_value_counts_before_the_default(warnings: Warnings) -> None:
    set_slow_after(SOON)
    exempt, strict = Signal(slow_after=float("inf")), Signal(slow_after=SOON / 2)
    latch = Latch()
    exempt.connect(latch)
    receiver = sync_receiver(warnings)
    strict.connect(receiver)
    with WorkerPool(1) as pool:
        call = exempt.via(pool).send_async(None)
        assert latch.entered.wait(TIMEOUT)
        strict.send(None)
        latch.opened.set()
        assert call.wait(TIMEOUT)
    assert all("longer than slow_after=0.005, and" in text for text in warnings.texts)


def test_default_is_changed_and_taken_back(warnings: Warnings) -> None:
    assert set_slow_after(SOON) is None
    assert set_slow_after(NEVER_HERE) == SOON
    assert set_slow_after(float("inf")) == NEVER_HERE
    assert set_slow_after(2) is None
    assert set_slow_after(None) == 2.0
    assert not inside.observers_now()


def test_what_runs_when_the_default_goes_is_no_longer_looked_at(warnings: Warnings) -> None:
    set_slow_after(NEVER_HERE)
    signal, latch = Signal(), Latch()
    signal.connect(latch)
    with WorkerPool(1) as pool:
        call = signal.via(pool).send_async(None)
        assert latch.entered.wait(TIMEOUT)
        assert len(inside.watched_calls()) == 1
        set_slow_after(None)
        wait_until(lambda: not inside.watched_calls())
        latch.opened.set()
        assert call.wait(TIMEOUT)


def test_default_that_many_threads_set_is_one_of_theirs(warnings: Warnings) -> None:
    def set_often(value: float | None) -> None:
        for _ in range(50):
            set_slow_after(value)
            set_slow_after(None)

    together(*[functools.partial(set_often, float(n)) for n in range(1, 5)])
    assert not inside.observers_now()
    set_slow_after(5.0)
    assert len(inside.observers_now()) == 1


@pytest.mark.unmeasured
def test_signals_without_it_pay_nothing_for_those_with_it(warnings: Warnings) -> None:
    plain = Signal()
    plain.connect(ignore)
    for _ in range(3):  # until it has its plan
        plain.send(None)
    before = steps(lambda: plain.send(None))
    slow = Signal(slow_after=NEVER_HERE)
    slow.connect(ignore)
    slow.send(None)
    assert steps(lambda: plain.send(None)) == before
    assert steps(lambda: slow.send(None)) > before


def test_signal_with_it_is_not_kept_alive() -> None:
    signal = Signal(slow_after=NEVER_HERE)
    signal.connect(ignore)
    signal.send(None)
    key, reference = id(signal), weakref.ref(signal)
    assert key in inside.observed_alone()
    del signal
    assert_gone(reference)
    assert key not in inside.observed_alone()


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan")])
def test_what_is_no_time_is_refused_and_changes_nothing(wrong: float) -> None:
    set_slow_after(NEVER_HERE)
    try:
        with pytest.raises(ValueError, match="slow_after must be"):
            set_slow_after(wrong)
        with pytest.raises(ValueError, match="slow_after must be"):
            Signal(slow_after=wrong)
    finally:
        assert set_slow_after(None) == NEVER_HERE


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="slow_after must be a number of seconds, not 'str'"):
        Signal(slow_after="5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="slow_after must be a number"):
        set_slow_after("5")  # type: ignore[arg-type]


# -- The watchdog --


def test_there_is_no_thread_where_nobody_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, plain = Signal(slow_after=NEVER_HERE), Signal()
    for signal in (slow, plain):
        signal.connect(ignore)
    plain.send(None)
    assert watchdogs() == []
    with patient(monkeypatch):
        slow.send(None)
        assert len(watchdogs()) == 1
    wait_until(lambda: watchdogs() == [])


def test_there_is_one_thread_for_all(warnings: Warnings, monkeypatch: pytest.MonkeyPatch) -> None:
    latch = Latch()
    many = [Signal(slow_after=NEVER_HERE) for _ in range(8)]
    for signal in many:
        signal.connect(latch)
    with WorkerPool(8) as pool, patient(monkeypatch):

        def send(signal: Signal) -> Any:
            return signal.via(pool).send_async(None)

        calls = together(*[functools.partial(send, signal) for signal in many])
        wait_until(lambda: latch.calls == 8)
        assert len(watchdogs()) == 1
        latch.opened.set()
        assert all(call.wait(TIMEOUT) for call in calls)


def test_it_comes_back_whenever_it_is_needed(warnings: Warnings) -> None:
    signal = Signal(slow_after=SOON)
    for n in range(3):

        def wait(n: int = n, **named: Any) -> None:
            warnings.wait_for(f"wait{n}")

        wait.__qualname__ = f"wait{n}"
        with signal.connect(wait):
            signal.send(None)
        wait_until(lambda: watchdogs() == [])
    assert len(warnings.texts) == 3


def test_no_send_waits_for_a_log_that_hangs(warnings: Warnings) -> None:
    entered, opened = threading.Event(), threading.Event()

    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            assert opened.wait(TIMEOUT)

    handler, logger = Hanging(), logging.getLogger("tsignals")
    logger.addHandler(handler)
    try:
        signal, latch = Signal(slow_after=SOON), Latch()
        signal.connect(latch)
        quick = Signal(slow_after=SOON)
        quick.connect(ignore)
        with WorkerPool(1) as pool:
            call = signal.via(pool).send_async(None)
            assert entered.wait(TIMEOUT)
            for _ in range(100):  # the watchdog is in the handler
                quick.send(None)
            assert set_slow_after(1.0) is None
            assert set_slow_after(None) == 1.0
            latch.opened.set()
            assert call.wait(TIMEOUT)
            assert not inside.watched_calls()
    finally:
        opened.set()
        logger.removeHandler(handler)


def test_log_that_fails_ends_nothing(
    warnings: Warnings, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    handler, logger = Failing(), logging.getLogger("tsignals")
    logger.addHandler(handler)  # after ours
    try:
        signal = Signal(slow_after=SOON)
        for n in range(2):

            def wait(n: int = n, **named: Any) -> None:
                warnings.wait_for(f"wait{n}")

            wait.__qualname__ = f"wait{n}"
            with signal.connect(wait):
                signal.send(None)
    finally:
        logger.removeHandler(handler)
    wait_until(lambda: watchdogs() == [])
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.usefixtures("often")
def test_watchdog_that_ends_late_does_not_stop_the_one_after_it(
    warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside.let_a_watchdog_speak_late(monkeypatch)
    signal = Signal(slow_after=SOON)
    signal.connect(ignore)
    signal.send(None)
    wait_until(lambda: not watchdogs())  # it has slept with nothing to look at
    receiver = sync_receiver(warnings)
    signal.connect(receiver)
    signal.send(None)
    assert warnings.of("receiver_of_test")


@pytest.mark.usefixtures("often")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_has_a_watchdog_of_its_own(
    warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal, latch = Signal(slow_after=SOON), Latch()
    signal.connect(latch)
    with WorkerPool(1) as pool:
        call = signal.via(pool).send_async(None)
        warnings.wait_for("<Latch>")
        warnings.records.clear()

        def child() -> None:
            assert not inside.watched_calls()  # what runs in the parent does not here
            assert watchdogs() == []
            inside.PATIENCE_OF_WATCHDOG.patch(monkeypatch, TIMEOUT)
            here = Signal(slow_after=SOON)
            here.connect(receiver)
            here.send(None)
            assert len(watchdogs()) == 1
            assert warnings.of("receiver_of_test")

        receiver = sync_receiver(warnings)
        assert processes.forked(child) == 0
        assert warnings.of("receiver_of_test") == []
        latch.opened.set()
        assert call.wait(TIMEOUT)


def test_process_ends_at_once_with_a_receiver_that_is_looked_at() -> None:
    done = processes.run(
        """
        from tsignals import Signal

        def receiver(**named):
            assert "tsignals-slow" in [thread.name for thread in threading.enumerate()]
            raise SystemExit(7)

        signal = Signal(slow_after=0.001)
        signal.connect(receiver)
        signal.send(None)
        """,
        TSIGNALS_EXIT_SECONDS="0.2",
    )
    assert done.returncode == 7, done.stderr


@pytest.mark.usefixtures("often")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
def test_send_in_a_signal_handler_is_looked_at(warnings: Warnings) -> None:
    signal = Signal(slow_after=SOON)
    receiver = sync_receiver(warnings)
    signal.connect(receiver)
    former = signals.signal(signals.SIGUSR1, lambda *_: signal.send(None))
    try:
        os.kill(os.getpid(), signals.SIGUSR1)
        wait_until(lambda: warnings.texts)
    finally:
        signals.signal(signals.SIGUSR1, former)
    assert warnings.of("receiver_of_test")


@pytest.mark.usefixtures("often")
def test_log_handler_that_exits_leaves_a_watchdog(
    warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit, signal, exits = warnings.emit, Signal(slow_after=SOON), [SystemExit()]

    def exits_once(record: logging.LogRecord) -> None:
        emit(record)
        if exits:
            raise exits.pop()

    monkeypatch.setattr(warnings, "emit", exits_once)
    for _ in range(2):
        warnings.records.clear()
        signal.connect(receiver := sync_receiver(warnings))
        signal.send(None)  # ends once it is warned of
        signal.disconnect(receiver)
    assert exits == []


@pytest.mark.once
def test_page_says_what_its_example_logs(tmp_path: Path) -> None:
    page = Path(__file__).parent.parent / "docs" / "howto" / "slow-receivers.md"
    [example] = [each for each in examples(page) if "script" in each.words]
    (tmp_path / "slow.py").write_text(example.code)
    done = processes.command([sys.executable, "slow.py"], cwd=tmp_path, env=processes.environment())
    assert done.returncode == 0, done.stderr
    [shown] = re.findall(r"^```text\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    said, logged = shown.splitlines(), done.stderr.splitlines()
    # It may have been looked at a little later than the page has it.
    assert re.sub(r"\d+\.\d seconds", "0.1 seconds", logged[0]) == said[0]
    assert logged[-1].strip() == said[-1].strip() == "time.sleep(1)"
    frames = [re.sub(r'".*/', '"', line) for line in said if "slow.py" in line]
    assert [re.sub(r'".*/', '"', line) for line in logged if "slow.py" in line] == frames
