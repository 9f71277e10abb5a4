"""Deciding once among threads, finalizers and signal handlers, without a lock.

Everybody appends to one list, and the first entry counts: an append is one step of CPython, with
and without the GIL, and all who look see the same first entry.
"""

from typing import Generic, TypeVar

C = TypeVar("C")
V = TypeVar("V")


def comes_first(claims: list[C], claim: C) -> bool:
    """Enter ``claim``; whether it decides. Asked again, it gives the same answer."""
    claims.append(claim)
    return claims[0] is claim


class Version(Generic[V]):
    """What an ``AtomicReference`` has, or had; it knows all that came after it."""

    __slots__ = ("successors", "value")

    def __init__(self, value: V) -> None:
        self.value: V = value
        self.successors: list[Version[V]] = []  # the first counts


class AtomicReference(Generic[V]):
    """A value that is replaced by compare-and-set, as by Java's class of this name.

    The numbers of a pool, which change more often, are in ``_pool.atomic_state``; see Keeping there
    on why no version is an argument, or stays in a variable.
    """

    __slots__ = ("latest",)

    def __init__(self, value: V) -> None:
        self.latest = Version(value)  # where to look for the current one; never past it

    def get(self) -> V:
        version = self.latest
        try:
            while version.successors:
                version = version.successors[0]
            return version.value
        finally:
            del version

    def compare_and_set(self, expected: V, value: V) -> bool:
        """Have ``value`` in the place of ``expected``; False where that is there no more."""
        version = following = self.latest
        try:
            while version.successors:
                version = version.successors[0]
            if version.value is not expected:
                return False
            following = Version(value)
            version.successors.append(following)
            if version.successors[0] is not following:
                return False
            self.latest = following
            return True
        finally:
            del version, following
