"""Deciding once among threads, finalizers and signal handlers, without a lock.

Everybody appends to one list, and the first entry counts: an append is one step of CPython, with
and without the GIL, and all who look see the same first entry.
"""

from typing import TypeVar

C = TypeVar("C")


def comes_first(claims: list[C], claim: C) -> bool:
    """Enter ``claim``; whether it decides. Asked again, it gives the same answer."""
    claims.append(claim)
    return claims[0] is claim
