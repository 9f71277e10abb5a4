"""How a signal is called in logs, in ``repr`` and in a pickle: by the attribute that holds it."""

import contextlib
import functools
import importlib
import pickle
import sys
import weakref
from collections.abc import Iterator, Mapping
from types import FrameType, FunctionType, ModuleType
from typing import Protocol, TypeVar, cast

from tsignals._base.definition import full_name_of, namespace_of, one_line, stored

T = TypeVar("T")


class Labelled(Protocol):
    @property
    def _label(self) -> str: ...


class HasAddress(Protocol):
    """A signal of ours."""

    _address: "Address"


class Address:
    """Where a signal is found: in an attribute, or else where it was made."""

    __slots__ = ("_found", "_missed_in", "line", "module", "where")

    def __init__(self, signal: object, frame: FrameType | None) -> None:
        self._found: tuple[str, str] | None = None
        self._missed_in: tuple[int, int] | None = None  # see _sizes
        # Past the __init__ of subclasses, which call ours.
        while (
            frame is not None
            and frame.f_code.co_name == "__init__"
            and (frame.f_back is not None and frame.f_locals.get("self") is signal)
        ):
            frame = frame.f_back
        if frame is None:
            self.module, self.where, self.line = "__main__", "?", 0
        else:
            self.module = str(frame.f_globals.get("__name__", "__main__"))
            self.where = frame.f_code.co_filename
            self.line = frame.f_lineno

    def set_declared_by(self, function: FunctionType) -> None:
        """The signal was declared by ``function``."""
        self.module, self.where = function.__module__, function.__code__.co_filename
        self.line = function.__code__.co_firstlineno

    def find(self, signal: object) -> tuple[str, str] | None:
        """The module and path of the attribute that is ``signal``, or ``None``."""
        if self._found is not None and _get(*self._found) is signal:
            return self._found
        self._found = found = find(signal, self.module)
        return found

    def to_pickle(self, signal: Labelled) -> tuple[str, str]:
        """The module and path of ``signal``; raises ``PicklingError`` where it is no attribute."""
        found = self.find(signal)
        if found is None:
            raise pickle.PicklingError(
                f"cannot pickle signal {signal._label}: it is no attribute of a loaded module or "
                "of a class there; make it one"
            )
        return found

    def label(self, signal: object, kind: type) -> str:
        """How to call ``signal``, which is a ``kind``, in logs.

        Where it is found is looked up in an index of all that are: signals that are nowhere to
        be found may come and go by the thousand, and must not cost a search each.
        """
        return self._label(self._place(signal, kind))

    def plain_name(self, signal: object, kind: type) -> str:
        """As ``label``; but a class's attribute with its module, and without quotes."""
        found = self._place(signal, kind)
        return self._made_at() if found is None else ".".join(found)

    def exact_label(self, signal: object) -> str:
        """How to call ``signal`` in ``repr``: as ``label``, but looked for in all modules."""
        return self._label(self.find(signal))

    def _place(self, signal: object, kind: type) -> tuple[str, str] | None:
        found = self._found
        if found is not None and _get(*found) is signal:
            return found
        if self._missed_in == (sizes := _sizes(self.module)):
            return None
        self._found = found = _find_in_module(signal, self.module) or _look_up(signal, kind)
        self._missed_in = None if found else sizes
        return found

    def _made_at(self) -> str:
        return f"made at {one_line(self.where)}:{self.line}"

    def _label(self, found: tuple[str, str] | None) -> str:
        if found is None:
            return self._made_at()
        module, path = found
        return repr(path if "." in path else f"{module}.{path}")


def _sizes(module: str) -> tuple[int, int]:
    """How many modules are loaded, and how many attributes that one has.

    As long as these stay, a signal that was nowhere is still nowhere: such signals, of an instance
    or a function, may fail often, and must not cost a search each time.
    """
    return len(sys.modules), len(_attributes(module))


def _attributes(module: str) -> dict[str, object]:
    """Those of that module, as far as it is one that is loaded."""
    loaded = sys.modules.get(module)
    if not issubclass(type(loaded), ModuleType):
        return {}
    found: dict[str, object] = object.__getattribute__(loaded, "__dict__")
    return found


def _find_in_module(signal: object, name: str) -> tuple[str, str] | None:
    """As ``find``, in that module alone."""
    inside = _walk(_attributes(name), name)
    return next(((name, path) for path, found in inside if found is signal), None)


_index: tuple[list[str], dict[int, tuple[str, str]]] = ([], {})
"""Which modules there were, and the addresses of the signals in them, by id."""


