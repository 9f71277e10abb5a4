"""What the tests share: receivers that remember, threads that report, waits that end."""

import asyncio
import contextlib
import gc
import logging
import os
import re
import signal as signals
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

import causes
from processes import command

import tsignals
from stress.bytecode import count
from tsignals import Signal

T = TypeVar("T")

PACKAGE = tsignals.__path__[0]

TIMEOUT = 60.0
"""Seconds after which a wait in a test has failed; never waited for when all is well."""
VOLUME = int(os.environ.get("TSIGNALS_TEST_VOLUME", "10000"))
"""How many requests, or saves, a test tries; where time is short, say less."""


def gil_is_on() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def without_address(value: object) -> str:
    """How a test is named for what it is about; the same in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged meanwhile."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class Thing:
    """A sender or a receiver's owner: an object that can be held weakly, with a name."""

    def __init__(self, name: str = "thing") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Ear(Thing):
    """A receiver that remembers its calls; so are its methods ``hear`` and ``listen``."""

    def __init__(self, name: str = "ear", response: object = None) -> None:
        super().__init__(name)
        self.response = response
        self.calls: list[dict[str, Any]] = []

    def __call__(self, /, **named: Any) -> Any:
        self.calls.append(named)
        return self.response

    def hear(self, /, **named: Any) -> Any:
        return self(**named)

    def listen(self, /, **named: Any) -> Any:
        return self(**named)


class Equal(Ear):
    """An ear that claims to equal everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Unhashable(Ear):
    """An ear that cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


class Boom(Exception):
    """What receivers raise on purpose."""


class BaseBoom(BaseException):
    """The same, for what is no ``Exception``."""


def ignore(**named: Any) -> None:
    """A receiver that does nothing."""


def raiser(error: BaseException) -> Callable[..., Any]:
    """A receiver that raises ``error``."""

    def raises(**named: Any) -> None:
        raise error

    return raises


def heard(signal: Signal, sender: object = None, /, **named: Any) -> list[Any]:
    """The receivers that a send called, in order."""
    return [receiver for receiver, _ in signal.send(sender, **named)]


def awaited(method: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
    """What ``await method(...)`` gives, in an event loop of its own."""

    async def main() -> T:
        return await method(*arguments, **named)

    return asyncio.run(main())


def assert_gone(reference: "weakref.ref[Any]") -> None:
    """Fail if what ``reference`` refers to stays alive.

    A thread that is through with it may be a step from letting it go; and without the GIL the last
    frame may leave it to the collector.
    """
    wait_until(lambda: reference() is None or (gc.collect() >= 0 and reference() is None))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector: what goes in here goes with its last reference."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def in_new_process(function: Callable[..., object], *arguments: object) -> None:
    """Call a test module's ``function(*arguments)`` in a new Python; fail if it fails."""
    module, name = function.__module__, function.__name__
    code = f"import {module}; {module}.{name}(*{arguments!r})"
    done = command(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=3 * TIMEOUT,
    )
    assert done.returncode == 0, done.stderr


def steps(act: Callable[[], object]) -> int:
    """How many bytecodes of the package this thread executes in ``act()``."""
    ours = PACKAGE, "<tsignals"
    count(Signal, ours)  # CPython 3.12 begins to tell of them the second time it is asked
    return count(act, ours)


def assert_linear(work: Callable[[int], int], n: int) -> None:
    """Fail if ten times as much is much more than ten times the steps."""
    few, many = work(n), work(10 * n)
    assert many < 20 * few, f"{few} steps for {n}, {many} for {10 * n}"


class Addresses:
    """Sees to it that addresses are used again: loop until ``enough()``, ``add`` each object."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.reused = 0

    def add(self, thing: object) -> None:
        self.reused += id(thing) in self.seen
        self.seen.add(id(thing))

    def enough(self) -> bool:
        assert len(self.seen) < 20_000, "no address is used again"
        return self.reused >= 50


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` is true; fail when that takes too long."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.001)


class Latch:
    """A receiver that stops in the middle: sets ``entered``, then waits to be ``opened``."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.left = threading.Event()
        self._came = list[None]()  # several threads add to it at once

    @property
    def calls(self) -> int:
        return len(self._came)

    def __call__(self, /, **named: Any) -> str:
        self._came.append(None)
        self.entered.set()
        assert self.opened.wait(TIMEOUT), "nobody opened the latch"
        self.left.set()
        return "through"


class Running(Generic[T]):
    """A function that runs in a thread of its own; ``result()`` ends the thread or fails."""

    def __init__(self, function: Callable[..., T], *arguments: Any, **named: Any) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(function, arguments, named), daemon=True
        )
        self._thread.start()

    def _run(
        self, function: Callable[..., T], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        try:
            self._value = function(*arguments, **named)
        except BaseException as error:
            self._error = error
            self._cause = causes.tell_error("a thread of the test raised", error)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout: float = TIMEOUT) -> T:
        self._thread.join(timeout)
        assert self.done, "the thread hangs"
        if self._error is not None:
            causes.take_back(self._cause)  # it is raised here
            raise self._error
        return self._value


@contextlib.contextmanager
def handled(
    handle: Callable[[], object], when: Callable[[], object], number: int = signals.SIGINT
) -> Iterator[None]:
    """Send this thread, the main one, a signal as soon as ``when()``; ``handle`` is called once.

    It is sent until it is heard: the interpreter does not notice one that comes just before a
    lock is waited for, and goes on waiting (a person presses Ctrl-C again).
    """

    def handler(*details: object) -> None:
        if not heard:
            heard.append(True)
            handle()

    def sends() -> None:
        wait_until(when)
        wait_until(lambda: heard or signals.pthread_kill(main, number))

    main, heard = threading.get_ident(), list[bool]()
    before = signals.signal(number, handler)
    try:
        sending = Running(sends)
        try:
            yield
        finally:
            sending.result(2 * TIMEOUT)
    finally:
        signals.signal(number, before)


def together(*functions: Callable[[], T]) -> list[T]:
    """Call the functions at the same moment, each in a thread of its own; their results."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], T]) -> T:
        barrier.wait(TIMEOUT)
        return function()

    return [thread.result() for thread in [Running(run, function) for function in functions]]
