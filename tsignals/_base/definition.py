"""What a receiver's definition tells, read without running anything of the receiver's.

Attributes are taken from where they are stored, so no property, ``__getattr__``, ``__class__`` or
``__signature__`` of the receiver is asked, and no annotation is evaluated: these may fail, be slow,
or have effects. What cannot be read so is taken to be right.
"""

import functools
import inspect
import sys
from collections.abc import Collection, Iterator
from inspect import CO_COROUTINE, CO_VARKEYWORDS
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any

DEEPEST = 100
"""Wrappers around wrappers, after which we look no further."""


def ids(*kinds: type) -> frozenset[int]:
    """Of types: to look for one of these themselves might run ``__eq__`` of a metaclass."""
    return frozenset(map(id, kinds))


BUILTIN = ids(BuiltinFunctionType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType)
IN_C = ids(GetSetDescriptorType, MemberDescriptorType)
BIND_IN_CLASS = ids(classmethod, staticmethod)
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made while the program runs, by a class statement or so
MISSING = object()

# What a metaclass may show otherwise.
bases_of = type.__dict__["__mro__"].__get__
namespace_of = type.__dict__["__dict__"].__get__
flags_of = type.__dict__["__flags__"].__get__
_name_of = type.__dict__["__name__"].__get__
_func_of = functools.partial.__dict__["func"].__get__


def stored(thing: object, name: str) -> Any:
    """The attribute as it is stored in ``thing`` or its class; ``MISSING`` where it is not.

    Only slots, and what a type written in C shows, are read through their descriptors. (Not by
    ``inspect.getattr_static``, which hashes and compares classes, and so runs their metaclass's.)
    """
    kind = type(thing)
    found = in_class(kind, name)
    if id(type(found)) in IN_C:
        try:
            return found.__get__(thing, kind)
        except Exception:
            return MISSING
    own: object = MISSING
    if issubclass(kind, type):
        own = in_class(thing, name)
    elif name != "__dict__" and issubclass(type(namespace := stored(thing, "__dict__")), dict):
        own = dict.get(namespace, name, MISSING)
    if own is MISSING or in_class(type(found), "__set__") is not MISSING:
        return found
    return own


def as_method(thing: object) -> MethodType | None:
    """``thing``, if it is a bound method, and not one that only says so."""
    return thing if type(thing) is MethodType else None


def name_of(thing: object) -> str:
    """A callable's name for logs and ``repr``, whatever kind of callable it is; on one line."""
    function = thing
    for _ in range(DEEPEST):
        if type(function) is MethodType:
            function = function.__func__
        name = stored(function, "__qualname__")
        if type(name) is str:
            return one_line(name)
        if not issubclass(type(function), functools.partial):
            break
        function = behind_partials(function)
    return f"<{one_line(_name_of(type(function)))}>"


def full_name_of(thing: object) -> str:
    """Module and name of a callable, that of its class where it has none; without addresses."""
    thing = _function_behind(thing)
    if type(stored(thing, "__qualname__")) is not str:
        thing = type(thing)
    module, name = stored(thing, "__module__"), stored(thing, "__qualname__")
    if type(name) is not str:  # a class says that through a descriptor of its own
        name = _name_of(thing)
    return one_line(f"{module}.{name}" if type(module) is str else name)


def names_of(function: object) -> tuple[str, str]:
    """``__name__`` and ``__qualname__`` for what wraps ``function``: always there, and text."""
    function = _function_behind(function)
    name, qualname = stored(function, "__name__"), stored(function, "__qualname__")
    if not isinstance(qualname, str):
        qualname = name if isinstance(name, str) else type(function).__qualname__
    return name if isinstance(name, str) else qualname.rpartition(".")[2], qualname


def _function_behind(thing: object) -> object:
    """What ``thing`` calls in the end, if it is a partial or a method, or of several such."""
    for _ in range(DEEPEST):
        thing = behind_partials(thing)
        if type(thing) is not MethodType:
            break
        thing = thing.__func__
    return thing


def one_line(text: str) -> str:
    """``text`` with what would break a line, or hide in it, written out."""
    return text if text.isprintable() else repr(text)[1:-1]


def for_signal(signal: object) -> str:
    """`` for`` and the name of a signal; nothing where there is none, as with blinker's."""
    return "" if signal is None else f" for {name_signal(signal)}"


def of_signal(signal: object) -> str:
    """`` of signal`` and the name of a signal; nothing where there is none, as with blinker's."""
    return "" if signal is None else f" of signal {name_signal(signal)}"


def name_signal(signal: object) -> str:
    """How logs call a signal: ours, or another one that a ``background`` receiver hears."""
    try:
        return one_line(str(getattr(signal, "_label", signal)))
    except Exception:
        return f"<{type(signal).__name__}>"


# -- Whether it can be called with any keywords --


