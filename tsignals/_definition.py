"""What a receiver's definition tells, read without running anything of the receiver's.

Attributes are taken from where they are stored, so no property, ``__getattr__``, ``__class__`` or
``__signature__`` of the receiver is asked, and no annotation is evaluated: these may fail, be slow,
or have effects. What cannot be read so is taken to be right.
"""

import functools
import gc
import inspect
import sys
from collections.abc import Iterator
from inspect import CO_COROUTINE, CO_VARKEYWORDS
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

DEEPEST = 100
"""Wrappers around wrappers, after which we look no further."""


def _ids(*kinds: type) -> frozenset[int]:
    """Of types: to look for one of these themselves might run ``__eq__`` of a metaclass."""
    return frozenset(map(id, kinds))


_BUILTIN = _ids(BuiltinFunctionType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType)
_IN_C = _ids(GetSetDescriptorType, MemberDescriptorType)
_BIND_IN_CLASS = _ids(classmethod, staticmethod)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made while the program runs, by a class statement or so
_MISSING: Any = object()

# What a metaclass may show otherwise.
_bases_of = type.__dict__["__mro__"].__get__
namespace_of = type.__dict__["__dict__"].__get__
_flags_of = type.__dict__["__flags__"].__get__
_name_of = type.__dict__["__name__"].__get__


def stored(thing: object, name: str) -> Any:
    """The attribute as it is stored in ``thing`` or its class; ``_MISSING`` where it is not.

    Only slots, and what a type written in C shows, are read through their descriptors. (Not by
    ``inspect.getattr_static``, which hashes and compares classes, and so runs their metaclass's.)
    """
    kind = type(thing)
    found = _in_class(kind, name)
    if id(type(found)) in _IN_C:
        try:
            return found.__get__(thing, kind)
        except Exception:
            return _MISSING
    own = _MISSING
    if issubclass(kind, type):
        own = _in_class(thing, name)
    elif name != "__dict__" and issubclass(type(namespace := stored(thing, "__dict__")), dict):
        own = dict.get(namespace, name, _MISSING)
    if own is _MISSING or _in_class(type(found), "__set__") is not _MISSING:
        return found
    return own


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


def names_of(function: Any) -> tuple[str, str]:
    """``__name__`` and ``__qualname__`` for what wraps ``function``: always there, and text."""
    for _ in range(DEEPEST):
        function = behind_partials(function)
        if type(function) is not MethodType:
            break
        function = function.__func__
    name, qualname = stored(function, "__name__"), stored(function, "__qualname__")
    if not isinstance(qualname, str):
        qualname = name if isinstance(name, str) else type(function).__qualname__
    return name if isinstance(name, str) else qualname.rpartition(".")[2], qualname


def one_line(text: str) -> str:
    """``text`` with what would break a line, or hide in it, written out."""
    return text if text.isprintable() else repr(text)[1:-1]


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
    if (wrapped := stored(thing, "__wrapped__")) is not _MISSING:
        return takes_any_keywords(wrapped, left - 1)
    if issubclass(kind, functools.partial):
        return takes_any_keywords(behind_partials(thing), left - 1)
    if id(kind) in _BUILTIN:
        return _builtin_takes_any_keywords(thing)
    code = stored(thing, "__code__")  # of a function, or what a compiler makes that looks like one
    if type(code) is CodeType:
        return code.co_flags & CO_VARKEYWORDS != 0
    if issubclass(kind, type):
        return _class_takes_any_keywords(thing, left)
    return _takes_any_keywords_in(kind, "__call__", left)


def _takes_any_keywords_in(owner: Any, name: str, left: int) -> bool:
    method = _in_class(owner, name)
    if issubclass(type(method), functools.partialmethod):
        method = method.func
    if id(type(method)) in _BIND_IN_CLASS:
        method = method.__func__
    if method is _MISSING or id(type(method)) in _BUILTIN:
        return True
    return takes_any_keywords(method, left - 1)


def _class_takes_any_keywords(made: Any, left: int) -> bool:
    """Whether making an instance takes any keywords."""
    if not _flags_of(made) & _HEAP_TYPE:
        return _builtin_takes_any_keywords(made)
    if _is_defined(type(made), "__call__"):
        return _takes_any_keywords_in(type(made), "__call__", left)
    names = [name for name in ("__new__", "__init__") if _is_defined(made, name)]
    for base in _bases_of(made):  # the one that is nearer
        for name in names:
            if name in namespace_of(base):
                return _takes_any_keywords_in(made, name, left)
    # Nothing is defined: ``object`` takes no arguments, other bases may.
    return _in_class(made, "__init__") is not object.__init__ or (
        _in_class(made, "__new__") is not object.__new__
    )


def _is_defined(owner: Any, name: str) -> bool:
    """Whether a class, not a type in C, says what ``name`` does."""
    found = _in_class(owner, name)
    return found is not _MISSING and id(type(found)) not in _BUILTIN


def _builtin_takes_any_keywords(thing: Any) -> bool:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _in_class(owner: Any, name: str) -> Any:
    for base in _bases_of(owner):
        namespace = namespace_of(base)
        if name in namespace:
            return namespace[name]
    return _MISSING


def behind_partials(thing: Any) -> Any:
    """What ``thing`` calls in the end, if it is a partial of partials."""
    while issubclass(type(thing), functools.partial):
        thing = functools.partial.func.__get__(thing)
    return thing


# -- Whether it is async --


