"""What one flush changes, and its signals.

Order of events, all on the thread that flushes:

    before_flush          pre_* until no receiver makes anything new; then it is fixed what counts
    after_insert ...      the mappers tell what they write, in the order in which they write it
    after_flush_postexec  post_*: the saves in that order, then the deletes

Invariants
    F1  A flush is announced once, whoever hears of it: its record is in ``context.attributes``,
        which lives as long as the flush, and who finds one there does nothing.
    F2  ``_records`` finds the record for the mappers; it holds it weakly, so a flush that fails
        leaves nothing behind.
    F3  Nothing is asked of an instance whose class nobody listens to, but for orphans: what
        they are is seen at their parents.

Why not ``after_flush``: SQLAlchemy discards what receivers change there. Why the mappers: a
session only knows what it was told to delete, not what a cascade deletes within the flush.
"""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    PassiveFlag,
    Session,
    UOWTransaction,
    attributes,
)
from sqlalchemy.orm.exc import FlushError
from sqlalchemy.schema import sort_tables_and_constraints

from tsignals import Signal
from tsignals.sqlalchemy._signals import post_delete, post_save, pre_delete, pre_save, send

State = InstanceState[Any]

LIMIT = 100
"""Rounds of ``pre_*``: as many as SQLAlchemy allows for flushes that make each other necessary."""
KEY = "tsignals.flush"

_records: "weakref.WeakValueDictionary[int, Flush]" = weakref.WeakValueDictionary()  # F2


def before(session: Session, context: UOWTransaction, instances: Any) -> None:
    if KEY in context.attributes:
        return  # F1
    context.attributes[KEY] = None
    if not (pre_save.receivers or pre_delete.receivers or _anybody_after()):
        return
    flush = Flush(session, instances)
    flush.announce()
    if _anybody_after():
        flush.fix()
        context.attributes[KEY] = flush
        _records[session.hash_key] = flush


def after(session: Session, context: UOWTransaction) -> None:
    flush = context.attributes.get(KEY)
    if flush is None:
        return
    context.attributes[KEY] = None  # F1
    for instance, created in flush.saved:
        send(post_save, type(instance), instance=instance, session=session, created=created)
    for instance in flush.deleted:
        send(post_delete, type(instance), instance=instance, session=session)


def _anybody_after() -> bool:
    return bool(post_save.receivers or post_delete.receivers)


class Flush:
    """The record of one flush."""

    def __init__(self, session: Session, instances: Any) -> None:
        self.session = session
        self.only = {id(instance) for instance in instances} if instances else None
        self.announced: set[tuple[Signal, State]] = set()
        self.modified: set[State] = set()  # those whose update counts
        self.switched: set[State] = set()  # those that are new and will be updates
        self.saved: list[tuple[Any, bool]] = []
        self.deleted: list[Any] = []
        self.save_heard = _Hearing(post_save)
        self.delete_heard = _Hearing(post_delete)

    def announce(self) -> None:
        """Send ``pre_*`` for every change, and for those that receivers make."""
        for _ in range(LIMIT):
            called: list[Any] = []
            again = False
            for signal, changes in ((pre_save, self.saves), (pre_delete, self.deletes)):
                if not signal.receivers:
                    continue
                for state, named in list(changes(signal)):
                    if (signal, state) in self.announced:
                        continue
                    self.announced.add((signal, state))
                    again = True
                    instance: Any = state.obj()
                    pairs = send(
                        signal, type(instance), instance=instance, session=self.session, **named
                    )
                    called += [receiver for receiver, _ in pairs if receiver not in called]
            if not again:
                return
        raise FlushError(
            f"cannot flush: after {LIMIT} rounds of pre_save and pre_delete their receivers still "
            f"make new changes; the last to run: {', '.join(map(_name, called))}. A receiver that "
            "adds an instance must not do so for the instances that it adds"
        )

    def fix(self) -> None:
        """Decide what the signals after the flush are about."""
        for state, _ in self.saves(post_save):
            if state.key is not None:
                self.modified.add(state)

    def saves(self, signal: Signal) -> Iterator[tuple[State, dict[str, Any]]]:
        """What will be written, of the classes that ``signal`` is heard from; in order."""
        session = self.session
        hears = _Hearing(signal)
        states = [_state(one) for one in self._own(session.new) if type(one) in hears]
        modified = [
            _state(one)
            for one in self._own(session.dirty)
            if type(one) in hears and session.is_modified(one, include_collections=False)
        ]
        if not states and not modified:
            return
        states += _by_key(modified)
        doomed = self._doomed()
        gone = {state.key for state in doomed}
        for state in _by_table(states):
            if state in doomed or _is_let_go(state):
                continue
            created = state.key is None
            # Deleting one and adding another with its key is one update.
            if created and gone and _key(state) in gone:
                created = False
                self.switched.add(state)
            yield state, {"created": created}

    def deletes(self, signal: Signal) -> Iterator[tuple[State, dict[str, Any]]]:
        """What will be deleted, orphans included; in order."""
        hears = _Hearing(signal)
        doomed = self._doomed()
        states = [state for state in doomed if type(state.obj()) in hears]
        if not states:
            return
        new = {_key(_state(one)) for one in self._own(self.session.new)}
        for state in _by_table(_by_key(states), sign=-1):
            if state.key not in new:
                yield state, {}

    def _own(self, instances: Iterable[Any]) -> Iterable[Any]:
        only = self.only
        if only is None:
            return instances
        return [instance for instance in instances if id(instance) in only]

    def _doomed(self) -> dict[State, None]:
        """What will be deleted, by the program or as an orphan."""
        session = self.session
        found = {_state(one): None for one in self._own(session.deleted)}
        for instance in (*self._own(session.dirty), *self._own(session.new)):
            state = _state(instance)
            if state.key is not None and _is_orphan(state):
                found[state] = None
            for relationship in state.mapper.relationships:
                if relationship.cascade.delete_orphan and not relationship.viewonly:
                    for child in _orphans(instance, relationship):
                        found[child] = None
                        for _, _, below, _ in child.mapper.cascade_iterator("delete", child):
                            if below.key is not None:
                                found[below] = None
        return found


