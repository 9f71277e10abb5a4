"""Every way in which a receiver can fail: what the tests go through that are about all of them."""

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import django.dispatch
from helpers import TIMEOUT, Ear, awaited
from pools import held

from tsignals import Signal, WorkerPool, background

Receiver = Callable[..., Any]
Around = Callable[[], contextlib.AbstractContextManager[Any]]


@contextlib.contextmanager
def plain_around() -> Iterator[None]:
    yield


class Bare:
    """A context manager that ``contextlib`` has not made."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        pass


def asynchronous(receiver: Receiver) -> Receiver:
    async def receives(**named: Any) -> Any:
        return receiver(**named)

    return receives


def error_of(future: "Future[Any]") -> BaseException | None:
    assert not wait([future], TIMEOUT).not_done
    return future.exception(0)


@dataclasses.dataclass(frozen=True)
class Way:
    """``way(receiver, sender, **named)`` sends to it, and gives what that shows it has raised."""

    name: str
    mode: str  # "": nobody is told
    how: Callable[[Signal, Receiver, object, dict[str, Any]], BaseException | None]
    on_loop: bool = False  # the receiver runs on an event loop

    def __call__(
        self, receiver: Receiver, sender: object = None, signal: Any = None, /, **named: Any
    ) -> BaseException | None:
        signal = Signal() if signal is None else signal
        return self.how(signal, receiver, sender, named)


def raised(function: Callable[..., Any], *arguments: Any, **named: Any) -> BaseException | None:
    try:
        function(*arguments, **named)
    except BaseException as error:
        return error
    return None


def traced(error: BaseException) -> list[str]:
    """The functions in its traceback."""
    found = BaseException.__dict__["__traceback__"].__get__(error)
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(found)]


def by_send(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    with signal.connect(receiver, weak=False):
        return raised(signal.send, sender, **named)


def by_send_robust(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    ear = Ear()
    with signal.connect(receiver, weak=False), signal.connect(ear):
        outcomes = signal.send_robust(sender, **named)
    assert len(ear.calls) == 1
    [(_, error)] = outcomes.errors
    return error


def by_asend(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    async def asend() -> BaseException | None:
        # Caught in there: ``asyncio.run`` asks what comes out for its ``repr``.
        try:
            await signal.asend(sender, **named)
        except BaseException as error:
            return error
        return None

    with signal.connect(receiver, weak=False):
        return awaited(asend)


def by_asend_robust(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    ear = Ear()
    with signal.connect(ear, priority=-1):
        error = by_asend_robust_alone(signal, receiver, sender, named)
    assert len(ear.calls) == 1
    return error


def by_asend_robust_alone(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    with signal.connect(receiver, weak=False):
        outcomes = awaited(signal.asend_robust, sender, **named)
    [(_, error)] = outcomes.errors
    return error


def to_async(how: Any) -> Any:
    return lambda signal, receiver, *rest: how(signal, asynchronous(receiver), *rest)


def inside(how: Any, around: Around) -> Any:
    """The same, of a signal whose pool has an ``around``."""

    def ways(signal: Signal, *rest: Any) -> Any:
        with WorkerPool(1, around=around) as signal.executor:
            return how(signal, *rest)

    return ways


def by_send_async(around: Around | None = None, other: Receiver | None = None, **terms: Any) -> Any:
    def way(
        signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
    ) -> BaseException | None:
        with WorkerPool(1, around=around) as signal.executor:
            with signal.connect(receiver, weak=False, **terms):
                if other is not None:
                    signal.connect(other)
                futures = signal.send_async(sender, **named).futures
                return error_of(futures[0])

    return way


def in_the_caller(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    with WorkerPool(1, max_pending=1, overflow="caller_runs") as pool, held(pool):
        pool.submit(int)
        signal.executor = pool
        with signal.connect(receiver, weak=False):
            return error_of(signal.send_async(sender, **named).futures[0])


def in_a_nested_wait(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    def waits(**_: Any) -> BaseException | None:
        with signal.connect(receiver, weak=False):
            return signal.send_async(sender, **named)[0][1].exception(TIMEOUT)

    with WorkerPool(1) as pool:
        signal.executor = pool
        outer = Signal(executor=pool)
        outer.connect(waits)
        error: BaseException | None = outer.send_async(None)[0][1].result(TIMEOUT)
        return error


def in_another_executor(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    with ThreadPoolExecutor(1) as signal.executor, signal.connect(receiver, weak=False):
        future = signal.send_async(sender, **named).futures[0]
    return error_of(future)


def in_background(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    with WorkerPool(1) as pool, signal.connect(background(receiver, executor=pool), weak=False):
        return error_of(signal.send(sender, **named)[0][1])


def in_background_of_djangos(
    signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
) -> BaseException | None:
    theirs = django.dispatch.Signal()
    with WorkerPool(1) as pool:
        theirs.connect(background(receiver, executor=pool), weak=False)
        return error_of(theirs.send(sender, **named)[0][1])


def submitted(around: Around | None = None) -> Any:
    def way(
        signal: Signal, receiver: Receiver, sender: object, named: dict[str, Any]
    ) -> BaseException | None:
        with WorkerPool(1, around=around) as pool:
            return error_of(pool.submit(receiver, signal=signal, sender=sender, **named))

    return way


def another(**named: Any) -> None:
    """One more receiver, which makes it a send to several."""


WAYS = [
    Way("send", "", by_send),
    Way("send to async", "", to_async(by_send), on_loop=True),
    Way("send_robust", "send_robust", by_send_robust),
    Way("send_robust to async", "send_robust", to_async(by_send_robust), on_loop=True),
    Way("asend", "", by_asend),
    Way("asend around", "", inside(by_asend, plain_around)),
    Way("asend to async", "", to_async(by_asend), on_loop=True),
    Way("asend_robust", "asend_robust", by_asend_robust),
    Way("asend_robust around", "asend_robust", inside(by_asend_robust, plain_around)),
    Way("asend_robust to async", "asend_robust", to_async(by_asend_robust), on_loop=True),
    Way("send_async", "send_async", by_send_async()),
    Way("send_async to several", "send_async", by_send_async(other=another)),
    Way("send_async around", "send_async", by_send_async(plain_around)),
    Way("send_async around bare", "send_async", by_send_async(Bare)),
    Way("send_async ordered", "send_async", by_send_async(ordered=True)),
    Way("send_async tracked", "send_async", by_send_async(tracked=True)),
    Way("send_async to async", "send_async", to_async(by_send_async()), on_loop=True),
    Way(
        "send_async to async around",
        "send_async",
        to_async(by_send_async(plain_around)),
        on_loop=True,
    ),
    Way(
        "send_async to async tracked",
        "send_async",
        to_async(by_send_async(ordered=True, tracked=True)),
        on_loop=True,
    ),
    Way("caller_runs", "send_async", in_the_caller),
    Way("nested wait", "send_async", in_a_nested_wait),
    Way("other executor", "send_async", in_another_executor),
    Way("other executor to async", "send_async", to_async(in_another_executor), on_loop=True),
    Way("background", "background", in_background),
    Way("background of Django's", "background", in_background_of_djangos),
    Way("background async", "background", to_async(in_background), on_loop=True),
    Way("submit", "", submitted()),
    Way("submit around", "", submitted(plain_around)),
]
TELLING = [way for way in WAYS if way.mode]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: str = "NoSuchBucket"


class Sealed(Exception):
    """Refuses every attribute."""

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("sealed")

    def __delattr__(self, name: str) -> None:
        raise TypeError("sealed")


class Untraced(Exception):
    __traceback__ = None  # in the way of BaseException's

    def with_traceback(self, traceback: object) -> Any:
        raise TypeError("no traceback, please")


class False_(Exception):
    def __bool__(self) -> bool:
        return False


class Empty(Exception):
    def __len__(self) -> int:
        return 0


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Unequal(Exception):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never to be compared")

    __hash__ = None  # type: ignore[assignment]


class Unclassed(Exception):
    """Python's own ``traceback`` cannot print it."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # Without its context, which pytest could not show.
        raise RuntimeError("not to be asked") from None


ODD_ERRORS = [Frozen, Sealed, Untraced, False_, Empty, Speechless, Unequal]
