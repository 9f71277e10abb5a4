"""Calling receivers quickly: one small function for each set of value names.

``r(signal=s, sender=x, a=v)`` costs less than half of ``r(signal=s, sender=x, **named)``, and that
is most of what a send can save. So a function is compiled once for each tuple of names that is
sent, for each kind of plan below. Nothing else is generated, and the text takes nothing but names
that are plain ASCII identifiers, as keywords and as string literals.

Names can come from outside, and compiled code is never given back: the tables are there once for
the whole process, and take no more entries once they hold ``LIMIT``. What does not fit, and what
is no plain identifier, is called with ``**named``, to the same effect.

A plan keeps the function for the first names it was sent with. This checks that they are the same
again, and else leaves it to the function for the next names that came, which does likewise and
looks up any other: cheaper than looking up each time, and sends write nothing that other threads
read.

Thread safety: table entries are only added, a plan's functions are set once or twice to things
that do the same. Two threads may compile one entry; either will do.
"""

import keyword
import re
import sys
from collections.abc import Callable
from time import perf_counter
from types import MethodType
from typing import Any

from tsignals._each import send_anyhow, send_robust_anyhow
from tsignals._outcomes import Outcomes

LIMIT = 256

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
KINDS = (*_RESOLVE, GENERAL := "general")  # nothing is compiled for the general kind

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
        outcomes.add_error(r, error)
        tell(signal, sender, r, error, "send_robust", 0.0, perf_counter() - started)
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
            outcomes.add_error(r, error)
            tell(signal, sender, r, error, "send_robust", 0.0, ended - started)
            started = ended
    return outcomes
"""


def _compile(kind: str, names: Names, table: "Table") -> Caller:
    single = kind in ("one", "method", "held")
    robust = table.robust
    body = (
        (_ROBUST_ONE if single else _ROBUST_MANY)
        if robust
        else (_SEND_ONE if single else _SEND_MANY)
    )
    if len(names) == 1:
        guard = f'len(named) != 1 or "{names[0]}" not in named'
    else:
        guard = "[*named] != names" if names else "named"
    tell, other = (", tell", "other_robust") if robust else ("", "other")
    values = "".join(f'    _{i} = named["{name}"]\n' for i, name in enumerate(names))
    given = "".join(f", {name}=_{i}" for i, name in enumerate(names))
    # The function that the plan keeps for other names looks up any third ones: if it passed them
    # on likewise, it would pass them to itself.
    text = (
        f"def call(plan, signal, sender, named{tell}):\n"
        f"    if {guard}:\n"
        f"        if plan.{other} is call:\n"
        f"            return find(tuple(named))(plan, signal, sender, named{tell})\n"
        f"        return plan.{other}(plan, signal, sender, named{tell})\n"
        + values
        + _RESOLVE[kind].format(tell=tell)
        + body.format(call="signal=signal, sender=sender" + given)
    )
    scope: dict[str, Any] = {
        "MethodType": MethodType,
        "Outcomes": Outcomes,
        "anyhow": table.anyhow,
        "find": table.find,
        "names": list(names),  # what comes is listed to be compared; a tuple takes longer to make
        "perf_counter": perf_counter,
    }
    exec(compile(text, f"<tsignals {kind}>", "exec"), scope)
    caller: Caller = scope["call"]
    return caller


class Table:
    """The functions for one kind of plan, by the names of the values."""

    def __init__(self, kind: str, robust: bool) -> None:
        self.kind = kind
        self.robust = robust
        self.anyhow: Caller = send_robust_anyhow if robust else send_anyhow
        self.callers: dict[Names, Caller] = {}

    def find(self, names: Names) -> Caller:
        """The function for ``names``; the general way where there is none and can be none."""
        try:
            return self.callers[names]
        except KeyError:
            pass
        if (
            self.kind == GENERAL
            or len(self.callers) >= LIMIT
            or not all(
                type(name) is str and _plain_name.match(name) and name not in _taken
                for name in names
            )
        ):
            return self.anyhow
        caller = self.callers[names] = _compile(self.kind, names, self)
        return caller


TABLES = {kind: Table(kind, robust=False) for kind in KINDS}
TABLES_ROBUST = {kind: Table(kind, robust=True) for kind in KINDS}


def call_first(plan: Any, signal: Any, sender: Any, named: dict[str, Any]) -> Any:
    """Call the receivers of a plan that is used for the first time."""
    caller = plan.call = TABLES[plan.kind].find(tuple(named))
    return caller(plan, signal, sender, named)


def call_other(plan: Any, signal: Any, sender: Any, named: dict[str, Any]) -> Any:
    """Call them with names that are not the first ones."""
    caller = plan.other = TABLES[plan.kind].find(tuple(named))
    return caller(plan, signal, sender, named)


def call_first_robust(plan: Any, signal: Any, sender: Any, named: dict[str, Any], tell: Any) -> Any:
    """As ``call_first``, for ``send_robust``."""
    caller = plan.call_robust = TABLES_ROBUST[plan.kind].find(tuple(named))
    return caller(plan, signal, sender, named, tell)


def call_other_robust(plan: Any, signal: Any, sender: Any, named: dict[str, Any], tell: Any) -> Any:
    """As ``call_other``, for ``send_robust``."""
    caller = plan.other_robust = TABLES_ROBUST[plan.kind].find(tuple(named))
    return caller(plan, signal, sender, named, tell)