# What the mappers tell. They do so for every session of the process.


def _after_insert(mapper: Any, connection: Any, state: State) -> None:
    flush = _records.get(state.session_id)  # type: ignore[arg-type]
    if flush is not None and type(instance := state.obj()) in flush.save_heard:
        flush.saved.append((instance, state not in flush.switched))


def _after_update(mapper: Any, connection: Any, state: State) -> None:
    flush = _records.get(state.session_id)  # type: ignore[arg-type]
    if flush is not None and (state in flush.modified or state in flush.switched):
        flush.saved.append((state.obj(), False))


def _after_delete(mapper: Any, connection: Any, state: State) -> None:
    flush = _records.get(state.session_id)  # type: ignore[arg-type]
    if flush is not None and type(instance := state.obj()) in flush.delete_heard:
        flush.deleted.append(instance)


event.listen(Mapper, "after_insert", _after_insert, raw=True)
event.listen(Mapper, "after_update", _after_update, raw=True)
event.listen(Mapper, "after_delete", _after_delete, raw=True)


class _Hearing(dict[type, bool]):
    """Whether anybody hears a signal from a class; asked once for each. ``cls in hearing``."""

    def __init__(self, signal: Signal) -> None:
        super().__init__()
        self.signal = signal

    def __missing__(self, sender: type) -> bool:
        self[sender] = found = self.signal.has_listeners(sender)
        return found

    def __contains__(self, sender: object) -> bool:
        return self[sender]  # type: ignore[index]


def _state(instance: Any) -> State:
    return attributes.instance_state(instance)


def _key(state: State) -> Any:
    """The identity key that a new instance will have, as far as that is known."""
    return state.mapper.identity_key_from_instance(state.obj())


def _is_orphan(state: State) -> bool:
    return bool(state.mapper._is_orphan(state))


def _is_let_go(state: State) -> bool:
    """Whether the flush will expunge a new instance: its parent has let it go."""
    if state.key is not None or not _is_orphan(state):
        return False
    return bool(getattr(state, "_orphaned_outside_of_session", False))


def _orphans(parent: Any, relationship: Any) -> Iterator[State]:
    """What ``parent`` had and nobody has now: the flush deletes it."""
    # As the flush looks: without loading what is not loaded.
    passive = PassiveFlag.PASSIVE_NO_INITIALIZE | PassiveFlag.INCLUDE_PENDING_MUTATIONS
    history = attributes.get_history(parent, relationship.key, passive)
    for child in history.deleted or ():
        if child is None:
            continue
        state = _state(child)
        owner = relationship.parent.class_
        if state.key is not None and not attributes.has_parent(owner, child, relationship.key):
            yield state


def _by_key(states: list[State]) -> list[State]:
    """By primary key, as the unit of work does; a session's own order is that of a set."""
    try:
        return sorted(states, key=lambda state: state.key[1])  # type: ignore[index]
    except TypeError:  # not comparable
        return states


def _by_table(states: list[State], sign: int = 1) -> list[State]:
    """Those whose tables others refer to first, or last (-1); else the order stays."""
    tables = {state.mapper.local_table: None for state in states}
    if len(tables) < 2:
        return states
    sort: Any = sort_tables_and_constraints
    ranks = {table: rank for rank, (table, _) in enumerate(sort(tables))}
    return sorted(states, key=lambda state: sign * ranks.get(state.mapper.local_table, 0))


def _name(receiver: Any) -> str:
    name = getattr(receiver, "__qualname__", None) or repr(receiver)
    return f"{getattr(receiver, '__module__', None) or '?'}.{name}"
