"""What can be told of instances before their flush: who is an orphan, what comes first.

All of it is asked without loading anything, as the flush itself does.
"""

import contextlib
import weakref
from collections import ChainMap
from collections.abc import Iterable, Iterator

from sqlalchemy.exc import CircularDependencyError
from sqlalchemy.orm import InstanceState, Mapper, PassiveFlag, RelationshipProperty
from sqlalchemy.orm.attributes import get_history, has_parent, instance_state
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.orm.interfaces import RelationshipDirection
from sqlalchemy.schema import Table
from sqlalchemy.util import topological

from tsignals import Signal
from tsignals.observing import is_captured

State = InstanceState[object]
Relationships = tuple[RelationshipProperty[object], ...]

AS_A_FLUSH = PassiveFlag.PASSIVE_NO_INITIALIZE
"""How a flush looks at a collection."""
if hasattr(PassiveFlag, "INCLUDE_PENDING_MUTATIONS"):  # not in the first releases of SQLAlchemy 2
    AS_A_FLUSH |= PassiveFlag.INCLUDE_PENDING_MUTATIONS


class Hearing(dict[type, bool]):
    """``hearing[cls]``: whether anybody hears a signal from that class; asked once for each."""

    __slots__ = ("captured", "signal")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.captured = is_captured(signal)

    def __missing__(self, sender: type) -> bool:
        self[sender] = found = self.captured or self.signal.has_listeners(sender)
        return found


def is_heard(one: Signal, other: Signal) -> bool:
    """Whether anybody hears one of these."""
    heard = one.receivers or other.receivers
    return bool(heard) or is_captured(one) or is_captured(other)


def keys_of(new: Iterable[object], dirty: Iterable[object]) -> dict[State, object]:
    """The identity keys that new instances will have, as far as they are known.

    What a relationship refers to gives some of their columns, which the flush copies.
    """
    copies = Copies()
    for parent in (*dirty, *new):
        for one, child in taken_in(parent):
            copies.note(child, one, parent)
    for instance in new:
        state = instance_state(instance)
        for one in state.mapper.relationships:
            if one.direction is RelationshipDirection.MANYTOONE and not one.viewonly:
                for parent in get_history(instance, one.key, AS_A_FLUSH).added or ():
                    if parent is not None:
                        copies.note(state, one, parent)
    copied = copies.made()
    keys: dict[State, object] = {}
    for instance in new:
        state = instance_state(instance)
        mapper = state.mapper
        own, found = mapper.primary_key_from_instance(instance), copied.get(state, {})
        # What is copied replaces what the instance had: a key of an earlier try, say.
        values = (found.get(n, v) for n, v in zip(key_names(mapper), own, strict=True))
        keys[state] = mapper.identity_key_from_primary_key(tuple(values))
    return keys


def taken_in(parent: object) -> Iterator[tuple[RelationshipProperty[object], State]]:
    """What was put into the collections of ``parent``, and in which.

    A flush saves that, though it was asked to delete it, as long as ``parent`` is saved itself.
    """
    for one in instance_state(parent).mapper.relationships:
        if one.direction is RelationshipDirection.ONETOMANY and not one.viewonly:
            for child in get_history(parent, one.key, AS_A_FLUSH).added or ():
                if child is not None:
                    yield one, instance_state(child)


def key_names(mapper: Mapper[object]) -> list[str]:
    """The attributes of the primary key."""
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]


class Copies:
    """What a flush copies to the keys of instances."""

    def __init__(self) -> None:
        # To which attribute, from whom, from which of that one's.
        self._givers: dict[State, list[tuple[str, State, str]]] = {}
        self._pairs: dict[object, list[tuple[str, str]]] = {}

    def note(
        self, state: State, relationship: RelationshipProperty[object], source: object
    ) -> None:
        """``source`` gives columns to an instance, as the relationship joins them."""
        giver = instance_state(source)
        kind = relationship, state.mapper, giver.mapper
        if kind not in self._pairs:
            self._pairs[kind] = _joined(*kind)
        for to, of in self._pairs[kind]:
            self._givers.setdefault(state, []).append((to, giver, of))

    def made(self) -> dict[State, dict[str, object]]:
        """The values, by attribute. Who gives may have been given that itself."""
        found: dict[State, dict[str, object]] = {}
        seen: set[State] = set()
        left = list(self._givers)
        while left:
            state = left[-1]
            givers = self._givers[state]
            if state not in seen:  # first those that give; in a circle nobody is first
                seen.add(state)
                left += [one for _, one, _ in givers if one in self._givers and one not in seen]
                continue
            left.pop()
            if state not in found:
                found[state] = {
                    to: ChainMap(found.get(one, {}), one.dict, _from_key(one)).get(of)
                    for to, one, of in givers
                }
        return found


