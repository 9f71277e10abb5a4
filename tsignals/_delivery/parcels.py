"""A call on its way into another interpreter, or another process.

An ``InterpreterPoolExecutor`` (CPython 3.14) pickles what it is given, and of what it cannot
unpickle there it says no more than that it is not shareable. So the call is pickled here, with an
error of our own, and ``unpack`` has it unpickled there, as ``multiprocessing`` does in a new
process: modules are looked for where they were found here.

A ``ProcessPoolExecutor`` breaks, for all that it was given, by what cannot be unpickled there. So
it gets bytes, and they are unpickled where the receiver is called.

What fails all the same is said in that delivery's future.
"""

import pickle
import sys
from collections.abc import Callable
from concurrent.futures import Executor

from tsignals._base.definition import name_of
from tsignals._base.log import show


def packed(executor: object, call: Callable[[], object], receiver: object) -> Callable[[], object]:
    """``call`` as ``executor`` is to get it."""
    interpreters = _kind("interpreter", "InterpreterPoolExecutor")
    if interpreters is not None and isinstance(executor, interpreters):
        return Parcel(call, receiver)
    processes = _kind("process", "ProcessPoolExecutor")
    # One with a ``submit`` of its own may pickle otherwise, and more.
    if processes is not None and getattr(type(executor), "submit", None) is processes.submit:
        return ProcessParcel(call, receiver)
    return call


def _kind(module: str, name: str) -> type[Executor] | None:
    """That class of ``concurrent.futures``, once it was imported."""
    return getattr(sys.modules.get(f"concurrent.futures.{module}"), name, None)


class Parcel:
    """``call``, pickled; raises ``PicklingError`` if it cannot be."""

    def __init__(self, call: Callable[[], object], receiver: object) -> None:
        self.call = call
        self.receiver = name_of(receiver)
        try:
            self.data = pickle.dumps(call)
        except Exception as error:
            raise pickle.PicklingError(
                f"cannot call receiver {self.receiver} in another interpreter: {error}; what is "
                "sent there must be picklable, and receivers attributes of a module"
            ) from error

    def __call__(self) -> object:
        return self.call()

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        program = getattr(sys.modules.get("__main__"), "__file__", None) is not None
        return unpack, (self.data, self.receiver, program, tuple(sys.path))


def unpack(data: bytes, receiver: str, program: bool, path: tuple[str, ...]) -> "Unpacked":
    """In the other interpreter: the call, or one that raises what is in its way.

    ``program``: the sender's ``__main__`` has a file.
    """
    try:
        try:
            return Unpacked(pickle.loads(data), receiver)
        except ModuleNotFoundError:
            sys.path.extend(place for place in path if place not in sys.path)
            return Unpacked(pickle.loads(data), receiver)
    except Exception as error:
        if program and b"__main__" in data and sys.modules["__main__"].__name__ == "__main__":
            # To this message the executor runs the program's file, and then asks once more.
            raise AttributeError("module '__main__' has no attribute 'of that name'") from error
        return Unpacked(
            None,
            f"cannot call receiver {receiver} in another interpreter: {error}; receivers, signals "
            "and the types of what is sent must be in modules that can be imported there",
        )


class Unpacked:
    """In the other interpreter: the call of ``receiver``, or ``None`` and what is in its way."""

    def __init__(self, call: Callable[[], object] | None, receiver: str) -> None:
        self.call = call
        self.receiver = receiver

    def __call__(self) -> object:
        from concurrent.interpreters import is_shareable  # type: ignore[import-not-found]

        if self.call is None:
            raise RuntimeError(self.receiver)
        response = self.call()
        if not is_shareable(response):
            try:
                pickle.dumps(response)
            except Exception as error:
                raise TypeError(
                    f"the response of receiver {self.receiver} cannot leave its interpreter: "
                    f"{error}; it must be picklable"
                ) from None
        return response


class ProcessParcel:
    """``call``, which is pickled when the executor pickles this."""

    def __init__(self, call: Callable[[], object], receiver: object) -> None:
        self.call = call
        self.receiver = name_of(receiver)

    def __call__(self) -> object:
        return self.call()

    def __reduce__(self) -> tuple[Callable[..., object], tuple[bytes, str]]:
        from multiprocessing.reduction import ForkingPickler  # as the executor's own

        return InProcess, (bytes(ForkingPickler.dumps(self.call)), self.receiver)


class InProcess:
    """In the other process: the pickled call of ``receiver``."""

    def __init__(self, data: bytes, receiver: str) -> None:
        self.data = data
        self.receiver = receiver

    def __call__(self) -> object:
        try:
            call = pickle.loads(self.data)
        except Exception as error:
            raise RuntimeError(
                f"cannot call receiver {self.receiver} in another process: {show(error)}; what is "
                "sent must be such that it can be unpickled, and receivers, signals and types must "
                "be in modules that can be imported there"
            ) from None
        return call()
