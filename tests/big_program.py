"""A program with 200 signals and 1,000 connections, of the kinds that there are; for maps of it."""

import functools
import random
import sys
import types
from typing import Any

from tsignals import Signal, background

AREAS = (
    "accounts billing carts catalog coupons delivery gifts inventory mails orders payments "
    "pricing refunds returns reviews search shipping stock support warehouse"
).split()
EVENTS = ("created changed deleted opened closed paid sent failed expired confirmed").split()
VERBS = "audit notify count index cache_drop mail_to log export score sync".split()
ARGUMENTS = (["item"], ["item", "user"], ["order", "lines", "total"], [])


class Customer:
    """A sender."""


class Supplier:
    """A sender."""


PROGRAM: dict[str, Signal] = {}
"""What ``make`` has made."""


def make(signals: int = 200, connections: int = 1_000, seed: int = 7) -> None:
    """Make them, in modules ``big.AREA``; one signal in twenty is heard by nobody."""
    chance = random.Random(seed)
    made, receivers = [], []
    per_area = -(-signals // len(AREAS))
    for area in AREAS:
        module = types.ModuleType(f"big.{area}")
        sys.modules[module.__name__] = module
        lines = ["from tsignals import Signal", ""]
        for n in range(per_area):
            name = f"{area}_{EVENTS[n % len(EVENTS)]}{n // len(EVENTS) or ''}"
            lines += [f"{name} = Signal({chance.choice(ARGUMENTS)})", ""]
        for verb in VERBS:
            asynchronous = "async " if chance.random() < 0.15 else ""
            lines += [f"{asynchronous}def {verb}_{area}(**named): ...", ""]
        exec(compile("\n".join(lines), f"{area}/signals.py", "exec"), module.__dict__)
        own = vars(module)
        made += [each for each in own.values() if isinstance(each, Signal)]
        receivers += [own[f"{verb}_{area}"] for verb in VERBS]
    made = made[:signals]
    heard = [signal for n, signal in enumerate(made) if n % 20 != 13]
    taken = set()
    while len(taken) < connections:
        signal, receiver = chance.choice(heard), wrapped(chance, chance.choice(receivers))
        sender = chance.choice((None, None, None, None, Customer, Supplier))
        if (signal, receiver, sender) not in taken:
            taken.add((signal, receiver, sender))
            signal.connect(receiver, sender, **options(chance))
    PROGRAM.update({repr(each): each for each in made})


def forget() -> None:
    """Take all of it away."""
    PROGRAM.clear()
    in_background.cache_clear()
    for name in [name for name in sys.modules if name.startswith("big.")]:
        del sys.modules[name]


@functools.cache
def in_background(receiver: Any) -> Any:
    return background(receiver)


def wrapped(chance: random.Random, receiver: Any) -> Any:
    return in_background(receiver) if chance.random() < 0.2 else receiver


def options(chance: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"weak": chance.random() < 0.7}
    if chance.random() < 0.1:
        found["priority"] = chance.choice((-10, 5, 10))
    return found
