"""What makes two objects the same, where equality would run their code; and what is never two."""

from collections.abc import Hashable
from types import MethodType
from typing import Self


class SameWhenCopied:
    """There is but one of it: a copy, which would share what it has, is the thing itself."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def identity(receiver: object) -> Hashable:
    """What makes two receivers the same: the object, or for a bound method object and function.

    Valid while the receiver lives; a connection's weak hold tells when it no longer does.
    """
    if type(receiver) is MethodType:
        return (id(receiver.__self__), id(receiver.__func__))
    return id(receiver)


class IdentityKey:
    """Equal to one key object and to no other: makes ``dict.pop`` a compare-and-delete."""

    __slots__ = ("hash", "key")

    def __init__(self, key: Hashable) -> None:
        self.key: Hashable = key
        self.hash: int = hash(key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return other is self.key