def is_async(thing: object) -> bool:
    """Whether calling ``thing`` gives a coroutine, as far as its definition tells."""
    for _ in range(DEEPEST):
        kind = type(thing)
        if kind is MethodType:
            thing = thing.__func__  # type: ignore[attr-defined]
        elif issubclass(kind, functools.partial):
            thing = behind_partials(thing)
        elif id(type(_in_class(kind, "__wrapped__"))) in _IN_C and kind is not staticmethod:
            thing = stored(thing, "__wrapped__")  # a proxy: it is what it stands for
        else:
            break
    return _gives_coroutine(thing) or _gives_coroutine(_in_class(type(thing), "__call__"))


def _gives_coroutine(function: object) -> bool:
    if id(type(function)) in _BIND_IN_CLASS:
        function = function.__func__  # type: ignore[attr-defined]
    if type(function) is FunctionType and function.__code__.co_flags & CO_COROUTINE:
        return True
    return any(
        mark is not _MISSING and stored(function, name) is mark for name, mark in _async_marks()
    )


def _async_marks() -> Iterator[tuple[str, Any]]:
    """How functions that only return coroutines are marked: by ``inspect``, or by ``asyncio``."""
    for name in ("_is_coroutine_mark", "_is_coroutine_marker"):  # it was renamed within 3.12
        yield "_is_coroutine_marker", getattr(inspect, name, _MISSING)
    coroutines = sys.modules.get("asyncio.coroutines")  # who has marked one has imported it
    yield "_is_coroutine", getattr(coroutines, "_is_coroutine", _MISSING)


# -- Whether anybody keeps it --

_BIND_AS_KNOWN = _BUILTIN | _IN_C | _BIND_IN_CLASS | _ids(FunctionType, property)
_GROUPS = _ids(dict, tuple)
_MOST_PARTS = 16


def is_made_anew(receiver: Any) -> bool:
    """Whether ``receiver`` is a method in all but type: its owner makes another at each access.

    A weak reference to such an object is dead as soon as ``connect`` has returned. There are
    methods of types in C, and what descriptors other than functions give: then the receiver
    refers to an object, and to what a descriptor in the class of that object is or refers to.
    """
    kind = type(receiver)
    if kind is FunctionType:
        if receiver.__closure__ is None:
            return False
    elif kind is MethodType:
        function = receiver.__func__
        if type(function) is FunctionType and function.__closure__ is None:
            return False
        return _is_bound(receiver, [receiver.__self__, function, *_parts(function)])
    else:
        owner = stored(receiver, "__self__")
        if owner is not _MISSING and owner is not None and type(owner) is not ModuleType:
            return not _has_attribute(owner, receiver)
        if id(kind) in _BUILTIN:
            return False
    return _is_bound(receiver, _parts(receiver))


def _is_bound(receiver: object, parts: list[Any]) -> bool:
    """Whether one of ``parts`` is an object, and another what a descriptor of its class uses."""
    known = _callables(parts)
    for owner in parts:
        values = list(_namespace(owner))
        # What the class shows as it is may have been taken from there.
        hidden = known.difference(id(value) for value in values if type(value) is FunctionType)
        hidden.discard(id(owner))  # a descriptor may know its object
        for descriptor in values:
            kind = type(descriptor)
            if id(kind) in _BIND_AS_KNOWN or _in_class(kind, "__get__") is _MISSING:
                continue
            used = _callables([descriptor, *_parts(descriptor)])
            if not used.isdisjoint(hidden) or (used and any(part is descriptor for part in parts)):
                return not _has_attribute(owner, receiver)
    return False


def _callables(parts: list[Any]) -> set[int]:
    """The ids of those that can be called. Not of classes: many things know some."""
    return {id(part) for part in parts if callable(part) and not issubclass(type(part), type)}


def _has_attribute(owner: object, value: object) -> bool:
    """Whether ``value`` is kept in an attribute of ``owner``."""
    own = stored(owner, "__dict__")
    values = list(own.values()) if type(own) is dict else []
    return any(each is value for each in values + gc.get_referents(owner))


def is_kept_by_class(owner: Any, function: Any) -> bool:
    """Whether ``function`` is an attribute of the class of ``owner``, as that of a method is."""
    if type(function) is FunctionType:  # nearly always, and under its own name
        name = function.__name__
        if namespace_of(type(owner)).get(name) is function:  # as most are
            return True
        if _in_class(type(owner), name) is function:
            return True
        if issubclass(type(owner), type) and type(found := _in_class(owner, name)) is classmethod:
            return found.__func__ is function
    return any(
        value is function or (type(value) is classmethod and value.__func__ is function)
        for value in _namespace(owner)
    )


def _namespace(owner: Any) -> Iterator[Any]:
    """What is defined in the class of ``owner``; of a class, in itself as well."""
    classes = [*_bases_of(type(owner))]
    if issubclass(type(owner), type):
        classes += _bases_of(owner)
    for each in classes:
        if _flags_of(each) & _HEAP_TYPE:
            yield from list(namespace_of(each).values())


def _parts(thing: Any) -> list[Any]:
    """What ``thing`` was made of, as far as that is little."""
    if type(thing) is FunctionType:
        # Of its attributes only what it wraps: ``wraps`` copies there those of that.
        first: list[Any] = [*(thing.__closure__ or ()), thing.__dict__.get("__wrapped__")]
    else:
        first = gc.get_referents(thing)
    parts: list[Any] = []
    for part in first:
        if type(part) is CellType or (id(type(part)) in _GROUPS and len(part) <= _MOST_PARTS):
            parts += gc.get_referents(part)
        parts.append(part)
    for part in parts[: 4 * _MOST_PARTS]:
        # What an object has as a method may have been taken from there.
        if type(part) is MethodType and not is_kept_by_class(part.__self__, part.__func__):
            parts += [part.__self__, part.__func__]
    own_class = type(thing)
    return [part for part in parts if part is not own_class][: 4 * _MOST_PARTS]
