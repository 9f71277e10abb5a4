"""Which lane a value stands for: for equal values of one receiver, the same.

``==`` and ``hash`` of a value are foreign code. So a sender finds the ``LaneId`` of its values
before it has anything admitted (``find``). From then on the lane is known by this id, which is
compared with nothing (``lanes``).

An id is held by the deliveries that have it and have not ended, and by their lane; here, weakly.
When the last of these has let it go, the callback of the weak reference takes it out.

Lock
    None. The ids of one receiver whose values have one hash are in a ``Bucket``, as a tuple, which
    is replaced by compare-and-set.

Invariants
    L1  Of the living ids of one receiver no two have equal values: who adds one has compared its
        value with those of the tuple that it succeeds.
    L2  Nothing succeeds an empty tuple. A bucket that is empty is taken out of the table, by its
        own key object; who has found it there looks once more.

A callback that is interrupted leaves its dead id behind, until such a value is sent again.
"""

import sys
import weakref
from collections.abc import Callable, Hashable

from tsignals._base.atomic import AtomicReference
from tsignals._base.identity import IdentityKey


class LaneId:
    """What a lane is known by, among those of its receiver; equal to itself only."""

    __slots__ = ("__weakref__", "hashed", "value")

    def __init__(self, value: object, hashed: int) -> None:
        self.value = value
        self.hashed = hashed  # the value's hash


class _Known(weakref.ref[LaneId]):
    """An id that is in a bucket."""

    __slots__ = ("bucket",)
    bucket: "Bucket"


class Bucket:
    """The ids of one receiver whose values have one hash."""

    __slots__ = ("ids", "key", "table")

    def __init__(self, table: "LaneIds", key: Hashable, first: LaneId) -> None:
        self.table = table
        self.key = key
        self.ids: AtomicReference[tuple[_Known, ...]] = AtomicReference((self._know(first),))

    def find(self, mine: LaneId) -> LaneId | None:
        """The id of an equal value, else ``mine``; ``None``: the bucket is not in use any more."""
        while ids := self.ids.get():
            living: list[_Known] = []
            for known in ids:
                if (found := known()) is not None:
                    if found.value is mine.value or found.value == mine.value:
                        return found
                    living.append(known)
            if self.ids.compare_and_set(ids, (*living, self._know(mine))):
                return mine
        self._leave()
        return None

    def drop(self, dead: _Known) -> None:
        """Take out an id that is dead; repeated, it does no harm."""
        while dead in (ids := self.ids.get()):
            self.ids.compare_and_set(ids, tuple(known for known in ids if known is not dead))
        if not ids:
            self._leave()

    def _know(self, lane_id: LaneId) -> _Known:
        known = _Known(lane_id, _on_death)
        known.bucket = self
        return known

    def _leave(self) -> None:
        self.table.pop(IdentityKey(self.key), None)


LaneIds = dict[Hashable, Bucket]


def find(ids: LaneIds, of: Hashable, mine: LaneId) -> LaneId:
    """What the lane is known by that belongs to the receiver ``of`` and the value of ``mine``.

    That is ``mine``, unless there is one for an equal value. Raises what ``==`` of these raises.
    """
    while True:
        key = (of, mine.hashed)
        bucket = ids.get(key)
        if bucket is None:
            bucket = Bucket(ids, key, mine)
            if ids.setdefault(key, bucket) is bucket:
                return mine
        elif (found := bucket.find(mine)) is not None:
            return found


# Bound now: while the interpreter ends, module globals go before the last deliveries do.
def _on_death(dead: _Known, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
    if not _ending():
        dead.bucket.drop(dead)
