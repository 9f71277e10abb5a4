"""What a signal says of itself: its name, its values; and how a function's definition says it."""

import inspect
import sys
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import NoReturn, TypeVar

from tsignals._base.definition import name_of
from tsignals._registry.naming import HasAddress

S = TypeVar("S", bound=HasAddress)

_HINT = "write def order_placed(sender: Shop, *, order: int) -> None: ..."


def checked_name(name: str | None) -> str | None:
    """As text alone: a member of an enum would be shown as that."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"name must be a str or None, not {type(name).__name__!r}")
    return str.__str__(name)


def checked_values(providing_args: Iterable[str] | None) -> tuple[str, ...]:
    """The names of the values that a signal carries."""
    if isinstance(providing_args, (str, bytes)):
        name = providing_args
        if isinstance(name, bytes):
            name = name.decode("utf-8", "replace")
        raise TypeError(
            f"providing_args must be an iterable of names, not {providing_args!r} itself; "
            f"pass [{name!r}], or name={name!r} to name the signal"
        )
    if providing_args is not None and not isinstance(providing_args, Iterable):
        kind = type(providing_args).__name__
        raise TypeError(f"providing_args must be an iterable of names, not {kind!r}")
    return tuple(providing_args or ())


def declare(make: Callable[[list[str], str], S], stub: object) -> S:
    """What ``make`` makes of the values and the name that ``stub`` declares; with its doc."""
    if type(stub) is staticmethod:  # in a class, where checkers would take a sender for its object
        stub = stub.__func__
    if type(stub) is not FunctionType or inspect.iscoroutinefunction(stub):
        raise TypeError(f"declare needs a plain function, not {name_of(stub)}: {_HINT}")
    signal = make(_values(stub), stub.__name__)
    signal.__doc__ = stub.__doc__
    signal.__module__ = stub.__module__
    signal._address.set_declared_by(stub)
    return signal


def _values(stub: FunctionType) -> list[str]:
    """The names of the values, which come after the sender; raises ``TypeError`` for others."""
    code = stub.__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        _refuse(stub, "has *args or **kwargs; name each value")
    named = [*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    positional, values = named[: code.co_argcount], named[code.co_argcount :]
    if positional != ["sender"]:
        _refuse(stub, f"takes ({', '.join(positional)}) by position, not the sender alone")
    if "signal" in values:
        _refuse(stub, "names a value 'signal', which every receiver gets as it is")
    if stub.__defaults__ or stub.__kwdefaults__:
        _refuse(stub, "has a default; each send gives every value")
    if bare := [name for name in named if name not in _annotated(stub)]:
        _refuse(stub, f"has no annotation for {', '.join(bare)}")
    return values


_AS_TEXT = 4  # annotationlib.Format.STRING


def _annotated(stub: FunctionType) -> dict[str, object]:
    """What is annotated; nothing of it is evaluated here."""
    if sys.version_info >= (3, 14):
        return inspect.get_annotations(stub, format=_AS_TEXT)
    return stub.__annotations__


def _refuse(stub: FunctionType, why: str) -> NoReturn:
    raise TypeError(f"{stub.__qualname__} {why}: {_HINT}")
