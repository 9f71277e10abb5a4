"""Calling receivers quickly: one small function for each set of value names.

``r(signal=s, sender=x, a=v)`` costs less than half of ``r(signal=s, sender=x, **named)``, and that
is most of what a send can save. So a function is compiled for each tuple of names that is sent
often, for each kind of plan below, and for the workers of a pool. Nothing else is generated, and
the text takes nothing but names that are plain ASCII identifiers, as keywords and as string
literals.

Names can come from outside, and compiled code is never given back. So it takes names that were seen
``OFTEN`` times, that are few and short, and at most ``LIMIT`` functions for the whole process. All
else is called with ``**named``, to the same effect, by one function for each kind. To count, the
hash of the names is kept, not these themselves, and not for ever.

A plan keeps the compiled function for the names that it is sent with. This checks that they are the
same again, and else leaves it to the function for the next names that came often, which does
likewise and looks up any other: cheaper than looking up each time, and sends write nothing that
other threads read. Functions for workers check nothing: who sends does it, once for all receivers.

Thread safety: table entries are only added, a plan's functions are set once or twice to things
that do the same, those for workers together with the names. Two threads may compile one entry;
either will do. Of two that count at once one may be missed.
"""

import itertools
import keyword
import re
from collections.abc import Callable
from contextvars import Context
from functools import partial
from time import perf_counter
from types import MethodType
from typing import Any, Generic, Protocol, TypeVar

from tsignals._base.interrupts import foreign
from tsignals._base.observers import Subscriptions
from tsignals._base.telling import announce, numbers
from tsignals._calling.failures import report
from tsignals._calling.general import check_names
from tsignals._calling.outcomes import Outcomes
from tsignals._calling.sends import send_general, send_robust_general
from tsignals._calling.source import RESOLVE, Names, background_source, send_source
from tsignals._calling.types import Named, Pairs, Receiver, Sends

OFTEN = 16
"""How many sends with some names there are before a function is compiled for these."""
LIMIT = 1000
"""Compiled functions in this process, at most."""
MOST_NAMES = 16
MOST_LETTERS = 256
"""Of all names together."""
GENERAL = "general"
"""A kind of plan for which nothing is compiled."""


class PlanLike(Protocol):
    """A plan, as its calls see it."""

    @property
    def kind(self) -> str: ...

    @property
    def subscriptions(self) -> Subscriptions: ...


P = TypeVar("P", bound=Pairs)
C = TypeVar("C", bound=Callable[..., object])
Caller = Callable[[PlanLike, Sends, object, Named], P]
"""Calls the receivers of a plan."""
BackgroundCaller = Callable[[Context, Named, Receiver, object, object], object]
"""Calls one receiver, for this signal and sender."""

_plain_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_taken = frozenset({"signal", "sender", "__debug__", *keyword.kwlist})
_compiled: list[None] = []  # an entry for each function
_seen: dict[int, int] = {}  # how often, by hash of a table and names; forgotten now and then
_MOST_SEEN = 1024


class Table(Generic[C]):
    """The functions of one kind, by the names of the values."""

    def __init__(self, make: "Callable[[Names | None, Table[C]], C]", any_names: C | None = None):
        self._make = make
        self._for_any: list[C] = [] if any_names is None else [any_names]  # the first counts
        self.callers: dict[Names, C] = {}

    @property
    def any_names(self) -> C:
        """The function for any names, the same for all threads."""
        if not self._for_any:
            self._for_any.append(self._make(None, self))
        return self._for_any[0]

    def find(self, names: Names) -> C:
        """The function for ``names``; that for any where there is none, or none yet."""
        caller = self.callers.get(names)
        if caller is not None:
            return caller
        if len(names) > MOST_NAMES or not _come_often(self, names) or not _can_be_compiled(names):
            return self.any_names
        _compiled.append(None)
        caller = self.callers[names] = self._make(names, self)
        return caller


def _come_often(table: object, names: Names) -> bool:
    """Count; whether ``names`` have now come often enough."""
    which = hash((id(table), names))
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    count = _seen[which] = _seen.get(which, 0) + 1
    return count == OFTEN


def _can_be_compiled(names: Names) -> bool:
    return (
        len(_compiled) < LIMIT
        and sum(map(len, names)) <= MOST_LETTERS
        and all(
            type(name) is str and _plain_name.match(name) and name not in _taken for name in names
        )
    )


def _made(source: str, kind: str, scope: dict[str, Any]) -> Any:
    """The function ``call`` of ``source``, which finds its globals in ``scope``."""
    exec(compile(source, f"<tsignals {kind}>", "exec"), scope)
    return scope["call"]


# -- Sends --


def _compile(
    kind: str, announced: bool, robust: bool, names: Names | None, table: Table[Caller[P]]
) -> Caller[P]:
    scope: dict[str, object] = {
        "MethodType": MethodType,
        "Outcomes": Outcomes,
        "announce": announce,
        "check_names": check_names,
        "find": table.find,
        "general": send_robust_general if robust else send_general,
        "mode": "send_robust" if robust else "send",
        "numbers": numbers,
        "names": list(names or ()),  # what comes is listed to be compared; a tuple takes longer
        "perf_counter": perf_counter,
        "report": report,
    }
    caller: Caller[P] = _made(send_source(kind, announced, robust, names), kind, scope)
    return caller


Kind = tuple[str, bool]
"""That of a plan, and whether observers hear that it is sent."""
_kinds = list(itertools.product(RESOLVE, (False, True)))
TABLES: dict[Kind, Table[Caller[Pairs]]] = {
    kind: Table(partial(_compile, *kind, False)) for kind in _kinds
}
TABLES_ROBUST: dict[Kind, Table[Caller[Outcomes]]] = {
    kind: Table(partial(_compile, *kind, True)) for kind in _kinds
}


def _keep_in(slot: str, tables: dict[Kind, Table[Caller[P]]]) -> Caller[P]:
    """What a plan has in ``slot`` until it keeps a compiled function there."""

    def call(plan: PlanLike, signal: Sends, sender: object, named: Named) -> P:
        table = tables[plan.kind, bool(plan.subscriptions)]
        caller = table.find(tuple(named))
        if caller is not table.any_names:  # that would be kept for all names
            setattr(plan, slot, caller)
        return caller(plan, signal, sender, named)

    return call


call_first = _keep_in("call", TABLES)
"""Calls the receivers of a plan that has no function for any names."""
call_other = _keep_in("other", TABLES)
"""Calls them with names that are not those of the first function."""
call_first_robust = _keep_in("call_robust", TABLES_ROBUST)
call_other_robust = _keep_in("other_robust", TABLES_ROBUST)


# -- Workers of a pool --


@foreign
def _call_in_context(
    context: Context, named: Named, receiver: Receiver, signal: object, sender: object
) -> object:
    """Call one receiver in a copy of the sender's context, with any names."""
    try:
        return context.run(receiver, signal=signal, sender=sender, **named)
    finally:
        del context, named  # what is raised may keep this frame


def _compile_background(names: Names | None, table: object) -> BackgroundCaller:
    caller: BackgroundCaller = _made(background_source(names), "background", {})
    return foreign(caller)


BACKGROUND: Table[BackgroundCaller] = Table(_compile_background, _call_in_context)
"""For one receiver in a worker; these take what is sent, by just these names, and the receiver."""
