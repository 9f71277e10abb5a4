"""Calling receivers quickly: one small function for each set of value names.

``r(signal=s, sender=x, a=v)`` costs less than half of ``r(signal=s, sender=x, **named)``, and that
is most of what a send can save. So a function is compiled once for each tuple of names that is
sent, for each kind of plan below. Nothing else is generated, and the text takes nothing but names
that are plain ASCII identifiers, as keywords and as string literals.

Names can come from outside, and compiled code is never given back: the tables are there once for
the whole process, and take no more entries once they hold ``LIMIT``. What does not fit, and what
is no plain identifier, is called with ``**named``, to the same effect.

Thread safety: entries are only added. Two threads may compile the same one; either will do.
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

GENERAL = "general"  # the kind of plan for which nothing is compiled

Names = tuple[str, ...]
Caller = Callable[..., Any]  # (plan, signal, sender, named), and for send_robust also (tell)

_plain_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_taken = frozenset({"signal", "sender", "__debug__", *keyword.kwlist})

# Every receiver is resolved, and held, before the first is called. Should one be dead, the plan
# may have been overtaken: the general way looks into that.
_RESOLVE = {
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
    "methods": """
    live = [
        MethodType(f, o)
        for instance, function in plan.pairs
        if (o := instance()) is not None and (f := function()) is not None
    ]
    if len(live) != plan.count:
        return anyhow(plan, signal, sender, named{tell})
""",
}

_CALL_ONE = """
    return [(r, r({call}))]
"""

_CALL = """
    return [(r, r({call})) for r in live]
"""

_CALL_ROBUST = """
    outcomes = Outcomes()
    append = outcomes.append
    started = perf_counter()
    for r in {live}:
        try:
            append((r, r({call})))
        except Exception as error:
            ended = perf_counter()
            outcomes.add_error(r, error)
            tell(signal, sender, r, error, "send_robust", 0.0, ended - started)
            started = ended
    return outcomes
"""


def _compile(kind: str, names: Names, robust: bool) -> Caller:
    values = "".join(f'    _{i} = named["{name}"]\n' for i, name in enumerate(names))
    call = ", ".join(
        ["signal=signal", "sender=sender", *(f"{name}=_{i}" for i, name in enumerate(names))]
    )
    resolve = _RESOLVE[kind].format(tell=", tell" if robust else "")
    if robust:
        body = _CALL_ROBUST.format(call=call, live="(r,)" if kind == "one" else "live")
    else:
        body = (_CALL_ONE if kind == "one" else _CALL).format(call=call)
    head = f"def call(plan, signal, sender, named{', tell' if robust else ''}):\n"
    scope: dict[str, Any] = {
        "MethodType": MethodType,
        "Outcomes": Outcomes,
        "perf_counter": perf_counter,
        "anyhow": send_robust_anyhow if robust else send_anyhow,
    }
    exec(compile(head + values + resolve + body, f"<tsignals call of {kind}>", "exec"), scope)
    caller: Caller = scope["call"]
    return caller


class Callers(dict[Names, Caller]):
    """The callers of one kind of plan, by the names of the values."""

    def __init__(self, kind: str, robust: bool) -> None:
        self.kind = kind
        self.robust = robust

    def __missing__(self, names: Names) -> Caller:
        anyhow: Caller = send_robust_anyhow if self.robust else send_anyhow
        if (
            self.kind == GENERAL
            or len(self) >= LIMIT
            or not all(
                type(name) is str and _plain_name.match(name) and name not in _taken
                for name in names
            )
        ):
            return anyhow
        caller = self[names] = _compile(self.kind, names, self.robust)
        return caller


CALLERS = {kind: Callers(kind, robust=False) for kind in (GENERAL, *_RESOLVE)}
CALLERS_ROBUST = {kind: Callers(kind, robust=True) for kind in (GENERAL, *_RESOLVE)}
