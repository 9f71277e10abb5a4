"""``on_commit``: a receiver of Django's signals that runs in a pool, after the commit.

Threads
    It is called on the sender's thread, which is that of the transaction. The function runs in a
    worker of the pool, with a connection of its own. The receiver itself never changes once made.
"""

import functools
import inspect
import pickle
import sys
import types
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, overload

from tsignals import Delivery, background
from tsignals.django._commit import at_commit
from tsignals.django._locale import SentLocale

Receiver = Callable[..., Any]


@overload
def on_commit(
    function: Receiver,
    *,
    using: str | None = None,
    executor: Executor | None = None,
    ordered: Any = False,
    retry: Any = None,
) -> "OnCommit": ...
@overload
def on_commit(
    function: None = None,
    *,
    using: str | None = None,
    executor: Executor | None = None,
    ordered: Any = False,
    retry: Any = None,
) -> "Callable[[Receiver], OnCommit]": ...
def on_commit(
    function: Receiver | None = None,
    *,
    using: str | None = None,
    executor: Executor | None = None,
    ordered: Any = False,
    retry: Any = None,
) -> "OnCommit | Callable[[Receiver], OnCommit]":
    """Make ``function`` a receiver that runs in a pool when the sender's transaction commits.

    As ``background``, for functions and methods; for ``post_save`` and its kin, and for every
    signal that is sent inside a transaction. It responds with its ``Delivery``, which is pending
    until the outermost transaction has committed. A rollback, also to a savepoint around the send,
    resolves it with ``DeliveryDropped``. Without a transaction it is delivered at once.

    using: the database whose commit it waits for; ``None``: the one in the ``using`` that the
        signal carries, as model signals do, else the default one.
    executor, ordered, retry: as ``background`` has them. An order is that of the commits.

    Context, language and time zone are those of the send. With autocommit off the send raises
    ``TransactionManagementError`` and nothing is queued. Django connects weakly: keep the receiver
    that ``connect(on_commit(f))`` makes in passing, or pass ``weak=False``.

    Thread safety: as ``background``. Where it comes from: ``django.db.transaction.on_commit``.
    """
    arguments: dict[str, Any] = {"executor": executor, "ordered": ordered}
    if retry is not None:
        arguments["retry"] = retry
    if function is None:
        return functools.partial(OnCommit, using=using, arguments=arguments)
    return OnCommit(function, using=using, arguments=arguments)


class OnCommit:
    """What ``on_commit`` makes of a function."""

    __module__: str
    __name__: str
    __qualname__: str
    __wrapped__: Receiver

    def __init__(self, function: Receiver, *, using: str | None, arguments: dict[str, Any]) -> None:
        if not callable(function):
            raise TypeError(f"on_commit needs a callable, not {type(function).__name__!r}")
        self._background = background(localised(function), **arguments)
        self._using = using
        # Not its __dict__: there async functions may be marked as such, which this is not.
        functools.update_wrapper(self, self._background, updated=())
        self.__wrapped__ = function

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # A real bound method: signals hold those weakly by their object.
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, /, *arguments: Any, **keywords: Any) -> Delivery:
        using = self._using or keywords.get("using")
        deliveries = at_commit(using, lambda: self._background.prepare(*arguments, **keywords))
        [(_, delivery)] = deliveries
        return delivery

    def __copy__(self) -> "OnCommit":
        return self

    def __deepcopy__(self, memo: Any) -> "OnCommit":
        return self

    def __reduce__(self) -> str:
        """By reference, as functions are."""
        if found_as(self) is not self:
            raise pickle.PicklingError(f"cannot pickle {self!r}: it is not found under its name")
        return str(self.__qualname__)

    def __repr__(self) -> str:
        return f"<on_commit {self.__qualname__}>"


def localised(function: Receiver) -> "Localised":
    """``function``, called with the language and the time zone of the send."""
    return LocalisedAsync(function) if is_async(function) else Localised(function)


class Localised:
    """What ``localised`` makes; an executor may pickle it, if it is that of an ``on_commit``."""

    __module__: str
    __qualname__: str

    def __init__(self, function: Receiver) -> None:
        name = inner(function)
        named = name if hasattr(name, "__qualname__") else type(name)
        functools.update_wrapper(self, named, updated=())
        self.__wrapped__ = function

    def __call__(self, /, *arguments: Any, **keywords: Any) -> Any:
        with SentLocale():
            return self.__wrapped__(*arguments, **keywords)

    def __reduce__(self) -> tuple[Any, ...]:
        # Where the function's name leads to the receiver, the function cannot be found by it.
        receiver = found_as(self)
        if isinstance(receiver, OnCommit) and receiver.__wrapped__ is self.__wrapped__:
            return localised_of, (receiver,)
        return localised, (self.__wrapped__,)


class LocalisedAsync(Localised):
    """The same for an async function."""

    async def __call__(self, /, *arguments: Any, **keywords: Any) -> Any:
        with SentLocale():
            return await self.__wrapped__(*arguments, **keywords)


def localised_of(receiver: OnCommit) -> Localised:
    return localised(receiver.__wrapped__)


def found_as(thing: Any) -> Any:
    """What the name of ``thing`` leads to in its module, or ``None``."""
    found: Any = sys.modules.get(thing.__module__)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def inner(function: Any) -> Any:
    """What a partial is of."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def is_async(function: Any) -> bool:
    """As signals see it: coroutine functions, their methods and partials, async ``__call__``."""
    found = inner(function)
    return inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(
        getattr(type(found), "__call__", None)  # noqa: B004 - not whether it is callable
    )
