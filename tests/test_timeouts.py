"""Every timeout: which numbers are taken, what is for ever, what is refused and changes nothing."""

import math
import numbers
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from typing import Any

import inside
import pytest
from event_loops import AsyncLatch
from helpers import TIMEOUT, Latch, Running, ignore, wait_until
from pools import held, signal_to

from tsignals import DeliveryLost, QueueFull, Signal, WorkerPool, testing, tracing


class Floating:
    """A number as numpy has them."""

    def __init__(self, number: float) -> None:
        self.number = number

    def __float__(self) -> float:
        return self.number


class Indexing:
    """A whole number as numpy has them."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


class Imaginary(Floating):
    """A complex one, which they have as a float, too."""


numbers.Complex.register(Imaginary)


WRONG: dict[str, tuple[Any, type[Exception]]] = {
    "nan": (math.nan, ValueError),
    "a decimal nan": (Decimal("nan"), ValueError),
    "a signaling nan": (Decimal("snan"), ValueError),
    "what is a float nan": (Floating(math.nan), ValueError),
    "a str": ("1", TypeError),
    "bytes": (b"1", TypeError),
    "a complex": (1 + 0j, TypeError),
    "what is a complex": (Imaginary(1), TypeError),
    "a list": ([1], TypeError),
    "an object": (object(), TypeError),
    "a class": (float, TypeError),
}
EVER = {
    "inf": math.inf,
    "a decimal inf": Decimal("inf"),
    "what is a float inf": Floating(math.inf),
    "an int beyond a float": 10**400,
    "a fraction beyond a float": Fraction(10**400),
    "a decimal beyond a float": Decimal("1e999"),
    "more than the platform waits": threading.TIMEOUT_MAX * 2,
    "an int more than the platform waits": int(threading.TIMEOUT_MAX) + 1,
    "as much as the platform waits": threading.TIMEOUT_MAX,
}
SHORT = {
    "0": 0,
    "0.0": 0.0,
    "False": False,
    "a float": 0.01,
    "a fraction": Fraction(1, 100),
    "a decimal": Decimal("0.01"),
    "what is a float": Floating(0.01),
    "what is an index": Indexing(0),
}
BELOW = {
    "an int": -1,
    "a float": -0.5,
    "minus inf": -math.inf,
    "an int beyond a float": -(10**400),
    "a decimal": Decimal(-1),
}


class World:
    """A tracked receiver that is held up, and its deliveries."""

    def __init__(self, executor: Executor, gate: Latch) -> None:
        self.executor: Any = executor
        self.gate = gate
        self.signal = Signal(executor=executor)
        self.connection = self.signal.connect(gate, tracked=True)
        self.deliveries = self.signal.send_async(None)
        self.delivery = self.deliveries[0][1]
        assert gate.entered.wait(TIMEOUT)


WAITS: dict[str, Callable[[World, Any], Any]] = {
    "drain": lambda world, timeout: world.executor.drain(timeout),
    "result": lambda world, timeout: world.delivery.result(timeout),
    "exception": lambda world, timeout: world.delivery.exception(timeout),
    "submit": lambda world, timeout: world.executor.submit(world.gate).result(timeout),
    "wait": lambda world, timeout: world.deliveries.wait(timeout),
    "results": lambda world, timeout: world.deliveries.results(timeout),
    "outcomes": lambda world, timeout: world.deliveries.outcomes(timeout),
    "as_completed": lambda world, timeout: list(world.deliveries.as_completed(timeout)),
    "map": lambda world, timeout: list(
        world.executor.map(lambda _: world.gate(), [1], timeout=timeout)
    ),
    "Signal.disconnect": lambda world, timeout: world.signal.disconnect(world.gate, wait=timeout),
    "Connection.disconnect": lambda world, timeout: world.connection.disconnect(wait=timeout),
}
KINDS: dict[str, tuple[Callable[[], Executor], type[Latch], list[str]]] = {
    "sync": (lambda: WorkerPool(2), Latch, [*WAITS]),
    # What is submitted or mapped is no coroutine function.
    "async": (lambda: WorkerPool(2), AsyncLatch, [w for w in WAITS if w not in ("map", "submit")]),
    "elsewhere": (
        lambda: ThreadPoolExecutor(2),
        Latch,
        ["wait", "results", "outcomes", "as_completed", "Signal.disconnect"],
    ),
}


class Waiting:
    """One way to wait in such a world."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.disconnects = "disconnect" in name
        self.returns_false = name in ("wait", "drain")  # when the time is up

    def __call__(self, timeout: Any) -> Any:
        return WAITS[self.name](self.world, timeout)


