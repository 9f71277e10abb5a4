"""Declared signals, as type checkers see them: read by ``mypy`` and ``pyright``, never run.

Where a line ends in ``# error``, both find a mistake in it. They find none anywhere else.
"""

from typing import Any, assert_type

from tsignals import Signal, WorkerPool, background, django, receiver, sqlalchemy


class Oven: ...


class BigOven(Oven): ...


@Signal.declare
def pizza_done(sender: Oven, *, toppings: list[str], size: int) -> None:
    """Sent when a pizza is done."""


@Signal.declare
def closed(sender: Oven | None) -> None:
    """Sent in the evening."""


plain = Signal()


def sends(oven: Oven) -> None:
    pizza_done.send(oven, toppings=["basil"], size=30)
    pizza_done.send(BigOven(), size=30, toppings=[])
    pizza_done.send(oven, toppings=["basil"])  # error
    pizza_done.send(oven, toppings=["basil"], size="large")  # error
    pizza_done.send(oven, toppings=["basil"], size=30, price=3)  # error
    pizza_done.send("oven", toppings=["basil"], size=30)  # error
    pizza_done.send(oven, ["basil"], 30)  # error
    pizza_done.send(toppings=["basil"], size=30)  # error
    closed.send(None)
    closed.send(oven, size=30)  # error


async def sends_otherwise(oven: Oven) -> None:
    pizza_done.send_robust(oven, toppings=[], size="large")  # error
    pizza_done.send_async(oven, toppings=[], size="large")  # error
    pizza_done.prepare(oven, toppings=[], size="large")  # error
    pizza_done.via(None).send_async(oven, toppings=[], size="large")  # error
    await pizza_done.asend(oven, toppings=[], size="large")  # error
    await pizza_done.asend_robust(oven, toppings=[], size="large")  # error
    await pizza_done.here.asend(oven, toppings=[], size="large")  # error
    await pizza_done.here.asend(oven, toppings=[], size=30)
    pizza_done.via(None).send(oven, toppings=[], size="large")  # error
    pizza_done.here.send_robust(oven, toppings=[], size="large")  # error
    pizza_done.via(None).here.send(oven, toppings=[], size=30)
    pizza_done.via(None).connect(3)  # error


# Receivers that fit


def hears_all(**named: Any) -> None: ...
def hears_sender(sender: Oven, **named: Any) -> None: ...
def hears_any_sender(sender: object, toppings: list[str], **named: Any) -> None: ...
def hears_signal(signal: Signal, sender: Oven, size: int, **named: Any) -> None: ...
def hears_both(sender: Oven, signal: Signal, size: int, **named: Any) -> None: ...
def hears_signal_alone(signal: Signal, **named: Any) -> None: ...
def hears_value(size: int, **named: Any) -> None: ...
def hears_by_name(sender: Oven, *, size: float, **named: Any) -> None: ...
def hears_what_is_there(sender: Oven, size: int = 0, price: int = 3, **named: Any) -> None: ...
async def hears_async(sender: Oven, size: int, **named: Any) -> None: ...


class Kitchen:
    def hears(self, sender: Oven, size: int, **named: Any) -> None: ...
    def __call__(self, size: int, **named: Any) -> None: ...
    def refuses(self, sender: Oven, size: str, **named: Any) -> None: ...

    @background
    def later(self, sender: Oven, size: int, **named: Any) -> str:
        return ""

    @background(ordered=True)
    async def later_async(self, sender: Oven, size: int, **named: Any) -> str:
        return ""


def connects(kitchen: Kitchen) -> None:
    pizza_done.connect(hears_all)
    pizza_done.connect(hears_sender, weak=False, priority=3)
    pizza_done.connect(hears_any_sender)
    pizza_done.connect(hears_signal)
    pizza_done.connect(hears_both)
    pizza_done.connect(hears_signal_alone)
    pizza_done.connect(hears_value, once=True)
    pizza_done.connect(hears_by_name)
    pizza_done.connect(hears_what_is_there)
    pizza_done.connect(hears_async)
    pizza_done.connect(kitchen)
    pizza_done.connect(kitchen.hears)
    pizza_done.connect(kitchen.later)
    pizza_done.connect(kitchen.later_async)
    pizza_done.connect(background(hears_async))
    pizza_done.connect(lambda sender, **named: None)
    pizza_done.connect(lambda **named: None)


# Receivers that do not


