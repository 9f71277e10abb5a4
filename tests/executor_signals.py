"""Signals and receivers that other processes can import."""

import dataclasses
import marshal
import os
import pickle
import signal as signals
import threading
import types
from typing import Any

from tsignals import Signal, background

elsewhere = Signal()


class NeedsTwo(Exception):
    """An error that pickles."""


def process_id(**named: Any) -> int:
    return os.getpid()


def doubles(value: int, **named: Any) -> int:
    return 2 * value


def fails(**named: Any) -> None:
    raise NeedsTwo("on purpose", os.getpid())


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An error of which nothing can be set."""

    code: str


class NeedsMore(Exception):
    """An error that is pickled, and cannot be unpickled."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)


def fails_frozen(**named: Any) -> None:
    raise Frozen("NoSuchBucket")


class False_(Exception):
    def __bool__(self) -> bool:
        return False


class Unasked(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


def fails_false(**named: Any) -> None:
    raise False_


def fails_unasked(**named: Any) -> None:
    raise Unasked


def fails_for_more(**named: Any) -> None:
    raise NeedsMore(503, "later")


def calls(value: Any, **named: Any) -> Any:
    return value()


def function_of(code: bytes) -> Any:
    return types.FunctionType(marshal.loads(code), {})


def run_pickled(data: bytes) -> Any:
    return pickle.loads(data)()


def returns_what_needs_more(**named: Any) -> NeedsMore:
    return NeedsMore(503, "later")


def returns_a_function(**named: Any) -> Any:
    return lambda: None


class Abort(BaseException):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)


def aborts(**named: Any) -> None:
    raise Abort(503, "later")


class Mailer:
    @classmethod
    @background
    def notify(cls, sender: object, value: int, **named: Any) -> tuple[str, int, int]:
        return cls.__name__, value, os.getpid()

    @background
    def write(self, sender: object, value: int, **named: Any) -> tuple[int, int]:
        return value, os.getpid()


def same_signal(signal: Signal, **named: Any) -> bool:
    return signal is elsewhere


def gives_a_lock(**named: Any) -> Any:
    return threading.Lock()


async def doubles_async(value: int, **named: Any) -> int:
    return 2 * value


@background
def in_background(value: int, **named: Any) -> tuple[int, int]:
    return 2 * value, os.getpid()


def sends(value: int, **named: Any) -> list[Any]:
    """What a plain signal answers there, and what a pool does."""
    inner = Signal()
    inner.connect(doubles)
    answers = [response for _, response in inner.send(None, value=value)]
    try:
        inner.send_async(None, value=value)
    except RuntimeError as error:
        answers.append(str(error))
    return answers


def dies_once(path: str, **named: Any) -> str:
    """Kill the process the first time; afterwards all is well."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "survived"
    os.kill(os.getpid(), signals.SIGKILL)
    raise AssertionError("unreachable")
