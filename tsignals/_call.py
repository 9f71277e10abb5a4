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

import keyword
import re
import sys
from collections.abc import Callable
from contextvars import Context
from functools import partial
from time import perf_counter
from types import MethodType
from typing import Any

from tsignals._critical import foreign
from tsignals._each import check_names, send_anyhow, send_robust_anyhow
from tsignals._outcomes import Outcomes
from tsignals._receiver import Receiver

OFTEN = 16
"""How many sends with some names there are before a function is compiled for these."""
LIMIT = 1000
"""Compiled functions in this process, at most."""
MOST_NAMES = 16
MOST_LETTERS = 256
"""Of all names together."""

Names = tuple[str, ...]
Caller = Callable[..., Any]  # (plan, signal, sender, named), and for send_robust also (tell)

_plain_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_taken = frozenset({"signal", "sender", "__debug__", *keyword.kwlist})


def _gather(into: str, item: str, turns: str, condition: str = "True") -> str:
    """Text that makes a list of ``item`` for each of ``turns`` where the condition holds."""
    if sys.version_info >= (3, 12):
        return f"    {into} = [{item} for {turns} if {condition}]\n"
    # A comprehension costs a call there.
    return (
        f"    {into} = []\n"
        f"    for {turns}:\n"
        f"        if {condition}:\n"
        f"            {into}.append({item})\n"
    )


# The kinds of plan. Every receiver is resolved, and held, before the first is called. Should one
# be dead, the plan may have been overtaken: the general way looks into that. (What a slot holds
# is called in two steps: 3.11 takes long to find a method that is none.)
_RESOLVE = {
    # One that is held in one piece: a function, most often.
    "one": """
    hold = plan.first
    r = hold()
    if r is None:
        return anyhow(plan, signal, sender, named{tell})
""",
    "many": _gather("live", "r", "hold in plan.parts", "(r := hold()) is not None")
    + """
    if len(live) != plan.count:
        return anyhow(plan, signal, sender, named{tell})
""",
    # One bound method.
    "method": """
    hold = plan.first
    instance = hold.object
    function = hold.function
    o = instance()
    f = function()
    if o is None or f is None:
        return anyhow(plan, signal, sender, named{tell})
    r = MethodType(f, o)
""",
    # The same method of several objects: their function is one.
    "siblings": """
    function = plan.first.function
    f = function()
    if f is None:
        return anyhow(plan, signal, sender, named{tell})
    bind = f.__get__
"""
    + _gather("live", "bind(o)", "instance in plan.parts", "(o := instance()) is not None")
    + """
    if len(live) != plan.count:
        return anyhow(plan, signal, sender, named{tell})
""",
    # One that is held strongly, or several that all are.
    "held": """
    r = plan.first.target
""",
    "all held": """
    live = plan.parts
""",
}
GENERAL = "general"  # a kind for which nothing is compiled

_SEND_ONE = """
    return [(r, r({call}))]
"""

_SEND_MANY = (
    _gather("pairs", "(r, r({call}))", "r in live")
    + """
    return pairs
"""
)

_ROBUST_ONE = """
    outcomes = Outcomes()
    started = perf_counter()
    try:
        outcomes.append((r, r({call})))
    except Exception as error:
        outcomes._add_error(r, error)
        tell(signal, sender, r, error, "send_robust", 0.0, perf_counter() - started, named)
    return outcomes
"""

_ROBUST_MANY = """
    outcomes = Outcomes()
    started = perf_counter()
    for r in live:
        try:
            outcomes.append((r, r({call})))
        except Exception as error:
            ended = perf_counter()
            outcomes._add_error(r, error)
            tell(signal, sender, r, error, "send_robust", 0.0, ended - started, named)
            started = ended
    return outcomes
"""


def _guard(names: Names) -> str:
    """Text of a condition: the values' names are others."""
    if len(names) == 1:
        return f'len(named) != 1 or "{names[0]}" not in named'
    return "[*named] != names" if names else "named"


def _compile(kind: str, robust: bool, names: Names | None, table: "Table") -> Caller:
    """The function for ``names``; ``None``: that for any."""
    single = kind in ("one", "method", "held")
    body = (
        (_ROBUST_ONE if single else _ROBUST_MANY)
        if robust
        else (_SEND_ONE if single else _SEND_MANY)
    )
    tell, other = (", tell", "other_robust") if robust else ("", "other")
    if names is None:
        checked = '    if "signal" in named:\n        check_names(named)\n'
        given = ", **named"
    else:
        # The function that the plan keeps for other names looks up any third ones: if it passed
        # them on likewise, it would pass them to itself.
        checked = (
            f"    if {_guard(names)}:\n"
            f"        if plan.{other} is call:\n"
            f"            return find(tuple(named))(plan, signal, sender, named{tell})\n"
            f"        return plan.{other}(plan, signal, sender, named{tell})\n"
        ) + "".join(f'    _{i} = named["{name}"]\n' for i, name in enumerate(names))
        given = "".join(f", {name}=_{i}" for i, name in enumerate(names))
    text = (
        f"def call(plan, signal, sender, named{tell}):\n"
        + checked
        + _RESOLVE[kind].format(tell=tell)
        + body.format(call="signal=signal, sender=sender" + given)
    )
    scope: dict[str, Any] = {
        "MethodType": MethodType,
        "Outcomes": Outcomes,
        "anyhow": table.anyhow,
        "check_names": check_names,
        "find": table.find,
        "names": list(names or ()),  # what comes is listed to be compared; a tuple takes longer
        "perf_counter": perf_counter,
    }
    exec(compile(text, f"<tsignals {kind}>", "exec"), scope)
    caller: Caller = scope["call"]
    return caller