def wrong_type(sender: Oven, size: str, **named: Any) -> None: ...
def wrong_sender(sender: int, **named: Any) -> None: ...
def wrong_value(sender: Oven, price: int, **named: Any) -> None: ...
def wrong_name(oven: Oven, **named: Any) -> None: ...


def refuses(kitchen: Kitchen) -> None:
    pizza_done.connect(wrong_type)  # error
    pizza_done.connect(wrong_sender)  # error
    pizza_done.connect(wrong_value)  # error
    pizza_done.connect(wrong_name)  # error
    pizza_done.connect(kitchen.refuses)  # error
    pizza_done.connect(background(wrong_type))  # error
    pizza_done.connect(3)  # error
    pizza_done.connect(hears_all, no_such_option=3)  # error


# These are right, too. Neither checker can tell: put the sender first.


def by_name_only(*, sender: Oven, **named: Any) -> None: ...
def after_a_value(size: int, sender: Oven, **named: Any) -> None: ...


def refuses_too_much() -> None:
    pizza_done.connect(by_name_only)  # error
    pizza_done.connect(after_a_value)  # error


# Decorators


@receiver(pizza_done, priority=3)
def fits(sender: Oven, size: int, **named: Any) -> int:
    return size


@receiver(pizza_done)
@background
def fits_later(sender: Oven, size: int, **named: Any) -> int:
    return size


@receiver(pizza_done)  # error
def does_not_fit(sender: Oven, size: str, **named: Any) -> None: ...


@receiver(pizza_done)  # error
@background(ordered=True)
async def does_not_fit_later(sender: Oven, size: str, **named: Any) -> None: ...


@receiver([pizza_done, plain])  # of several, nothing is checked
def hears_several(sender: Oven, size: str, **named: Any) -> str:
    return size


assert_type(fits(Oven()), Any)  # of a declared signal: what it was, checkers forget
assert_type(hears_several(Oven(), "large"), str)
hears_several(Oven(), 3)  # error


async def backgrounds(kitchen: Kitchen, oven: Oven) -> None:
    assert_type(kitchen.later(oven, 3).result(), str)
    assert_type(kitchen.later_async(oven, size=3).result(), str)
    kitchen.later(oven, "large")  # error


# Annotations


def announces(signal: Signal[Oven, ...], oven: Oven) -> None:
    signal.send(oven, anything=3)
    signal.send(3)  # error


def hears(signal: Signal) -> None:
    signal.send(3, anything=3)
    signal.connect(wrong_name)


announces(pizza_done, Oven())
hears(pizza_done)


# With ``Any``, which fits everything, and may so hide what does not


@Signal.declare
def noted(sender: Any, *, data: dict[str, Any]) -> None: ...


def customer(sender: Oven, **named: Any) -> Any: ...


@receiver(noted)
def notes(sender: Oven, data: dict[str, Any], **named: Any) -> None: ...


@receiver(noted)  # error
def notes_what_it_is_not(sender: Oven, data: str, **named: Any) -> None: ...


@receiver(pizza_done, ordered=customer)
def in_order(sender: Oven, size: int, **named: Any) -> None: ...


@receiver(pizza_done, ordered=customer)  # error
def not_in_order(sender: Oven, size: str, **named: Any) -> None: ...


# In a class


class Doors:
    @Signal.declare
    @staticmethod
    def opened(sender: Oven, *, degrees: int) -> None: ...


Doors.opened.send(Oven(), degrees=200)
Doors.opened.send(Oven(), degrees="hot")  # error


# Stubs


@Signal.declare  # error
async def asynchronous(sender: Oven) -> None: ...


@Signal.declare  # error
def no_sender() -> None: ...


Signal.declare(3)  # error


def after_the_commit(oven: Oven, session: object, pool: WorkerPool) -> None:
    sqlalchemy.after_commit(session, plain, None, size=30)
    sqlalchemy.after_commit(session, plain.via(pool), None, size=30)
    sqlalchemy.after_commit(session, closed, oven)
    sqlalchemy.after_commit(session, closed.via(pool), oven)
    sqlalchemy.after_commit(session, sends, oven)  # error
    django.after_commit(plain, None, size=30)
    django.after_commit(plain.via(pool), None, size=30)
    django.after_commit(closed, oven)
    django.after_commit(closed.via(pool), oven)
    django.after_commit(sends, oven)  # error
