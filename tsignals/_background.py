"""``background``: a receiver that, called by a plain ``send``, runs in a pool."""

import contextlib
import functools
import importlib
import pickle
import types
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, cast, overload

from tsignals._base.definition import (
    MARKS,
    bases_of,
    is_async,
    name_of,
    names_of,
    namespace_of,
)
from tsignals._base.identity import SameWhenCopied
from tsignals._base.retry import Retry, check_retry
from tsignals._calling.tracking import taken_along
from tsignals._calling.types import Named, Ordered, Receiver, check_ordered
from tsignals._default import executor_for
from tsignals._delivery.delivery import GeneralSend, HasOptions
from tsignals._delivery.dispatch import deliver, load_async
from tsignals._delivery.prepared import Prepared, prepare
from tsignals._pool.pool import check_executor
from tsignals._registry import naming
from tsignals._registry.connection import Options
from tsignals._registry.receiver import Background, wrapper_of
from tsignals._signal import Signal


@overload
def background(
    function: Receiver,
    *,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "BackgroundReceiver": ...
@overload
def background(
    function: None = None,
    *,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "Callable[[Receiver], BackgroundReceiver]": ...
def background(
    function: Receiver | None = None,
    *,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "BackgroundReceiver | Callable[[Receiver], BackgroundReceiver]":
    """Make ``function`` a receiver that runs in a pool and responds with its ``Delivery``.

    Use it as a decorator, with or without arguments, on functions and methods, for tsignals',
    Django's and blinker's signals. A failure is logged and told as that of ``send_async`` is.

    executor: what it runs in; ``None``: the signal's, else ``get_default_executor()``.
    ordered: run its deliveries one at a time, in the order of the calls; a function, called as
        ``key(sender=sender, **named)``: those for equal values.
    retry: run a delivery again whose function raises what this names.

    Connections are weak by default, also to this receiver: a decorated function of a module
    lives as long as the module, a decorated method as long as its object. The receiver that
    ``connect(background(f))`` makes in passing is gone at once: keep it, or pass ``weak=False``.

    Raises ``TypeError`` for what is not callable, or is in the background already, and for an
    option of the wrong type.

    Called by ``send_async`` it runs right there, in that worker. An ``async def`` function
    becomes a receiver that is not async itself and runs on the pool's event loop. A call of it
    raises what ``send_async`` raises. ``@receiver(signal)`` belongs above it, not below: there it
    would connect the function alone.

    Thread safety: from any thread.
    """
    check_executor(executor)  # not only where it is applied
    ordered, retry = check_ordered(ordered), check_retry(retry)
    make = functools.partial(BackgroundReceiver, executor=executor, ordered=ordered, retry=retry)
    return make if function is None else make(function)


Arguments = tuple[object, ...]
BINDING = classmethod, staticmethod, types.MethodType


class BackgroundSend(GeneralSend):
    """One call of a receiver in the background, as it came."""

    __slots__ = ("_arguments", "_target")

    _mode = "background"

    def _keywords_for(self, of: object) -> Named:
        return self._named  # with or without the signal and the sender, as they came


class BackgroundReceiver(SameWhenCopied, Background):
    """What ``background`` makes of a function."""

    def __init__(
        self,
        function: Receiver,
        *,
        executor: Executor | None = None,
        ordered: Ordered = False,
        retry: Retry | None = None,
    ) -> None:
        is_static = issubclass(type(function), staticmethod)  # not what only says so: a proxy
        if is_static:
            function = cast("staticmethod[..., object]", function).__func__
        if not callable(function):
            kind = type(function)
            hint = "; a pool is given as executor=" if issubclass(kind, Executor) else ""
            hint = "; put @classmethod above it" if issubclass(kind, classmethod) else hint
            raise TypeError(f"{self.made_by} needs a callable, not {kind.__name__!r}{hint}")
        if (inner := wrapper_of(function)) is not None:
            raise TypeError(
                f"{name_of(function)} runs in the background as it is, by {inner.made_by}; pass "
                f"{self.made_by} the function itself"
            )
        check_executor(executor)
        ordered, retry = check_ordered(ordered), check_retry(retry)
        self.__wrapped__ = function
        with contextlib.suppress(Exception):  # what some objects will not say
            functools.update_wrapper(self, function)
        for name in list(self.__dict__):
            # Not what marks the function as async, nor what would hide a method of ours.
            if name in MARKS or (name[:2] != "__" and hasattr(type(self), name)):
                del self.__dict__[name]
        # Only now: an object's attributes were copied, whatever they are called.
        self.function = function
        self._is_static = is_static
        self.executor = executor
        self.ordered = ordered
        self.retry = retry
        if runs_on_loop := is_async(function):
            load_async()
        self._options = Options(ordered=ordered, retry=retry, is_async=runs_on_loop)
        self.__name__, self.__qualname__ = names_of(function)
        self._method: list[BackgroundMethod] = []  # the first counts

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None or self._is_static:
            return self
        # A real bound method: signals hold those weakly by their object.
        return types.MethodType(self.of_methods(), instance)

    def of_methods(self) -> "BackgroundMethod":
        """The function of its bound methods, which is one for all of them."""
        if not self._method:
            self._method.append(BackgroundMethod(self))
        return self._method[0]

    def __call__(self, /, *arguments: object, **keywords: object) -> "Future[Any]":
        return self.deliver(self._bound(arguments, keywords), arguments, keywords)

    def prepare(self, /, *arguments: object, **keywords: object) -> Prepared:
        """Call it in two steps, as ``Signal.prepare`` is a ``send_async`` in two.

        What is returned has one delivery, which runs once it is submitted.
        """
        return self.prepare_for(self._bound(arguments, keywords), arguments, keywords)

    def prepare_for(self, receiver: Receiver, arguments: Arguments, keywords: Named) -> Prepared:
        """As ``deliver``, in two steps."""
        agreed = self._agreed()  # first: what follows copies the context
        executor, send = self._send_of(arguments, keywords)
        return prepare(executor, [(agreed, receiver)], send)

    def _bound(self, arguments: Arguments, keywords: Named) -> Receiver:
        """This receiver as it was connected."""
        # What a class method binds, or a caller by hand, is seen by the arguments: Django and
        # tsignals name both signal and sender, and blinker passes one sender.
        instance = arguments[0] if arguments else None
        bound = len(arguments) > 1 and issubclass(type(instance), type)
        if bound or ("signal" in keywords and self._is_of(instance)):
            return types.MethodType(self, instance)
        return self

    def _is_of(self, instance: object) -> bool:
        """Whether it is a method of that object, or class: what a partial gives is none."""
        kind = instance if issubclass(type(instance), type) else type(instance)
        own = [each for of in bases_of(kind) for each in list(namespace_of(of).values())]
        # Of what is not bound nothing is asked: it may be a proxy that raises here.
        bound = [each.__func__ for each in own if issubclass(type(each), BINDING)]
        return any(each is self for each in own + bound)

    def deliver(self, receiver: Receiver, arguments: Arguments, keywords: Named) -> "Future[Any]":
        """Have the function called with these; ``receiver`` is this one as it was connected."""
        agreed = self._agreed()  # as above
        executor, send = self._send_of(arguments, keywords)
        [(_, future)] = deliver(executor, [(agreed, receiver)], send)
        return future

    def _agreed(self) -> HasOptions:
        """What was agreed on for its delivery: also the gate of a connection that is tracked."""
        along = taken_along.get()
        if along is None or wrapper_of(along[0]) is not self:
            return self
        taken_along.set(None)  # what this send may run here, in a full pool, has its own
        agreed = _Agreed()
        agreed._options = Options(
            ordered=self.ordered,
            retry=self.retry,
            is_async=self._options.is_async,
            gate=along[1],
        )
        return agreed

    def _send_of(self, arguments: Arguments, keywords: Named) -> tuple[Executor, BackgroundSend]:
        signal = keywords.get("signal")
        executor = self.executor
        if executor is None and isinstance(signal, Signal):
            executor = signal.executor
        # Django and tsignals name the sender; blinker passes it last.
        sender = keywords["sender"] if "sender" in keywords else (arguments or (None,))[-1]
        send = BackgroundSend(signal, sender, keywords)
        send._arguments, send._target = arguments, self
        return executor_for(executor), send

    def __repr__(self) -> str:
        return f"<{self.made_by} {self.__qualname__}>"

    @property
    def portable(self) -> Receiver:
        # The function, whose executor need not be: it stays here.
        found = naming.follow(self.__module__, self.__qualname__)
        return self if found is self or self._is_bound_in(found) else self.function

    def _is_bound_in(self, found: object) -> bool:
        """Whether that is the class method which it has been made."""
        own = found.__func__ if type(found) is types.MethodType else None
        return isinstance(own, Background) and own.whole is self

    def __reduce__(self) -> str | tuple[object, ...]:
        """By reference, as functions are, where its own name leads to it; else by what it wraps."""
        if (found := naming.follow(self.__module__, self.__qualname__)) is self:
            return str(self.__qualname__)
        if self._is_bound_in(found):
            # Not by the method: a pickler that takes it to pieces comes here again, without end.
            return _of_class_method, (self.__module__, self.__qualname__)
        make: Callable[..., object] = type(self)
        return functools.partial(make, **self.options()), (self.__wrapped__,)

    def options(self) -> Named:
        """What it was made with, besides the function."""
        return {"executor": self.executor, "ordered": self.ordered, "retry": self.retry}


class _Agreed:
    """Stands for the connection of a tracked receiver."""

    _options: Options


class BackgroundMethod(Background):
    """The function of bound methods, which is told what it is bound to."""

    # In a class, what a name leads to may be called otherwise; and with blinker's signals the
    # arguments would not show what is the instance.

    def __init__(self, whole: BackgroundReceiver) -> None:
        functools.update_wrapper(self, whole)
        self._whole = whole

    @property
    def whole(self) -> BackgroundReceiver:
        return self._whole

    def __call__(
        self, instance: object, /, *arguments: object, **keywords: object
    ) -> "Future[Any]":
        receiver = types.MethodType(self, instance)
        return self._whole.deliver(receiver, (instance, *arguments), keywords)

    def prepare(self, instance: object, /, *arguments: object, **keywords: object) -> Prepared:
        """As ``BackgroundReceiver.prepare``; ``instance`` is that of the method."""
        receiver = types.MethodType(self, instance)
        return self._whole.prepare_for(receiver, (instance, *arguments), keywords)

    def __repr__(self) -> str:
        return repr(self._whole)

    def __reduce__(self) -> tuple[object, ...]:
        # What it has copied of the whole, such as a pool, need not be picklable.
        return BackgroundReceiver.of_methods, (self._whole,)


def _of_class_method(module: str, path: str) -> Background:
    """What ``background`` has made of the class method there: what unpickling calls."""
    importlib.import_module(module)
    if (found := wrapper_of(naming.follow(module, path))) is None:
        raise pickle.UnpicklingError(f"there is no background receiver {path!r} in {module!r}")
    return found
