"""The language and the time zone of a send, in force where it is delivered.

Threads
    Django keeps both in asgiref's ``Local``, which shows nobody what another thread has put in,
    also where the context was copied. So they are taken on the sender's thread, travel in a
    context variable of our own, which the delivery's context does carry, and are activated on the
    thread that delivers. A ``Locale`` never changes; it may be seen by any number of threads.

    What is activated lands in the delivery's own context: no later delivery of that worker sees
    it, and two deliveries on one event loop do not see each other's.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from datetime import tzinfo
from typing import NamedTuple, TypeVar

from django.utils import timezone, translation

T = TypeVar("T")


class Locale(NamedTuple):
    """What was active on the sender's thread."""

    language: str | None  # None: after translation.deactivate_all()
    timezone: tzinfo


_sent: ContextVar[Locale | None] = ContextVar("tsignals.django.locale", default=None)


def with_locale(function: Callable[[], T]) -> T:
    """Call ``function`` in a copy of the context that carries this thread's locale."""
    context = copy_context()
    context.run(_sent.set, Locale(translation.get_language(), timezone.get_current_timezone()))
    return context.run(function)


class SentLocale:
    """Activates what this delivery's context carries, if it does; leaves all as it was.

    Entered a second time, inside itself, it does nothing: what a receiver activates stays so. No
    generator: ``contextlib`` assigns to the errors that pass through one, which some forbid.
    """

    __slots__ = ("_inside", "_token")

    def __enter__(self) -> None:
        locale = _sent.get()
        self._inside: tuple[AbstractContextManager[object], ...] = ()
        if locale is not None:
            self._token = _sent.set(None)
            self._inside = (
                translation.override(locale.language),
                timezone.override(locale.timezone),
            )
            for each in self._inside:
                each.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._inside:
            for each in reversed(self._inside):
                each.__exit__(None, None, None)
            _sent.reset(self._token)
