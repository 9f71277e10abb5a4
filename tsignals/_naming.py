"""How a signal is called in logs, in ``repr`` and in a pickle: by the attribute that holds it."""

import importlib
import pickle
import sys
from collections.abc import Mapping
from types import FrameType, ModuleType
from typing import Any


class Birthplace:
    """Where a signal was made: its module, file and line."""

    __slots__ = ("line", "module", "where")

    def __init__(self, signal: object, frame: FrameType | None) -> None:
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

    def __str__(self) -> str:
        return f"made at {self.where}:{self.line}"


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
        if isinstance(module, ModuleType):
            path = _find_in(vars(module), signal, name)
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
        if isinstance(value, type) and value.__module__ == module and value.__name__ == name:
            path = _find_in(vars(value), signal, module)
            if path is not None:
                return f"{name}.{path}"
    return None


def load(module: str, path: str) -> Any:
    """The attribute ``path`` of ``module``, imported if need be; what unpickling calls."""
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise pickle.UnpicklingError(f"there is no signal {path!r} in {module!r}") from None
    return found
