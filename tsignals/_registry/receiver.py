"""One receiver: the key of its connection, whether it may connect, and what is called for it.

Types are asked for by ``type``: ``isinstance`` would also believe a ``__class__`` that says
otherwise, as those of proxies and mocks do, and ask for it by running their code.
"""

import functools
from collections.abc import Callable, Hashable
from inspect import CO_COROUTINE, CO_VARKEYWORDS
from types import FunctionType, MethodType
from typing import TypeVar, cast

from tsignals._base.definition import (
    BY_ASYNCIO,
    BY_INSPECT,
    as_method,
    behind_partials,
    in_class,
    is_async,
    name_of,
    stored,
    takes_any_keywords,
)
from tsignals._base.identity import identity
from tsignals._base.retry import Retry
from tsignals._calling.types import Named, Ordered, Receiver

E = TypeVar("E", bound=Exception)


def connection_key(receiver: object, sender: object, dispatch_uid: Hashable) -> Hashable:
    """The key under which a connection stands; a new object with each call.

    The shapes (int, pair, one-tuple, triple) keep the kinds apart: no receiver's key can equal
    a ``dispatch_uid``'s, nor a method's the key of a function with a sender.

    Raises ``TypeError`` for an unhashable ``dispatch_uid``.
    """
    who: Hashable
    if dispatch_uid:
        try:
            hash(dispatch_uid)
        except TypeError as error:
            raise TypeError(
                f"dispatch_uid must be hashable, and this {type(dispatch_uid).__name__!r} is not "
                f"({error}); pass a str, or a tuple of what is hashable"
            ) from error
        who = (dispatch_uid,)
    else:
        who = id(receiver) if type(receiver) is FunctionType else identity(receiver)
    return who if sender is None else (who, id(sender), 0)


Kind = tuple[bool, bool, bool]
SYNC: Kind = False, False, False
_ASYNC: Kind = True, True, False


def check(receiver: object) -> Kind:
    """Raise unless ``receiver`` can be called with any keywords.

    Return whether it is async for ``send``, whether for ``send_async``, which sees through
    ``background``, and whether that wraps it.

    Django's two messages, word for word, but for what the second says of wrappers; a note says
    which receiver it is. A callable whose signature cannot be read is accepted. Nothing is kept,
    neither the receiver nor its signature.
    """
    function = receiver.__func__ if type(receiver) is MethodType else receiver
    # Unless an attribute says other than the code. Asked one by one, or a __dict__ is made.
    if type(function) is FunctionType and not (
        hasattr(function, "__wrapped__")
        or hasattr(function, "__signature__")
        or hasattr(function, BY_INSPECT)
        or hasattr(function, BY_ASYNCIO)
    ):
        flags = function.__code__.co_flags
        if not flags & CO_VARKEYWORDS:
            raise _too_narrow(receiver)
        return _ASYNC if flags & CO_COROUTINE else SYNC
    if not callable(receiver):
        given = f"what was given is of type {type(receiver).__name__!r}"
        raise _refused(TypeError, _UNCALLABLE, f"{given}; pass the function itself, not its result")
    if not takes_any_keywords(receiver):
        raise _too_narrow(receiver)
    inner = unwrap(receiver)
    return is_async(receiver), is_async(inner), inner is not receiver


_UNCALLABLE = "Signal receivers must be callable."
_NARROW = "Signal receivers must accept keyword arguments (**kwargs)."


def _refused(kind: Callable[[str], E], message: str, note: str) -> E:
    error = kind(message)
    error.add_note(note)
    return error


def _too_narrow(receiver: object) -> ValueError:
    function = receiver.__func__ if type(receiver) is MethodType else receiver
    wrapped, name = stored(function, "__wrapped__"), name_of(receiver)
    if callable(wrapped):
        return ValueError(f"{_NARROW} {name} is judged by what it wraps, {name_of(wrapped)}.")
    return _refused(ValueError, _NARROW, f"{name} does not: end its parameters with **kwargs")


class Background:
    """Base of receivers that run in a pool by themselves, so that who is in one can tell."""

    made_by = "background"  # the decorator
    function: Receiver
    # How its deliveries run, as ``connect`` takes it.
    ordered: Ordered
    retry: Retry | None

    @property
    def whole(self) -> "Background":
        """What ``background`` has made, where this is but the function of its bound methods."""
        return self

    @property
    def portable(self) -> Receiver:
        """What is pickled in its place, to be called in another process."""
        return cast(Receiver, self)

    def refuse(self, verb: str, signal: object, sender: object, named: Named) -> None:
        """Raise where the function must not run as what this ``send_async`` or ``prepare`` gives.

        For what is more than a background receiver, and calls its function at another time.
        """


def wrapper_of(receiver: object) -> Background | None:
    """What wraps the function, if ``background`` has made this receiver, or this method's."""
    function = _own_call(receiver)
    return cast(Background, function).whole if issubclass(type(function), Background) else None


def _own_call(receiver: object) -> object:
    """What a call of it runs: behind partials, a bound method, or the ``__call__`` of its class."""
    function = behind_partials(receiver)
    if type(function) is MethodType:
        function = function.__func__
    if type(function) is FunctionType or issubclass(type(function), Background):
        return function
    own: object = in_class(type(function), "__call__")
    return own if issubclass(type(own), Background) else function


def owner_of_lane(receiver: Receiver) -> Receiver:
    """Whose lane its deliveries are in: of a ``background`` receiver, what runs in every way to
    send. Of partials that is what they call (but for a function of a class that is given its object
    as an argument); of an object whose ``__call__`` it is, the method."""
    if type(receiver) is FunctionType or wrapper_of(receiver) is None:
        return receiver
    function = behind_partials(receiver)
    if type(function) is MethodType or issubclass(type(function), (FunctionType, Background)):
        return cast(Receiver, function)
    method = in_class(type(function), "__call__").__get__(function)
    return cast(Receiver, method)


def own_options(receiver: Receiver, ordered: object, retry: object) -> tuple[Ordered, Retry | None]:
    """``ordered`` and ``retry`` of what ``background`` wraps; these were given to ``connect``.

    What ``connect`` gave would not hold where the receiver puts itself into a pool.
    """
    wrapper = wrapper_of(receiver)
    for name, given in (("ordered", ordered), ("retry", retry)):
        if given is not None and given is not False:
            by = "background" if wrapper is None else wrapper.made_by
            raise ValueError(
                f"a background receiver has {name} from {by}, to hold in every way to send: "
                f"use {by}(function, {name}=...), without {name} in connect"
            )
    return (False, None) if wrapper is None else (wrapper.ordered, wrapper.retry)


def unwrap(receiver: Receiver) -> Receiver:
    """What to call where a pool runs the receiver already: the function behind ``background``."""
    if type(receiver) is FunctionType or (wrapper := wrapper_of(receiver)) is None:
        return receiver  # as nearly all are
    if issubclass(type(receiver), functools.partial):
        outer = cast("functools.partial[object]", receiver)
        return functools.partial(unwrap(outer.func), *outer.args, **outer.keywords)
    method = as_method(receiver)
    if method is not None:
        return MethodType(wrapper.function, method.__self__)
    # An object whose class has it as ``__call__`` is not the wrapper itself.
    is_its = issubclass(type(receiver), Background)
    return wrapper.function if is_its else MethodType(wrapper.function, receiver)
