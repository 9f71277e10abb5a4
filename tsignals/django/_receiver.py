"""``on_commit``: a receiver of Django's signals that runs in a pool, after the commit.

Threads
    It is called on the sender's thread, which is that of the transaction. The function runs in a
    worker of the pool, with a connection of its own. The receiver itself never changes once made.
"""

import functools
import sys
from collections.abc import Awaitable, Callable, Hashable, Mapping
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Protocol, overload

from django.db import DEFAULT_DB_ALIAS
from django.db import connections as databases
from django.db.transaction import TransactionManagementError

from tsignals import Retry, background
from tsignals._base.definition import behind_partials, is_async
from tsignals.django._commit import at_commit, check_using, waits_for_a_commit
from tsignals.django._locale import SentLocale

if TYPE_CHECKING:
    from tsignals import _Background

    Background = _Background[..., object]
else:
    Background = type(background(print))

Receiver = Callable[..., object]
Ordered = bool | Callable[..., Hashable]


class Named(Protocol):
    """What its module may have under its name."""

    __qualname__: str


@overload
def on_commit(
    function: Receiver,
    *,
    using: str | None = None,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "OnCommit": ...
@overload
def on_commit(
    function: None = None,
    *,
    using: str | None = None,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "Callable[[Receiver], OnCommit]": ...
def on_commit(
    function: Receiver | None = None,
    *,
    using: str | None = None,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
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
    ``TransactionManagementError`` and nothing is queued. ``send_async`` waits for no commit: it
    raises that inside a transaction; use ``after_commit``, with which this runs as its delivery.
    Django connects weakly: keep the receiver that ``connect(on_commit(f))`` makes in passing, or
    pass ``weak=False``.

    Thread safety: as ``background``. Where it comes from: ``django.db.transaction.on_commit``.
    """
    if function is None:  # else OnCommit checks them here and now
        check_using(using)
        background(executor=executor, ordered=ordered, retry=retry)
    make = functools.partial(OnCommit, using=using, executor=executor, ordered=ordered, retry=retry)
    return make if function is None else make(function)


class OnCommit(Background):
    """What ``on_commit`` makes of a function: a ``background`` receiver for after the commit."""

    made_by = "on_commit"
    __module__: str
    __name__: str
    __qualname__: str
    __wrapped__: Receiver
    function: Receiver

    def __init__(
        self,
        function: Receiver,
        *,
        using: str | None,
        executor: Executor | None,
        ordered: Ordered,
        retry: Retry | None,
    ) -> None:
        super().__init__(function, executor=executor, ordered=ordered, retry=retry)
        check_using(using)
        self._using = using
        self.function = localised(self.function)

    def deliver(
        self, receiver: Receiver, arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> "Future[object]":
        """Hold the call back until the commit; its delivery."""
        using = self._database(keywords)
        deliveries = at_commit(using, lambda: self.prepare_for(receiver, arguments, keywords))
        [(_, delivery)] = deliveries
        return delivery

    def refuse(self, verb: str, signal: object, sender: object, named: dict[str, object]) -> None:
        """Raise where ``send_async`` would run the function before the commit."""
        using = self._database(named)
        if verb == "send_async" and waits_for_a_commit(databases[using]):
            of = "" if using == DEFAULT_DB_ALIAS else f", using={using!r}"
            raise TransactionManagementError(
                f"cannot send_async {signal!r} inside a transaction: {self!r} would run before the "
                f"commit; use send, or after_commit(signal, sender{of}, ...)"
            )

    def _database(self, named: Mapping[str, object]) -> str:
        """The alias of the database whose commit it waits for."""
        carried = named.get("using") if self._using is None else self._using
        if carried is not None and not isinstance(carried, str):
            raise TypeError(
                f"cannot call {self!r}: the using of its signal is {carried!r}, which is no alias "
                "of a database; name the one to wait for, as in on_commit(using='default')"
            )
        using: str = carried or DEFAULT_DB_ALIAS
        return using

    def options(self) -> dict[str, object]:
        """What it was made with, besides the function."""
        return {**super().options(), "using": self._using}


def localised(function: Receiver) -> "Localised":
    """``function``, called with the language and the time zone of the send."""
    return LocalisedAsync(function) if is_async(function) else Localised(function)


class Localised:
    """What ``localised`` makes; an executor may pickle it, if it is that of an ``on_commit``."""

    __module__: str
    __qualname__: str

    def __init__(self, function: Receiver) -> None:
        name = behind_partials(function)
        named = name if hasattr(name, "__qualname__") else type(name)
        functools.update_wrapper(self, named, updated=())
        self.__wrapped__ = function

    def __call__(self, /, *arguments: object, **keywords: object) -> object:
        with SentLocale():
            return self.__wrapped__(*arguments, **keywords)

    def __reduce__(self) -> tuple[object, ...]:
        # Where the function's name leads to the receiver, the function cannot be found by it.
        receiver = found_as(self)
        if isinstance(receiver, OnCommit) and receiver.__wrapped__ is self.__wrapped__:
            return localised_of, (receiver,)
        return localised, (self.__wrapped__,)


class LocalisedAsync(Localised):
    """``Localised`` for an async function."""

    __wrapped__: Callable[..., Awaitable[object]]

    async def __call__(self, /, *arguments: object, **keywords: object) -> object:
        with SentLocale():
            return await self.__wrapped__(*arguments, **keywords)


def localised_of(receiver: OnCommit) -> Localised:
    return localised(receiver.__wrapped__)


def found_as(thing: Named) -> object:
    """What the name of ``thing`` leads to in its module, or ``None``."""
    found: object = sys.modules.get(thing.__module__)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found
