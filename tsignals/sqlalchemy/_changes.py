"""What can be told of instances before their flush: who is an orphan, what comes first.

All of it is asked without loading anything, as the flush itself does.
"""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.orm import InstanceState, Mapper, PassiveFlag
from sqlalchemy.orm.attributes import get_history, has_parent, instance_state
from sqlalchemy.schema import sort_tables_and_constraints

from tsignals import Signal

State = InstanceState[Any]

AS_A_FLUSH = PassiveFlag.PASSIVE_NO_INITIALIZE
"""How a flush looks at a collection."""
if hasattr(PassiveFlag, "INCLUDE_PENDING_MUTATIONS"):  # not in the first releases of SQLAlchemy 2
    AS_A_FLUSH |= PassiveFlag.INCLUDE_PENDING_MUTATIONS


class Hearing(dict[type, bool]):
    """``hearing[cls]``: whether anybody hears a signal from that class; asked once for each."""

    __slots__ = ("signal",)

    def __init__(self, signal: Signal) -> None:
        self.signal = signal

    def __missing__(self, sender: type) -> bool:
        self[sender] = found = self.signal.has_listeners(sender)
        return found


def key_of(state: State) -> Any:
    """The identity key that a new instance will have, as far as that is known."""
    return state.mapper.identity_key_from_instance(state.obj())


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
_cascading: "weakref.WeakKeyDictionary[Mapper[Any], tuple[Any, ...]]" = weakref.WeakKeyDictionary()


def may_orphan(parent: Any) -> tuple[Any, ...]:
    """The relationships of ``parent`` whose instances are deleted when it lets them go."""
    mapper: Mapper[Any] = instance_state(parent).mapper
    relationships = _cascading.get(mapper)
    if relationships is None:
        relationships = _cascading[mapper] = tuple(
            one for one in mapper.relationships if one.cascade.delete_orphan and not one.viewonly
        )
    return relationships


def orphans_of(parent: Any) -> Iterable[State]:
    """What ``parent`` had and nobody has now: the flush deletes it."""
    relationships = may_orphan(parent)
    return _lost(parent, relationships) if relationships else ()


def _lost(parent: Any, relationships: tuple[Any, ...]) -> Iterator[State]:
    for relationship in relationships:
        name, owner = relationship.key, relationship.parent.class_
        for child in get_history(parent, name, AS_A_FLUSH).deleted or ():
            if child is None:
                continue
            state = instance_state(child)
            if state.key is not None and not has_parent(owner, child, name):
                yield state


def by_key(states: list[State]) -> list[State]:
    """By primary key, as the unit of work does; a session's own order is that of a set."""
    if len(states) < 2:
        return states
    try:
        return sorted(states, key=lambda state: state.key[1])  # type: ignore[index]
    except TypeError:  # not comparable
        return states


def by_table(states: list[State], sign: int = 1) -> list[State]:
    """Those whose tables others refer to first, or last (-1); else the order stays."""
    if len(states) < 2:
        return states
    tables = {state.mapper.local_table: None for state in states}
    if len(tables) < 2:
        return states
    sort: Any = sort_tables_and_constraints
    ranks = {table: rank for rank, (table, _) in enumerate(sort(tables))}
    return sorted(states, key=lambda state: sign * ranks.get(state.mapper.local_table, 0))