def _look_up(signal: object, kind: type) -> tuple[str, str] | None:
    global _index
    names, addresses = _index
    address = addresses.get(id(signal))
    if address is not None and _get(*address) is signal:
        return address
    loaded = list(sys.modules)  # one step: imports go on in other threads
    if loaded == names:
        return None
    addresses = {}
    for name, path, found in find_all(kind):
        addresses.setdefault(id(found), (name, path))
    _index = loaded, addresses
    return addresses.get(id(signal))


def find_all(*kinds: type) -> Iterator[tuple[str, str, object]]:
    """What is of one of ``kinds`` and an attribute of a loaded module, or of a class in one.

    Each as often as it is found: with the name of the module, and the path in there.
    """
    for name, module in list(sys.modules.items()):  # one step, as below
        if issubclass(type(module), ModuleType):
            for path, found in _walk(object.__getattribute__(module, "__dict__"), name):
                if issubclass(type(found), kinds):
                    yield name, path, found


def find(signal: object, first: str) -> tuple[str, str] | None:
    """The module and qualified name of the attribute that is ``signal``: by identity.

    Looks in the module ``first``, then in all that are loaded; there in module attributes, then
    in those of the module's classes.
    """
    # One step: imports go on in other threads.
    ordered = [first, *(name for name in list(sys.modules) if name != first)]
    for name in ordered:
        found = _find_in_module(signal, name)
        if found is not None:
            return found
    return None


def _walk(
    namespace: Mapping[str, object], module: str, inside: tuple[object, ...] = ()
) -> Iterator[tuple[str, object]]:
    """The attributes in ``namespace``, then those of classes in it, each with its path."""
    # What has a dot in its name could not be told from an attribute of a class.
    items = [(n, each) for n, each in list(namespace.items()) if type(n) is str and "." not in n]
    yield from items
    for name, value in items:
        # A class is looked into where it is at home, under its own name: so once.
        if (
            issubclass(type(value), type)  # not isinstance: that asks lazy objects for a __class__
            and _is_text(stored(value, "__module__"), module)  # a metaclass may say anything
            and _is_text(stored(value, "__name__"), name)
            and not any(value is outer for outer in inside)  # it may be its own attribute
        ):
            for path, inner in _walk(namespace_of(value), module, (*inside, value)):
                yield f"{name}.{path}", inner


def _is_text(value: object, text: str) -> bool:
    return type(value) is str and value == text


def _get(module: str, path: str) -> object:
    """The attribute as it is now, or ``None``."""
    found: object = sys.modules.get(module)
    if found is None:
        return None
    namespace = object.__getattribute__(found, "__dict__")  # a lazy module would load itself
    for name in path.split("."):
        found = namespace.get(name)
        namespace = namespace_of(found) if issubclass(type(found), type) else {}
    return found


def follow(module: str, path: str) -> object:
    """What a program gets at ``path`` in ``module``, if that is imported and has it."""
    found: object = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def own_name(signal: object) -> str | None:
    """The name that was given to a signal, in one line; a member of an enum may be it."""
    name = stored(signal, "name")
    return one_line(str.__str__(name)) if issubclass(type(name), str) and name != "" else None


_names: dict[int, tuple["weakref.ref[object]", str]] = {}
"""Of other libraries' signals, for which all modules are searched; by id."""


def plain_name(signal: object, kind: type) -> str:
    """What metrics call a signal, of our ``kind`` or another: without quotes or an address."""
    if signal is None:  # a background receiver is not told which of blinker's it hears
        return "unknown"
    if (name := own_name(signal)) is not None:
        return name
    address = stored(signal, "_address")
    if type(address) is Address:
        return address.plain_name(signal, kind)
    known = _names.get(id(signal))
    if known is not None and known[0]() is signal:
        return known[1]
    found = find(signal, type(signal).__module__)
    name = full_name_of(type(signal)) if found is None else ".".join(found)
    with contextlib.suppress(TypeError):  # one that cannot be held weakly
        forget = functools.partial(_names.pop, id(signal))  # the reference is its default
        _names[id(signal)] = weakref.ref(signal, forget), name
    return name


def load(module: str, path: str, kind: type[T]) -> T:
    """The signal of this ``kind`` that is stored as ``path`` in ``module``, imported if need be."""
    importlib.import_module(module)
    found = _get(module, path)
    if not issubclass(type(found), kind):  # not isinstance: that believes a __class__
        raise pickle.UnpicklingError(f"there is no signal {path!r} in {module!r}")
    return cast(T, found)
