"""Whether anybody keeps a receiver alive, or its owner makes another at each access.

Read as ``definition`` reads, without running anything of the receiver's.
"""

import gc
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType, ModuleType, WrapperDescriptorType

from tsignals._base.definition import (
    BIND_IN_CLASS,
    BUILTIN,
    HEAP_TYPE,
    IN_C,
    MISSING,
    bases_of,
    flags_of,
    ids,
    in_class,
    namespace_of,
    stored,
)

_BIND_AS_KNOWN = BUILTIN | IN_C | BIND_IN_CLASS | ids(FunctionType, property)
_MOST_PARTS = 16


def is_made_anew(receiver: object) -> bool:
    """Whether ``receiver`` is a method in all but type: its owner makes another at each access.

    A weak reference to such an object is dead as soon as ``connect`` has returned. There are
    methods of types in C, and what descriptors other than functions give: then the receiver
    refers to an object, and to what a descriptor in the class of that object is or refers to.
    """
    kind = type(receiver)
    if type(receiver) is FunctionType:
        if receiver.__closure__ is None:
            return False
    elif type(receiver) is MethodType:
        function = receiver.__func__
        if type(function) is FunctionType and function.__closure__ is None:
            return False
        return _is_bound(receiver, [receiver.__self__, function, *_parts(function)])
    else:
        owner = stored(receiver, "__self__")
        if owner is not MISSING and owner is not None and type(owner) is not ModuleType:
            # Objects of classes in Python may have anything under that name.
            in_c = type(in_class(kind, "__call__")) is WrapperDescriptorType
            if in_c or _knows_function_of(receiver, owner):
                return not _has_attribute(owner, receiver)
        if id(kind) in BUILTIN:
            return False
    return _is_bound(receiver, _parts(receiver))


def _knows_function_of(receiver: object, owner: object) -> bool:
    """Whether ``receiver`` refers to a function in the class of ``owner``, as methods do."""
    return any(
        type(part) is FunctionType and is_kept_by_class(owner, part) for part in _parts(receiver)
    )


def _is_bound(receiver: object, parts: list[object]) -> bool:
    """Whether one of ``parts`` is an object, and another what a descriptor of its class uses."""
    known = _callables(parts)
    for owner in parts:
        values = list(_namespace(owner))
        # What the class shows as it is may have been taken from there.
        hidden = known.difference(id(value) for value in values if type(value) is FunctionType)
        hidden.discard(id(owner))  # a descriptor may know its object
        for descriptor in values:
            kind = type(descriptor)
            if id(kind) in _BIND_AS_KNOWN or in_class(kind, "__get__") is MISSING:
                continue
            used = _callables([descriptor, *_parts(descriptor)])
            if not used.isdisjoint(hidden) or (used and any(part is descriptor for part in parts)):
                return not _has_attribute(owner, receiver)
    return False


def _callables(parts: list[object]) -> set[int]:
    """The ids of those that can be called. Not of classes: many things know some."""
    return {id(part) for part in parts if callable(part) and not issubclass(type(part), type)}


def _has_attribute(owner: object, value: object) -> bool:
    """Whether ``value`` is kept in an attribute of ``owner``."""
    own = stored(owner, "__dict__")
    values = list(own.values()) if type(own) is dict else []
    return any(each is value for each in values + gc.get_referents(owner))


def is_kept_by_class(owner: object, function: object) -> bool:
    """Whether ``function`` is an attribute of the class of ``owner``, as that of a method is."""
    if type(function) is FunctionType:  # nearly always, and under its own name
        name = function.__name__
        if namespace_of(type(owner)).get(name) is function:  # as most are
            return True
        if in_class(type(owner), name) is function:
            return True
        if issubclass(type(owner), type) and type(found := in_class(owner, name)) is classmethod:
            return found.__func__ is function
    return any(
        value is function or (type(value) is classmethod and value.__func__ is function)
        for value in _namespace(owner)
    )


def _namespace(owner: object) -> Iterator[object]:
    """What is defined in the class of ``owner``; of a class, in itself as well."""
    classes = [*bases_of(type(owner))]
    if issubclass(type(owner), type):
        classes += bases_of(owner)
    for each in classes:
        if flags_of(each) & HEAP_TYPE:
            yield from list(namespace_of(each).values())


def _parts(thing: object) -> list[object]:
    """What ``thing`` was made of, as far as that is little."""
    if type(thing) is FunctionType:
        # Of its attributes only what it wraps: ``wraps`` copies there those of that.
        first: list[object] = [*(thing.__closure__ or ()), thing.__dict__.get("__wrapped__")]
    else:
        first = gc.get_referents(thing)
    parts: list[object] = []
    for part in first:
        if type(part) is CellType or (
            (type(part) is dict or type(part) is tuple) and len(part) <= _MOST_PARTS
        ):
            parts += gc.get_referents(part)
        parts.append(part)
    for part in parts[: 4 * _MOST_PARTS]:
        # What an object has as a method may have been taken from there.
        if type(part) is MethodType and not is_kept_by_class(part.__self__, part.__func__):
            parts += [part.__self__, part.__func__]
    own_class = type(thing)
    return [part for part in parts if part is not own_class][: 4 * _MOST_PARTS]
