"""``background``: a receiver that, called by a plain ``send``, runs in a pool."""

import functools
import types
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, overload

from tsignals._connection import Terms
from tsignals._default import get_default_executor
from tsignals._definition import is_async
from tsignals._delivery import Sending
from tsignals._dispatch import deliver
from tsignals._pool import check_executor
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
        self.function = function
        self.__name__: str
        self.__qualname__: str
        self.executor = executor
        self.terms = Terms(ordered=ordered, is_async=is_async(function))
        functools.update_wrapper(self, function)
        for mark in ("_is_coroutine_marker", "_is_coroutine"):  # of the function; this is not async
            self.__dict__.pop(mark, None)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # A real bound method: signals hold those weakly by their object.
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, /, *arguments: Any, **keywords: Any) -> "Future[Any]":
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
        [(_, future)] = deliver(executor, [(self, self._receiver(arguments))], sending)
        return future

    def _receiver(self, arguments: tuple[Any, ...]) -> Receiver:
        """This receiver as it was connected: bound, where it is called with an instance."""
        if arguments and getattr(type(arguments[0]), self.__name__, None) is self:
            return types.MethodType(self, arguments[0])
        return self

    def __reduce__(self) -> str:
        return str(self.__qualname__)  # by reference, as functions are
