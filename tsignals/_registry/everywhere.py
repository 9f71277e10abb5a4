"""All living registries, found through the weak references that they have anyway.

For what changes how every signal is sent: that somebody observes, or no longer.
"""

from collections.abc import Callable
from typing import Protocol

from tsignals._base.observers import on_change


class Renewed(Protocol):
    """What keeps plans, and can have them made anew."""

    def renew(self) -> None: ...


Reference = Callable[[], Renewed | None]


class Everywhere:
    """Weak references that take themselves out, in a table of no weak kind: to add one is a step.

    No lock: each step is one of a dictionary, under a key that only the reference in there can
    have. One that was interrupted when it took itself out stays, and is found dead.
    """

    def __init__(self) -> None:
        self._found: dict[int, Reference] = {}

    def add(self, reference: Reference) -> None:
        self._found[id(reference)] = reference

    def forget(self, reference: object) -> None:
        """What it refers to is dead."""
        self._found.pop(id(reference), None)

    def living(self) -> list[Renewed]:
        found = list(self._found.values())
        return [each for reference in found if (each := reference()) is not None]

    def renew(self) -> None:
        for registry in self.living():
            registry.renew()


registries = Everywhere()
on_change.append(registries.renew)