def takes_any_keywords(thing: object, left: int = DEEPEST) -> bool:
    """Whether ``thing`` has ``**kwargs``; True, too, where that cannot be read.

    A wrapper is judged by what it wraps, as ``inspect.signature`` does.
    """
    if not left:
        return True
    kind = type(thing)
    if kind is MethodType:
        return takes_any_keywords(thing.__func__, left - 1)  # type: ignore[attr-defined]
    signature = stored(thing, "__signature__")
    if issubclass(type(signature), inspect.Signature):
        parameters = inspect.Signature.parameters.__get__(signature).values()
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if (wrapped := stored(thing, "__wrapped__")) is not MISSING:
        return takes_any_keywords(wrapped, left - 1)
    if issubclass(kind, functools.partial):
        return takes_any_keywords(behind_partials(thing), left - 1)
    if id(kind) in BUILTIN:
        return _builtin_takes_any_keywords(thing)
    code = stored(thing, "__code__")  # of a function, or what a compiler makes that looks like one
    if type(code) is CodeType:
        return code.co_flags & CO_VARKEYWORDS != 0
    if issubclass(kind, type):
        return _class_takes_any_keywords(thing, left)
    return _takes_any_keywords_in(kind, "__call__", left)


def _takes_any_keywords_in(owner: object, name: str, left: int) -> bool:
    method = in_class(owner, name)
    if issubclass(type(method), functools.partialmethod):
        method = method.func
    if id(type(method)) in BIND_IN_CLASS:
        method = method.__func__
    if method is MISSING or id(type(method)) in BUILTIN:
        return True
    return takes_any_keywords(method, left - 1)


def _class_takes_any_keywords(made: object, left: int) -> bool:
    """Whether making an instance takes any keywords."""
    if not flags_of(made) & HEAP_TYPE:
        return _builtin_takes_any_keywords(made)
    if _is_defined(type(made), "__call__"):
        return _takes_any_keywords_in(type(made), "__call__", left)
    names = [name for name in ("__new__", "__init__") if _is_defined(made, name)]
    for base in bases_of(made):  # the one that is nearer
        for name in names:
            if name in namespace_of(base):
                return _takes_any_keywords_in(made, name, left)
    # Nothing is defined: ``object`` takes no arguments, other bases may.
    return in_class(made, "__init__") is not object.__init__ or (
        in_class(made, "__new__") is not object.__new__
    )


def _is_defined(owner: object, name: str) -> bool:
    """Whether a class, not a type in C, says what ``name`` does."""
    found = in_class(owner, name)
    return found is not MISSING and id(type(found)) not in BUILTIN


def _builtin_takes_any_keywords(thing: Any) -> bool:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def in_class(owner: object, name: str) -> Any:
    """The attribute as it is stored in a class or its bases; ``MISSING`` where it is not."""
    for base in bases_of(owner):
        namespace = namespace_of(base)
        if name in namespace:
            return namespace[name]
    return MISSING


def in_bases(owner: object, name: str, some: Collection[object]) -> bool:
    """Whether any of the classes from which ``owner`` comes has one of ``some`` under ``name``."""
    found = (namespace_of(base).get(name) for base in bases_of(owner))
    return any(each is one for each in found for one in some)


def behind_partials(thing: object) -> Any:
    """What ``thing`` calls in the end, if it is a partial of partials."""
    for _ in range(DEEPEST):
        if not issubclass(type(thing), functools.partial):
            break
        thing = _func_of(thing)
    return thing


# -- Whether it is async --

# The attributes by which a function is marked that only returns coroutines.
BY_INSPECT = "_is_coroutine_marker"
BY_ASYNCIO = "_is_coroutine"
MARKS = (BY_INSPECT, BY_ASYNCIO)


def is_async(thing: object) -> bool:
    """Whether calling ``thing`` gives a coroutine, as far as its definition tells."""
    for _ in range(DEEPEST):
        kind = type(thing)
        if kind is MethodType:
            thing = thing.__func__  # type: ignore[attr-defined]
        elif issubclass(kind, functools.partial):
            thing = behind_partials(thing)
        elif id(kind) in BIND_IN_CLASS:
            thing = thing.__func__  # type: ignore[attr-defined]
        elif issubclass(kind, functools.partialmethod):
            thing = stored(thing, "func")
        elif id(type(in_class(kind, "__wrapped__"))) in IN_C:
            thing = stored(thing, "__wrapped__")  # a proxy: it is what it stands for
        elif _gives_coroutine(thing):
            return True
        else:  # a call of it calls what its class has for that
            thing = in_class(kind, "__call__")
            if thing is MISSING or id(type(thing)) in BUILTIN:
                return False
    return False


def _gives_coroutine(function: object) -> bool:
    if type(function) is FunctionType and function.__code__.co_flags & CO_COROUTINE:
        return True
    return any(
        mark is not MISSING and stored(function, name) is mark for name, mark in _async_marks()
    )


def _async_marks() -> Iterator[tuple[str, object]]:
    """How functions that only return coroutines are marked: by ``inspect``, or by ``asyncio``."""
    for name in ("_is_coroutine_mark", "_is_coroutine_marker"):  # it was renamed within 3.12
        yield BY_INSPECT, getattr(inspect, name, MISSING)
    coroutines = sys.modules.get("asyncio.coroutines")  # who has marked one has imported it
    yield BY_ASYNCIO, getattr(coroutines, "_is_coroutine", MISSING)