@pytest.fixture(params=[(kind, name) for kind in KINDS for name in KINDS[kind][2]], ids=", ".join)
def wait(request: pytest.FixtureRequest) -> Iterator[Waiting]:
    kind, name = request.param
    make, gate, _ = KINDS[kind]
    with make() as executor:
        world = World(executor, gate())
        try:
            yield Waiting(world, name)
        finally:
            world.gate.opened.set()


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_real_number_raises_and_changes_nothing(wrong: str, wait: Waiting) -> None:
    (number, error), world = WRONG[wrong], wait.world
    for _ in range(2):
        with pytest.raises(error, match=r"wait|timeout"):
            wait(number)
    assert world.connection.connected
    world.gate.opened.set()
    world.deliveries.results(TIMEOUT)
    with pytest.raises(error):  # though there is nothing to wait for
        wait(number)
    assert world.connection.connected
    if wait.name != "submit":
        assert world.gate.calls == 1


@pytest.mark.parametrize("ever", EVER)
def test_more_than_can_be_waited_is_for_ever(ever: str, wait: Waiting) -> None:
    waiting = Running(wait, EVER[ever])
    if wait.disconnects:
        wait_until(lambda: not wait.world.connection.connected)
    wait.world.gate.opened.set()
    assert waiting.result() is not False


@pytest.mark.parametrize("short", SHORT)
def test_numbers_of_every_kind_are_seconds(short: str, wait: Waiting) -> None:
    number = SHORT[short]
    if wait.disconnects and number is False:
        assert wait(number) is True  # does not wait
    elif wait.returns_false:
        assert wait(number) is False
    else:
        with pytest.raises(TimeoutError):
            wait(number)


@pytest.mark.parametrize("below", BELOW)
def test_less_than_zero_is_over_already_and_a_mistake_in_disconnect(
    below: str, wait: Waiting
) -> None:
    number = BELOW[below]
    if wait.disconnects:
        with pytest.raises(ValueError, match="wait must be at least 0 seconds"):
            wait(number)
        assert wait.world.connection.connected
    elif wait.returns_false:
        assert wait(number) is False
    else:
        with pytest.raises(TimeoutError):
            wait(number)


def test_none_is_for_ever_but_in_disconnect_where_that_is_true(wait: Waiting) -> None:
    if wait.disconnects:
        with pytest.raises(TypeError, match="wait"):
            wait(None)
        assert wait.world.connection.connected
    waiting = Running(wait, True if wait.disconnects else None)
    if wait.disconnects:
        wait_until(lambda: not wait.world.connection.connected)
    wait.world.gate.opened.set()
    assert waiting.result() is not False


# In a worker


@pytest.mark.parametrize("name", ["result", "exception", "wait", "results", "outcomes"])
@pytest.mark.parametrize("number", [*EVER, *SHORT, *WRONG])
def test_worker_takes_the_same_numbers(name: str, number: str) -> None:
    with WorkerPool(2) as pool:
        world = World(pool, Latch())
        if number in EVER:
            waiting = pool.submit(WAITS[name], world, EVER[number])
            world.gate.opened.set()
            assert waiting.result(TIMEOUT) is not False
            return
        try:
            if number in WRONG:
                wrong, error = WRONG[number]
                assert type(pool.submit(WAITS[name], world, wrong).exception(TIMEOUT)) is error
            elif name == "wait":
                assert pool.submit(WAITS[name], world, SHORT[number]).result(TIMEOUT) is False
            else:
                waiting = pool.submit(WAITS[name], world, SHORT[number])
                assert type(waiting.exception(TIMEOUT)) is TimeoutError
        finally:
            world.gate.opened.set()


