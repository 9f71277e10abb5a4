"""Models of ``ordered=key``: the lane of a value begins, or ends, while others come to it."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any

from stress.models.explore import Model, Mutant, at_once, replaced, require
from stress.models.pool import END, Busy, Ordered, at_rest, named_signal
from tsignals._base.atomic import AtomicReference, Version
from tsignals._pool import lane_ids
from tsignals._pool.lane_ids import Bucket, LaneId, LaneIds


class Value:
    """One of several whose hashes are equal."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.number == other.number


# -- Two senders come; one comes while a lane ends: the ids alone, then all of it --


class Ids:
    """The ids of one receiver's lanes in a pool."""

    def __init__(self) -> None:
        self.table: LaneIds = {}

    def find(self, number: int) -> LaneId:
        """What a sender finds."""
        return lane_ids.find(self.table, 1, LaneId(Value(number), 0))

    def require_same(self, found: LaneId, number: int) -> None:
        """Who comes later finds the same."""
        require(self.find(number) is found, f"there are two ids for {number}")

    def require_nothing(self) -> None:
        require(not self.table, f"an id is left: {self.table}")


def key_join_join() -> None:
    """Two senders of one value, of which there was none, find one id."""
    ids = Ids()
    _join_join(ids)
    ids.require_nothing()


def key_join_join_beside() -> None:
    """So they do where there is another value of that hash."""
    ids = Ids()
    other = ids.find(0)
    _join_join(ids)
    ids.require_same(other, 0)


def _join_join(ids: Ids) -> None:
    found = list[LaneId]()
    at_once(lambda: found.append(ids.find(1)), lambda: found.append(ids.find(1)))
    require(found[0] is found[1], "each has an id of its own")
    ids.require_same(found[0], 1)
    found.clear()


def key_end_join() -> str:
    """A lane's id goes while a sender of its value comes."""
    return _end_join(1, 1)


def key_end_join_beside() -> str:
    """Or of another value of that hash."""
    return _end_join(1, 2)


def _end_join(ends: int, comes: int) -> str:
    ids, found = Ids(), list[LaneId]()
    held = [ids.find(ends)]
    before = id(held[0])
    at_once(held.clear, lambda: found.append(ids.find(comes)))
    ids.require_same(found[0], comes)
    same = ends == comes and id(found[0]) == before
    found.clear()
    ids.require_nothing()
    return "it came in time" if same else "it came too late"


def key_end_end() -> None:
    """Two ids of one hash go at once."""
    ids = Ids()
    one, other = [ids.find(1)], [ids.find(2)]
    at_once(one.clear, other.clear)
    ids.require_nothing()


def key_lane_end_join() -> None:
    """A value's last delivery ends while the next one comes: one at a time, and nothing is left."""
    pool = Busy()
    signal, receiver = named_signal(pool), Ordered()
    signal.connect(receiver, ordered=_key)
    signal.send_async(None, number=1)
    pool.let_go()
    at_once(lambda: signal.send_async(None, number=2))
    pool.shutdown()
    require(receiver.heard == [1, 2], f"it heard {receiver.heard}")
    at_rest(pool)
    require(not pool._core.backlog.lanes, "a lane is left")
    require(not pool._core.backlog.lane_ids, "the id of a lane is left")


def _key(**named: object) -> Hashable:
    return Value(0)


# -- Mutants --


def wrong(owner: Any, name: str, by: Any) -> Callable[[], AbstractContextManager[None]]:
    return lambda: replaced(owner, name, by)


def set_blindly(self: AtomicReference[Any], expected: Any, value: Any) -> bool:
    """Put a value in place whatever came before it."""
    following = Version(value)
    self.latest.successors[:] = [following]
    self.latest = following
    return True


def find_looking_first(ids: Any, of: Hashable, mine: LaneId) -> LaneId:
    """See that there is no such bucket, and then put one there."""
    key = (of, mine.hashed)
    bucket = ids.get(key)
    found = None if bucket is None else bucket.find(mine)
    if found is None:
        ids[key] = Bucket(ids, key, mine)
        return mine
    return found  # type: ignore[no-any-return]


def leave_by_value(self: Bucket) -> None:
    """Take out whatever is there under an equal key."""
    self.table.pop(self.key, None)


def keep_the_dead(self: Bucket, dead: object) -> None:
    """Take no id out."""


BLIND = Mutant("set blindly", wrong(AtomicReference, "compare_and_set", set_blindly))
LOOK = Mutant("look, then put", wrong(lane_ids, "find", find_looking_first))
LEAVE = Mutant("leave by an equal key", wrong(Bucket, "_leave", leave_by_value))
KEEP = Mutant("keep the dead", wrong(Bucket, "drop", keep_the_dead), races=False)

MODELS = (
    Model("key lane: join/join", key_join_join, (LOOK,)),
    Model("key lane: join/join beside another", key_join_join_beside, (BLIND,)),
    Model(
        "key lane: end/join", key_end_join, (LEAVE, KEEP), ("it came in time", "it came too late")
    ),
    Model("key lane: end/join of another", key_end_join_beside, (BLIND,), ("it came too late",)),
    Model("key lane: end/end", key_end_end, (BLIND,)),
    Model("key lane: complete/send", key_lane_end_join, (KEEP, END)),
)
