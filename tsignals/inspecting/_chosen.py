"""Which signals somebody wants to see: what ``connections`` and ``map`` were asked for."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import cast

from tsignals import Namespace, Signal
from tsignals._base.definition import namespace_of, stored
from tsignals._base.log import show
from tsignals.inspecting import _foreign


@dataclass
class Chosen:
    """Modules, and single signals; with ``everything`` all that there are."""

    everything: bool = False
    modules: list[str] = field(default_factory=list)
    signals: list[object] = field(default_factory=list)

    @classmethod
    def of(cls, *what: object) -> "Chosen":
        """Import what is to be imported, and sort out the rest."""
        chosen = cls(everything=not what)
        for each in what:
            if isinstance(each, str):
                chosen.add(each)
            elif isinstance(each, ModuleType):
                chosen.modules.append(each.__name__)
            elif is_signal(each):
                chosen.signals.append(each)
            else:
                raise TypeError(
                    f"connections needs modules, their names, or signals, not "
                    f"{type(each).__name__!r}"
                )
        return chosen

    def add(self, text: str) -> None:
        module, colon, path = text.partition(":")
        if not module:
            raise ValueError(f"{text!r} names no module; write 'module', or 'module:name'")
        loaded = importlib.import_module(module)
        if not colon:
            self.modules.append(module)
            return
        found: object = loaded
        for name in path.split("."):
            try:
                found = getattr(found, name)
            except AttributeError:
                raise AttributeError(f"module {module!r} has no {path!r}") from None
            except Exception as error:  # of a module's own __getattr__, or of a property
                raise AttributeError(f"module {module!r} has no {path!r}: {show(error)}") from error
        inside = [found] if is_signal(found) else [s for s in held_by(found) if is_signal(s)]
        if not inside:
            raise ValueError(f"{text} is no signal and holds none, but {type(found).__name__!r}")
        self.signals += inside

    def has_module(self, name: str) -> bool:
        """Whether that is one of the modules, or in one of these packages."""
        return any(name == each or name.startswith(f"{each}.") for each in self.modules)

    def held_in_modules(self) -> Iterator[object]:
        """Signals in namespaces, mappings and objects that are attributes of the modules."""
        for name, module in list(sys.modules.items()):
            if issubclass(type(module), ModuleType) and self.has_module(name):
                for value in list(object.__getattribute__(module, "__dict__").values()):
                    if not (issubclass(type(value), (ModuleType, type)) or is_signal(value)):
                        yield from (each for each in held_by(value) if is_signal(each))


def kinds() -> dict[str, type]:
    """The classes of all signals, by library."""
    return {"tsignals": Signal, **_foreign.kinds()}


def is_signal(thing: object) -> bool:
    return issubclass(type(thing), tuple(kinds().values()))


def held_by(thing: object) -> Iterator[object]:
    """What stands in a class, in an object's attributes, or in a mapping."""
    # Not isinstance: that asks lazy objects for a __class__.
    if issubclass(type(thing), type):
        yield from list(namespace_of(thing).values())
    elif issubclass(type(thing), Namespace):
        yield from cast(Namespace, thing).values()
    elif issubclass(type(thing), dict):
        yield from list(dict.values(cast(dict[object, object], thing)))
    elif issubclass(type(own := stored(thing, "__dict__")), dict):
        for value in list(dict.values(own)):
            yield value
            if issubclass(type(value), dict):
                yield from list(dict.values(value))


def file_of(module: str) -> str | None:
    """The source of a loaded module."""
    found = getattr(sys.modules.get(module), "__file__", None)
    return found if isinstance(found, str) and found.endswith(".py") else None
