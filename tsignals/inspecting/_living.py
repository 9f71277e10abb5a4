"""The signals of this process: where each is found, and what is said of it."""

import gc
from collections.abc import Iterator

from tsignals import Signal
from tsignals._base.definition import MISSING, one_line, stored
from tsignals._registry import shown
from tsignals.inspecting import _foreign
from tsignals.inspecting._chosen import Chosen, file_of, kinds
from tsignals.inspecting._entries import (
    ReceiverEntry,
    SignalEntry,
    full_name,
    receiver_entry,
    sender_name,
    short,
)
from tsignals.inspecting._source import Sources, first_line

Place = tuple[str, str]
"""A module, and the path in there."""

Definition = tuple[Place | None, str | None, int, str]
"""Where a signal is found, file and line of its definition, and what is said there."""


class Living:
    """All signals of one moment."""

    def __init__(self) -> None:
        self._kinds = kinds()
        self._sources = Sources()
        self._places: dict[int, list[Place]] = {}
        self._in_modules: set[int] = set()
        found: dict[int, object] = {id(each): each for each in shown.signals()}
        for module, path, signal in shown.find_all(*self._kinds.values()):
            self._places.setdefault(id(signal), []).append((module, path))
            found.setdefault(id(signal), signal)
        others = tuple(kind for name, kind in self._kinds.items() if name != "tsignals")
        if others:  # these do not know each other; those of a namespace, say, are in no module
            found |= {id(o): o for o in gc.get_objects() if issubclass(type(o), others)}
        self._signals = found

    def entries(self, chosen: Chosen) -> list[SignalEntry]:
        """Single signals as they were given; those of modules, by file and line, and then what
        these have imported; others by name."""
        for signal in chosen.signals:
            self._signals.setdefault(id(signal), signal)
        single = {id(signal): n for n, signal in enumerate(chosen.signals)}
        looks = [(signal, self._definition(signal)) for signal in self._signals.values()]
        heard = {
            id(signal): list(self._foreign_receivers(signal))
            for signal, _ in looks
            if not issubclass(type(signal), Signal)
        }
        senders = _foreign.Senders(each for some in heard.values() for each in some)
        self._in_modules = {id(each) for each in chosen.held_in_modules()}
        first, rest = [], []
        for signal, definition in looks:
            own = id(signal) in single or self._is_in(chosen, signal, definition)
            if not (own or chosen.modules or chosen.everything):
                continue
            if isinstance(signal, Signal):
                receivers = [*_receivers(signal)]
            else:
                receivers = _foreign.entries(heard[id(signal)], senders)
            entry = self._entry(signal, definition, receivers)
            if own:
                given = single.get(id(signal), len(single))
                elsewhere = chosen.modules and not _is_made_in(chosen, signal, definition)
                line = definition[1] or "~", definition[2]
                first.append((given, bool(elsewhere), *line, entry["name"], entry))
            elif receivers or chosen.everything:
                rest.append((entry["name"], entry))
        first.sort(key=lambda each: each[:-1])
        rest.sort(key=lambda each: each[0])
        return [each[-1] for each in first] + [each[-1] for each in rest]

    def _is_in(self, chosen: Chosen, signal: object, definition: Definition) -> bool:
        places = self._places.get(id(signal), [])
        if id(signal) in self._in_modules or any(chosen.has_module(each) for each, _ in places):
            return True
        return issubclass(type(signal), Signal) and _is_made_in(chosen, signal, definition)

    def _foreign_receivers(self, signal: object) -> Iterator[_foreign.Heard]:
        if issubclass(type(signal), self._kinds.get("django", ())):
            return _foreign.of_django(signal)  # type: ignore[arg-type]
        return _foreign.of_blinker(signal)  # type: ignore[arg-type]

    def _definition(self, signal: object) -> Definition:
        places = self._places.get(id(signal), [])
        if issubclass(type(signal), Signal):
            module, file, line = shown.made_at(signal)
            place = next((each for each in places if each[0] == module), None)
            there = self._sources.at(file, line)
            doc = "" if there is None else there.doc
            return place or (places[0] if places else None), file, line, doc
        for place in places:
            source = file_of(place[0])
            if source is not None and (found := self._sources.named(source, place[1])):
                return place, source, found.first, found.doc
        return places[0] if places else None, None, 0, ""

    def _entry(
        self, signal: object, definition: Definition, receivers: list[ReceiverEntry]
    ) -> SignalEntry:
        place, file, line, doc = definition
        library = next(n for n, kind in self._kinds.items() if issubclass(type(signal), kind))
        attribute = None if place is None else ".".join(place)
        defined = None if file is None else f"{short(file)}:{line}"
        name = shown.own_name(signal) or attribute
        if name is None:
            name = f"made at {defined}" if defined else full_name(type(signal))
        own = stored(signal, "__dict__")
        said = own.get("__doc__") if own is not MISSING else None
        args = getattr(signal, "providing_args", None) or ()
        return {
            "name": one_line(name),
            "library": library,
            "attribute": attribute,
            "defined": defined,
            "providing_args": [one_line(str(each)) for each in args],
            "doc": one_line(first_line(said) if isinstance(said, str) and said.strip() else doc),
            "receivers": receivers,
        }


def _is_made_in(chosen: Chosen, signal: object, definition: Definition) -> bool:
    """Whether that is one of the modules, which import others'; also where nobody knows."""
    if isinstance(signal, Signal):
        return chosen.has_module(shown.made_at(signal)[0])
    place, file, _, _ = definition  # of other libraries' signals their source tells
    return place is None or file is None or chosen.has_module(place[0])


def _receivers(signal: Signal) -> Iterator[ReceiverEntry]:
    for connection in signal.receivers:
        receiver = connection.receiver
        if receiver is not None:
            yield receiver_entry(
                receiver,
                connection,
                sender=sender_name(connection.sender),
                weak=connection.weak,
                is_async=shown.is_async(connection),
                uid=connection.dispatch_uid,
                priority=connection.priority,
                tracked=connection.tracked,
                once=connection.once,
            )