_compiled: list[None] = []  # an entry for each function
_seen: dict[int, int] = {}  # how often, by hash of a table and names; forgotten now and then
_MOST_SEEN = 1024


def _come_often(table: "Table", names: Names) -> bool:
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


class Table:
    """The functions of one kind, by the names of the values."""

    def __init__(
        self, anyhow: Caller, make: "Callable[[Names | None, Table], Caller]", general: Any = None
    ) -> None:
        self.anyhow = anyhow
        self._make = make
        self._generals: list[Caller] = [] if general is None else [general]  # the first counts
        self.callers: dict[Names, Caller] = {}

    @property
    def general(self) -> Caller:
        """The function for any names, the same for all threads."""
        if not self._generals:
            self._generals.append(self._make(None, self))
        return self._generals[0]

    def find(self, names: Names) -> Caller:
        """The function for ``names``; the general one where there is none, or none yet."""
        caller = self.callers.get(names)
        if caller is not None:
            return caller
        if len(names) > MOST_NAMES or not _come_often(self, names) or not _can_be_compiled(names):
            return self.general
        _compiled.append(None)
        caller = self.callers[names] = self._make(names, self)
        return caller


def _compile_background(names: Names | None, table: Table) -> Caller:
    given = "".join(f', {name}=named["{name}"]' for name in names or ())
    text = (
        "def call(context, named, receiver, signal, sender):\n"
        "    try:\n"
        f"        return context.run(receiver, signal=signal, sender=sender{given})\n"
        "    except BaseException:\n"
        "        del context, named\n"  # what is raised may keep this frame
        "        raise\n"
    )
    scope: dict[str, Any] = {}
    exec(compile(text, "<tsignals background>", "exec"), scope)
    caller: Caller = foreign(scope["call"])
    return caller


@foreign
def call_in_context(
    context: Context, named: dict[str, Any], receiver: Receiver, signal: Any, sender: Any
) -> Any:
    """Call one receiver in a copy of the sender's context, with any names."""
    try:
        return context.run(receiver, signal=signal, sender=sender, **named)
    except BaseException:
        del context, named  # what is raised may keep this frame
        raise


TABLES = {kind: Table(send_anyhow, partial(_compile, kind, False)) for kind in _RESOLVE}
TABLES_ROBUST = {
    kind: Table(send_robust_anyhow, partial(_compile, kind, True)) for kind in _RESOLVE
}
BACKGROUND = Table(call_in_context, _compile_background, call_in_context)
"""For one receiver in a worker; these take what is sent, by just these names, and the receiver."""


def _find_and_keep(plan: Any, slot: str, table: Table, named: dict[str, Any]) -> Caller:
    """The function for these names, which ``plan`` keeps in ``slot``.

    Not the general one: it would be kept for all names.
    """
    caller = table.find(tuple(named))
    if caller is not table.general:
        setattr(plan, slot, caller)
    return caller


# What a plan begins with.


def call_first(plan: Any, signal: Any, sender: Any, named: dict[str, Any]) -> Any:
    """Call the receivers of a plan that has no function for any names."""
    caller = _find_and_keep(plan, "call", TABLES[plan.kind], named)
    return caller(plan, signal, sender, named)


def call_other(plan: Any, signal: Any, sender: Any, named: dict[str, Any]) -> Any:
    """Call them with names that are not those of the first function."""
    caller = _find_and_keep(plan, "other", TABLES[plan.kind], named)
    return caller(plan, signal, sender, named)


def call_first_robust(plan: Any, signal: Any, sender: Any, named: dict[str, Any], tell: Any) -> Any:
    """As ``call_first``, for ``send_robust``."""
    caller = _find_and_keep(plan, "call_robust", TABLES_ROBUST[plan.kind], named)
    return caller(plan, signal, sender, named, tell)


def call_other_robust(plan: Any, signal: Any, sender: Any, named: dict[str, Any], tell: Any) -> Any:
    """As ``call_other``, for ``send_robust``."""
    caller = _find_and_keep(plan, "other_robust", TABLES_ROBUST[plan.kind], named)
    return caller(plan, signal, sender, named, tell)
