"""Calling receivers quickly: one small function for each set of value names.

``r(signal=s, sender=x, a=v)`` costs less than half of ``r(signal=s, sender=x, **named)``, and that
is most of what a send can save. So a function is compiled once for each tuple of names that is
sent, for each kind of plan below. Nothing else is generated, and the text takes nothing but names
that are plain ASCII identifiers, as keywords and as string literals.

Names can come from outside, and compiled code is never given back: the tables are there once for
the whole process, and take no more entries once they hold ``LIMIT``. What does not fit, and what
is no plain identifier, is called with ``**named``, to the same effect.

A plan keeps the function for the first names it was sent with, which checks that they are the
same again and else looks up another: cheaper than looking up each time, and sends write nothing
that other threads read.

Thread safety: table entries are only added, a plan's function is set once or twice to things that
do the same. Two threads may compile one entry; either will do.
"""

import keyword
import re
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

# The kinds of plan. Every receiver is resolved, and held, before the first is called. Should one
# be dead, the plan may have been overtaken: the general way looks into that.
_RESOLVE = {
    # One function, or anything else that is held in one piece.
    "one": """
    r = plan.first()
    if r is None:
        return anyhow(plan, signal, sender, named{tell})
""",
    "many": """
    live = [r for hold in plan.holds if (r := hold()) is not None]
    if len(live) != plan.count:
        return anyhow(plan, signal, sender, named{tell})
""",
    # One bound method.
    "method": """
    o = plan.first.object()
    f = plan.first.function()
    if o is None or f is None:
        return anyhow(plan, signal, sender, named{tell})
    r = MethodType(f, o)
""",
    # The same method of several objects: their function is one.
    "siblings": """
    f = plan.first.function()
    if f is None:
        return anyhow(plan, signal, sender, named{tell})
    bind = f.__get__
    live = [bind(o) for instance in plan.objects if (o := instance()) is not None]
    if len(live) != plan.count:
        return anyhow(plan, signal, sender, named{tell})
""",
}
KINDS = (*_RESOLVE, GENERAL := "general")  # nothing is compiled for the general kind

_SEND_ONE = """
    return [(r, r({call}))]
"""

_SEND_MANY = """
    return [(r, r({call})) for r in live]
"""

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
    single = kind in ("one", "method")
    robust = table.robust
    body = (
        (_ROBUST_ONE if single else _ROBUST_MANY)
        if robust
        else (_SEND_ONE if single else _SEND_MANY)
    )
    if len(names) == 1:
        guard = f'len(named) != 1 or "{names[0]}" not in named'
    else:
        guard = "(*named,) != names" if names else "named"
    tell = ", tell" if robust else ""
    values = "".join(f'    _{i} = named["{name}"]\n' for i, name in enumerate(names))
    given = "".join(f", {name}=_{i}" for i, name in enumerate(names))
    text = (
        f"def call(plan, signal, sender, named{tell}):\n"
        f"    if {guard}:\n"
        f"        return find(names_of(named))(plan, signal, sender, named{tell})\n"
        + values
        + _RESOLVE[kind].format(tell=tell)
        + body.format(call="signal=signal, sender=sender" + given)
    )
    scope: dict[str, Any] = {
        "MethodType": MethodType,
        "Outcomes": Outcomes,
        "anyhow": table.anyhow,
        "find": table.find,
        "names": names,
        "names_of": tuple,
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


def call_first_robust(plan: Any, signal: Any, sender: Any, named: dict[str, Any], tell: Any) -> Any:
    """The same for ``send_robust``."""
    caller = plan.call_robust = TABLES_ROBUST[plan.kind].find(tuple(named))
    return caller(plan, signal, sender, named, tell)