# shutdown


@pytest.mark.parametrize("number", [*EVER, *SHORT, *BELOW, *WRONG])
def test_shutdown_takes_the_same_numbers(number: str) -> None:
    pool, gate = WorkerPool(1), Latch()
    running, pending = pool.submit(gate), pool.submit(int)
    assert gate.entered.wait(TIMEOUT)
    if number in WRONG:
        wrong, error = WRONG[number]
        for wait in True, False:
            with pytest.raises(error, match="timeout"):
                pool.shutdown(wait, timeout=wrong)
        assert "open" in repr(pool)
    elif number in EVER:
        waiting = Running(pool.shutdown, timeout=EVER[number])
        wait_until(lambda: inside.waiting_for_quiet(pool))
        gate.opened.set()
        waiting.result()
        assert pending.result(0) == 0
    else:
        seconds: Any = (SHORT | BELOW)[number]
        pool.shutdown(timeout=seconds)
        assert isinstance(pending.exception(0), DeliveryLost)
        assert running.running()
    gate.opened.set()
    Running(pool.shutdown).result()
    assert running.result(0) == "through"


# block_timeout


@pytest.mark.parametrize("wrong", WRONG)
def test_block_timeout_that_is_no_real_number_makes_no_pool(wrong: str) -> None:
    number, error = WRONG[wrong]
    with pytest.raises(error, match="block_timeout"):
        WorkerPool(1, block_timeout=number)


@pytest.mark.parametrize("below", BELOW)
def test_block_timeout_below_zero_makes_no_pool(below: str) -> None:
    number: Any = BELOW[below]
    with pytest.raises(ValueError, match="block_timeout must be at least 0"):
        WorkerPool(1, block_timeout=number)


@pytest.mark.parametrize("ever", EVER)
def test_block_timeout_may_be_for_ever(ever: str) -> None:
    number: Any = EVER[ever]
    with WorkerPool(1, max_pending=1, block_timeout=number) as pool:
        with held(pool):
            signal = signal_to(ignore, pool)
            signal.send_async(None)
            sending = Running(signal.send_async, None)
            wait_until(lambda: inside.blocked_senders(pool))
        assert sending.result().wait(TIMEOUT)


@pytest.mark.parametrize("short", SHORT)
def test_block_timeout_may_be_a_number_of_every_kind(short: str) -> None:
    number: Any = SHORT[short]
    with WorkerPool(1, max_pending=1, block_timeout=number) as pool, held(pool):
        signal = signal_to(ignore, pool)
        signal.send_async(None)
        with pytest.raises(QueueFull):
            signal.send_async(None)


# Beside the core


def captured(timeout: Any) -> bool:
    signal = Signal()
    with testing.capture(signal) as sent:
        signal.send(None)
        sent.wait(1, timeout)
        with pytest.raises(AssertionError, match="was to be sent 2 times"):
            sent.wait(2, 0 if timeout in EVER.values() else timeout)
    return True


def traced(timeout: Any) -> bool:
    with tracing.trace() as trace:
        Signal().send(None)
    return trace.wait(timeout)


def fresh(timeout: Any) -> bool:
    with testing.fresh_pool(1, timeout=timeout) as pool:
        return pool.submit(int).result(TIMEOUT) == 0


@pytest.mark.parametrize("number", [*EVER, *SHORT, *BELOW, *WRONG])
@pytest.mark.parametrize("wait", [captured, traced, fresh])
def test_waits_for_tests_and_traces_take_the_same_numbers(wait: Any, number: str) -> None:
    if number in WRONG:
        wrong, error = WRONG[number]
        with pytest.raises(error, match="timeout must be a number of seconds"):
            wait(wrong)
    elif number in BELOW and wait is fresh:
        with pytest.raises(ValueError, match="timeout must be at least 0 seconds"):
            wait(BELOW[number])
    else:
        assert wait((EVER | SHORT | BELOW)[number])
