"""The text of the functions that ``compiled`` makes: how the receivers of a plan are called.

It takes nothing from outside but names that ``compiled`` has checked, as keywords and as string
literals.
"""

import sys

Names = tuple[str, ...]


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
RESOLVE = {
    # One that is held in one piece: a function, most often.
    "one": """
    hold = plan.first
    r = hold()
    if r is None:
        return general(plan, signal, sender, named)
""",
    "many": _gather("live", "r", "hold in plan.parts", "(r := hold()) is not None")
    + """
    if len(live) != plan.count:
        return general(plan, signal, sender, named)
""",
    # One bound method.
    "method": """
    hold = plan.first
    instance = hold.instance
    function = hold.function
    o = instance()
    f = function()
    if o is None or f is None:
        return general(plan, signal, sender, named)
    r = MethodType(f, o)
""",
    # The same method of several objects: their function is one.
    "siblings": """
    function = plan.first.function
    f = function()
    if f is None:
        return general(plan, signal, sender, named)
    bind = f.__get__
"""
    + _gather("live", "bind(o)", "instance in plan.parts", "(o := instance()) is not None")
    + """
    if len(live) != plan.count:
        return general(plan, signal, sender, named)
""",
    # One that is held strongly, or several that all are.
    "held": """
    r = plan.first.target
""",
    "all held": """
    live = plan.parts
""",
}

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
        report(signal, sender, r, error, "send_robust", 0.0, perf_counter() - started, named)
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
            report(signal, sender, r, error, "send_robust", 0.0, ended - started, named)
            started = ended
    return outcomes
"""


# Written out, for a call more would show.
_ANNOUNCE = """
    about = signal, type(sender), mode, next(numbers), None, None, tuple({receivers})
    announce(plan.subscriptions, about, sender, named)
"""


def _guard(names: Names) -> str:
    """Text of a condition: the values' names are others."""
    if len(names) == 1:
        return f'len(named) != 1 or "{names[0]}" not in named'
    return "[*named] != names" if names else "named"


def send_source(kind: str, announced: bool, robust: bool, names: Names | None) -> str:
    """A function ``call`` for plans of this kind and these names; ``None``: for any.

    announced: observers hear that it is sent.

    The names that it uses of others are those that ``compiled`` gives it.
    """
    if kind in ("one", "method", "held"):
        body, receivers = _ROBUST_ONE if robust else _SEND_ONE, "(r,)"
    else:
        body, receivers = _ROBUST_MANY if robust else _SEND_MANY, "live"
    announcement = _ANNOUNCE.format(receivers=receivers) if announced else ""
    other = "other_robust" if robust else "other"
    if names is None:
        checked = '    if "signal" in named:\n        check_names(named)\n'
        given = ", **named"
    else:
        # The function that the plan keeps for other names looks up any third ones: if it passed
        # them on likewise, it would pass them to itself.
        checked = (
            f"    if {_guard(names)}:\n"
            f"        if plan.{other} is call:\n"
            f"            return find(tuple(named))(plan, signal, sender, named)\n"
            f"        return plan.{other}(plan, signal, sender, named)\n"
        ) + "".join(f'    _{i} = named["{name}"]\n' for i, name in enumerate(names))
        given = "".join(f", {name}=_{i}" for i, name in enumerate(names))
    return (
        "def call(plan, signal, sender, named):\n"
        + checked
        + RESOLVE[kind]
        + announcement
        + body.format(call="signal=signal, sender=sender" + given)
    )


def background_source(names: Names | None) -> str:
    """A function ``call`` that calls one receiver in a worker with these names."""
    given = "".join(f', {name}=named["{name}"]' for name in names or ())
    return (
        "def call(context, named, receiver, signal, sender):\n"
        "    try:\n"
        f"        return context.run(receiver, signal=signal, sender=sender{given})\n"
        "    finally:\n"
        "        del context, named\n"  # what is raised may keep this frame
    )