def _joined(
    relationship: RelationshipProperty[object], taker: Mapper[object], giver: Mapper[object]
) -> list[tuple[str, str]]:
    """Attributes of the key, and those of the giver that they are copied from."""
    names, pairs = key_names(taker), []
    for column, to in relationship.synchronize_pairs:
        with contextlib.suppress(UnmappedColumnError):  # of a table that is not its own
            name = taker.get_property_by_column(to).key
            if name in names:
                pairs.append((name, giver.get_property_by_column(column).key))
    return pairs


def _from_key(state: State) -> dict[str, object]:
    """An expired instance has nothing else."""
    if state.key is None:
        return {}
    return dict(zip(key_names(state.mapper), state.key[1], strict=True))


def is_orphan(state: State) -> bool:
    """Whether an instance that must have a parent has none: the flush deletes it."""
    return state.key is not None and bool(state.mapper._is_orphan(state))


def is_let_go(state: State) -> bool:
    """Whether the flush will expunge a new instance: its parent has let it go."""
    return (
        state.key is None
        and bool(state.mapper._is_orphan(state))
        and bool(getattr(state, "_orphaned_outside_of_session", False))
    )


# Of each mapper, the relationships that delete what they lose. They are fixed once it is used.
_cascading: "weakref.WeakKeyDictionary[Mapper[object], Relationships]" = weakref.WeakKeyDictionary()


def may_orphan(parent: object) -> Relationships:
    """The relationships of ``parent`` whose instances are deleted when it lets them go."""
    mapper = instance_state(parent).mapper
    relationships = _cascading.get(mapper)
    if relationships is None:
        relationships = _cascading[mapper] = tuple(
            one for one in mapper.relationships if one.cascade.delete_orphan and not one.viewonly
        )
    return relationships


def lost_by(parent: object, is_deleted: bool) -> Iterator[tuple[State, object]]:
    """What the flush deletes because ``parent`` has let it go, or is deleted itself.

    Of new instances, which a parent has had since before a rollback: what it does not insert.
    """
    for relationship in may_orphan(parent):
        name, owner = relationship.key, relationship.parent.class_
        if is_deleted and relationship.direction is RelationshipDirection.MANYTOMANY:
            continue  # a flush looks there only if the parent is saved
        history = get_history(parent, name, AS_A_FLUSH)
        whole = is_deleted and relationship.direction is RelationshipDirection.MANYTOONE
        for child in history.sum() if whole else history.deleted or ():
            if child is None:
                continue
            if not whole and has_parent(owner, child, name):
                continue
            state = instance_state(child)
            yield state, child
            if whole or not is_deleted:  # else a flush goes no further
                for one, _, below, _ in state.mapper.cascade_iterator("delete", state):
                    yield below, one


def by_key(states: list[State]) -> list[State]:
    """By primary key, as the unit of work does; a session's own order is that of a set."""
    if len(states) < 2:
        return states
    try:
        return sorted(states, key=lambda state: state.key[1])  # type: ignore[index]
    except TypeError:  # not comparable
        return states


def by_table(states: list[State], sign: int = 1) -> list[State]:
    """Those whose tables others refer to first, or last (-1)."""
    # Rows of classes that inherit are written together.
    bases = list(dict.fromkeys(state.mapper.base_mapper for state in states))
    if len(bases) < 2:
        return states
    pairs = {pair for pair in _written_first(states) if pair[0] in bases and pair[1] in bases}
    try:
        ordered = list(topological.sort(pairs, bases))
    except CircularDependencyError as error:
        pairs = {pair for pair in pairs if not error.cycles.issuperset(pair)}
        ordered = list(topological.sort(pairs, bases))
    ranks = {base: rank for rank, base in enumerate(ordered)}
    return sorted(states, key=lambda state: sign * ranks[state.mapper.base_mapper])


def _written_first(states: list[State]) -> set[tuple[Mapper[object], Mapper[object]]]:
    """Pairs of mappers: one to be written before the other, as the unit of work does it."""
    mappers = dict.fromkeys(state.mapper for state in states)
    tables = {table: mapper.base_mapper for mapper in mappers for table in mapper.tables}
    pairs: set[tuple[Mapper[object], Mapper[object]]] = set()
    for mapper in mappers:
        for one in mapper.relationships:
            if not one.viewonly and not one.post_update:
                base, other = mapper.base_mapper, one.mapper.base_mapper
                if other is base:
                    continue
                if one.direction is RelationshipDirection.MANYTOONE:
                    pairs.add((other, base))
                elif one.direction is RelationshipDirection.ONETOMANY:
                    pairs.add((base, other))
    # It does not look at foreign keys that have no relationship. Rows must refer to what is there.
    for table, base in tables.items():
        if isinstance(table, Table):
            for constraint in table.foreign_key_constraints:
                referred = tables.get(constraint.referred_table)
                if referred not in (None, base) and (base, referred) not in pairs:
                    pairs.add((referred, base))
    return pairs
