"""``background``: a receiver that, called by a plain ``send``, runs in a pool."""

import contextlib
import functools
import sys
import types
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, overload

from tsignals._connection import Terms
from tsignals._default import get_default_executor
from tsignals._definition import is_async, names_of
from tsignals._delivery import Sending
from tsignals._dispatch import deliver
from tsignals._pool import check_executor
from tsignals._prepared import Prepared, prepare
from tsignals._receiver import Background as Background
from tsignals._receiver import Receiver
from tsignals._signal import Signal, tell


@overload
def background(
    function: Receiver, *, executor: Executor | None = None, ordered: bool = False
) -> "BackgroundReceiver": ...
@overload
def background(
    function: None = None, *, executor: Executor | None = None, ordered: bool = False
) -> "Callable[[Receiver], BackgroundReceiver]": ...
def background(
    function: Receiver | None = None, *, executor: Executor | None = None, ordered: bool = False
) -> "BackgroundReceiver | Callable[[Receiver], BackgroundReceiver]":
    """Make ``function`` a receiver that runs in a pool and responds with its ``Delivery``.

    Use it as a decorator, with or without arguments, on functions and methods, for tsignals',
    Django's and blinker's signals. A failure is logged and told as that of ``send_async`` is.

    executor: what it runs in; ``None``: the signal's, else ``get_default_executor()``.
    ordered: run its deliveries one at a time, in the order of the calls.

    Connections are weak by default, also to this receiver: a decorated function of a module
    lives as long as the module, a decorated method as long as its object. The receiver that
    ``connect(background(f))`` makes in passing is gone at once: keep it, or pass ``weak=False``.

    Called by ``send_async`` it runs right there, in that worker. An ``async def`` function
    becomes a receiver that is not async itself and runs on the pool's event loop.
    """
    if function is None:
        return functools.partial(BackgroundReceiver, executor=executor, ordered=ordered)
    return BackgroundReceiver(function, executor=executor, ordered=ordered)


class BackgroundSending(Sending):
    """One call of a receiver in the background, as it came."""

    __slots__ = ("arguments", "target")

    mode = "background"

    def keywords_for(self, of: Any) -> dict[str, Any]:
        return self.named  # with or without the signal and the sender, as they came


class BackgroundReceiver(Background):
    """What ``background`` makes of a function."""

    def __init__(
        self, function: Receiver, *, executor: Executor | None = None, ordered: bool = False
    ) -> None:
        if not callable(function):
            raise TypeError(f"background needs a callable, not {type(function).__name__!r}")
        check_executor(executor)
        self.__wrapped__ = function
        with contextlib.suppress(Exception):  # what some objects will not say
            functools.update_wrapper(self, function)
        for mark in _ASYNC_MARKS:
            self.__dict__.pop(mark, None)
        # Only now: an object's attributes were copied, whatever they are called.
        self.function = function
        self.executor = executor
        self.ordered = ordered
        self._terms = Terms(ordered=bool(ordered), is_async=is_async(function))
        self.__name__, self.__qualname__ = names_of(function)
        self._method: list[BackgroundMethod] = []  # the first counts

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if not self._method:
            self._method.append(BackgroundMethod(self))
        # A real bound method: signals hold those weakly by their object.
        return types.MethodType(self._method[0], instance)

    def __call__(self, /, *arguments: Any, **keywords: Any) -> "Future[Any]":
        return self.deliver(self._bound(arguments, keywords), arguments, keywords)

    def prepare(self, /, *arguments: Any, **keywords: Any) -> Prepared:
        """Call it in two steps, as ``Signal.prepare`` is a ``send_async`` in two.

        What is returned has one delivery, which runs once it is submitted.
        """
        return self.prepare_for(self._bound(arguments, keywords), arguments, keywords)

    def prepare_for(
        self, receiver: Receiver, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Prepared:
        """As ``deliver``, in two steps."""
        executor, sending = self._sending(arguments, keywords)
        return prepare(executor, [(self, receiver)], sending)

    def _bound(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Receiver:
        """This receiver as it was connected."""
        # What a class method binds, or a caller by hand, is seen by the arguments: Django and
        # tsignals name both signal and sender, and blinker passes one sender.
        if "signal" in keywords:
            bound = bool(arguments)
        else:
            bound = len(arguments) > 1 and isinstance(arguments[0], type)
        return types.MethodType(self, arguments[0]) if bound else self

    def deliver(
        self, receiver: Receiver, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> "Future[Any]":
        """Have the function called with these; ``receiver`` is this one as it was connected."""
        executor, sending = self._sending(arguments, keywords)
        [(_, future)] = deliver(executor, [(self, receiver)], sending)
        return future

    def _sending(
        self, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[Executor, BackgroundSending]:
        signal = keywords.get("signal")
        executor = self.executor
        if executor is None and isinstance(signal, Signal):
            executor = signal.executor
        if executor is None:
            executor = get_default_executor()
        # Django and tsignals name the sender; blinker passes it last.
        sender = keywords["sender"] if "sender" in keywords else (arguments or (None,))[-1]
        sending = BackgroundSending(signal, sender, keywords, tell)
        sending.arguments, sending.target = arguments, self
        return executor, sending

    def __repr__(self) -> str:
        return f"<background {self.__qualname__}>"

    def __copy__(self) -> "BackgroundReceiver":
        return self

    def __deepcopy__(self, memo: Any) -> "BackgroundReceiver":
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        """By reference, as functions are, where its own name leads to it; else by what it wraps."""
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is self:
            return str(self.__qualname__)
        make = functools.partial(BackgroundReceiver, executor=self.executor, ordered=self.ordered)
        return make, (self.function,)


class BackgroundMethod(Background):
    """The function of bound methods, which is told what it is bound to."""

    # In a class, what a name leads to may be called otherwise; and with blinker's signals the
    # arguments would not show what is the instance.

    def __init__(self, whole: BackgroundReceiver) -> None:
        functools.update_wrapper(self, whole)
        self.whole = whole

    def __call__(self, instance: Any, /, *arguments: Any, **keywords: Any) -> "Future[Any]":
        receiver = types.MethodType(self, instance)
        return self.whole.deliver(receiver, (instance, *arguments), keywords)

    def prepare(self, instance: Any, /, *arguments: Any, **keywords: Any) -> Prepared:
        """As ``BackgroundReceiver.prepare``; ``instance`` is that of the method."""
        receiver = types.MethodType(self, instance)
        return self.whole.prepare_for(receiver, (instance, *arguments), keywords)

    def __repr__(self) -> str:
        return repr(self.whole)


_ASYNC_MARKS = ("_is_coroutine_marker", "_is_coroutine_mark", "_is_coroutine")
"""How a function is marked as async, which what runs it in the background is not."""
