"""How a signal is called in logs, in ``repr`` and in a pickle: by the attribute that holds it."""

import importlib
import pickle
import sys
from collections.abc import Mapping
from types import FrameType, ModuleType
from typing import Any


class Address:
    """Where a signal is found: in an attribute, or else where it was made."""

    __slots__ = ("_found", "line", "module", "where")

    def __init__(self, signal: object, frame: FrameType | None) -> None:
        self._found: tuple[str, str] | bool | None = False  # False: not looked yet
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

    def find(self, signal: object) -> tuple[str, str] | None:
        """The module and path of the attribute that is ``signal``, or ``None``."""
        if isinstance(self._found, tuple) and _get(*self._found) is signal:
            return self._found
        self._found = found = find(signal, self.module)
        return found

    def label(self, signal: object, look: bool = True) -> str:
        """How to call ``signal``; with ``look=False`` no second search after a vain one."""
        found = None if self._found is None and not look else self.find(signal)
        if found is None:
            return f"made at {self.where}:{self.line}"
        module, path = found
        return repr(path if "." in path else f"{module}.{path}")


def find(signal: object, first: str) -> tuple[str, str] | None:
    """The module and qualified name of the attribute that is ``signal``: by identity.

    Looks in the module ``first``, then in all that are loaded; there in module attributes, then
    in those of the module's classes.
    """
    modules = dict(sys.modules)  # one step: imports go on in other threads
    ordered = [first] if first in modules else []
    ordered.extend(name for name in modules if name != first)
    for name in ordered:
        module = modules[name]
        if issubclass(type(module), ModuleType):
            path = _find_in(object.__getattribute__(module, "__dict__"), signal, name)
            if path is not None:
                return name, path
    return None


def _find_in(namespace: Mapping[str, Any], signal: object, module: str) -> str | None:
    """The path from ``namespace`` to ``signal``: an attribute of it or of a class in it."""
    items = list(namespace.items())
    for name, value in items:
        if value is signal:
            return name
    for name, value in items:
        # A class is looked into where it is at home, under its own name: so once.
        if (
            issubclass(type(value), type)  # not isinstance: that asks lazy objects for a __class__
            and value.__module__ == module
            and value.__name__ == name
        ):
            path = _find_in(vars(value), signal, module)
            if path is not None:
                return f"{name}.{path}"
    return None


def _get(module: str, path: str) -> Any:
    """The attribute as it is now, or ``None``."""
    found: Any = sys.modules.get(module)
    if found is None:
        return None
    namespace = object.__getattribute__(found, "__dict__")  # a lazy module would load itself
    for name in path.split("."):
        found = namespace.get(name)
        namespace = vars(found) if issubclass(type(found), type) else {}
    return found


def load(module: str, path: str) -> Any:
    """The attribute ``path`` of ``module``, imported if need be; what unpickling calls."""
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise pickle.UnpicklingError(f"there is no signal {path!r} in {module!r}") from None
    return found
