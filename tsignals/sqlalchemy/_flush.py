"""What one flush changes, and its signals.

Order of events, all on the thread that flushes:

    before_flush          pre_* until no receiver makes anything new; then it is fixed what counts
    after_insert ...      the mappers tell what they write, in the order in which they write it
    after_flush_postexec  post_*: the saves in that order, then the deletes

Invariants
    F1  A flush is announced once, whoever hears of it: its record is in ``context.attributes``,
        which lives as long as the flush, and who finds one there does nothing.
    F2  ``_records`` finds the record for the mappers. It holds it weakly: that of a flush that
        fails goes with the flush, and its reference with it (``_forget``).
    F3  Nothing is asked of an instance whose class nobody listens to, but for orphans: what
        they are is seen at their parents.

Why not ``after_flush``: SQLAlchemy discards what receivers change there. Why the mappers: a
session only knows what it was told to delete, not what a cascade deletes within the flush.
"""

import itertools
import weakref
from collections.abc import Callable, Iterable

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session, UOWTransaction
from sqlalchemy.orm.attributes import instance_state as _state
from sqlalchemy.orm.exc import FlushError

from tsignals import Signal
from tsignals.observing import receiver_name
from tsignals.sqlalchemy._changes import (
    Hearing,
    State,
    by_key,
    by_table,
    is_heard,
    is_let_go,
    is_orphan,
    keys_of,
    lost_by,
    may_orphan,
    taken_in,
)
from tsignals.sqlalchemy._signals import post_delete, post_save, pre_delete, pre_save, sends

LIMIT = 100
"""Rounds of ``pre_*``: as many as SQLAlchemy allows for flushes that make each other necessary."""
KEY = "tsignals.flush"

Changes = list[tuple[State, object, dict[str, bool]]]
"""States, with their instances, which nobody else may hold, and values that are sent."""
Instances = Iterable[object] | None
"""What a flush is of; ``None``: all that the session has."""

# By ``session.hash_key`` (F2). No WeakValueDictionary: that costs as much as all else here.
_records: "dict[int, weakref.ref[Flush]]" = {}


def before(session: Session, context: UOWTransaction, instances: Instances) -> None:
    if KEY in context.attributes:
        return  # F1
    context.attributes[KEY] = None
    flush: Flush | None = None
    if is_heard(pre_save, pre_delete):
        flush = Flush(session, instances)
        flush.announce()
    # Asked only now: a receiver may have connected one.
    if is_heard(post_save, post_delete):
        flush = flush or Flush(session, instances)
        flush.fix()
        context.attributes[KEY] = flush
        _records[session.hash_key] = weakref.ref(flush, _forget)


def after(session: Session, context: UOWTransaction) -> None:
    flush = context.attributes.get(KEY)
    if flush is None:
        return
    context.attributes[KEY] = None  # F1
    _records.pop(session.hash_key, None)
    if flush.saved:
        send = sends(post_save)
        for instance, created in flush.saved:
            send(type(instance), instance=instance, session=session, created=created)
    if flush.deleted:
        heard, send = Hearing(post_delete), sends(post_delete)
        for instance in flush.deleted:
            if heard[type(instance)]:
                send(type(instance), instance=instance, session=session)


def _forget(reference: "weakref.ref[Flush]") -> None:
    """Take out the reference to a flush that never came to its end; of others it is gone first."""
    for key, found in list(_records.items()):
        if found is reference and (gone := _records.pop(key, found)) is not found:
            _records.setdefault(key, gone)  # the session flushes again, just now


def _without_end(called: list[object]) -> FlushError:
    last = ", ".join(dict.fromkeys(map(receiver_name, called)))
    return FlushError(
        f"cannot flush: after {LIMIT} rounds of pre_save and pre_delete their receivers still make "
        f"new changes; the last to run: {last}. A receiver that adds an instance must not do so "
        "for the instances that it adds"
    )


class Flush:
    """The record of one flush."""

    __slots__ = (
        "__weakref__",
        "deleted",
        "modified",
        "only",
        "save_heard",
        "saved",
        "session",
        "switched",
    )

    def __init__(self, session: Session, instances: Instances) -> None:
        self.session = session
        self.only = {id(instance) for instance in instances} if instances else None
        self.modified: set[State] = set()  # those whose update counts
        self.switched: set[State] = set()  # those that are new and will be updates
        self.saved: list[tuple[object, bool]] = []
        self.deleted: list[object] = []
        self.save_heard = Hearing(post_save)

    def announce(self) -> None:
        """Send ``pre_*`` for every change, and for those that receivers make."""
        announced: dict[tuple[Signal, State], object] = {}  # what is gone would be loaded anew
        called: list[object] = []
        for rounds in itertools.count():
            before, called = called, []
            again = False
            for signal, changes in ((pre_save, self.saves), (pre_delete, self.deletes)):
                send = sends(signal)
                for state, instance, named in changes(Hearing(signal)):
                    if (signal, state) in announced:
                        continue
                    if called and not self._is_left(signal, state, instance):
                        continue
                    if rounds == LIMIT:
                        raise _without_end(before)
                    announced[signal, state] = instance
                    again = True
                    pairs = send(type(instance), instance=instance, session=self.session, **named)
                    called += [receiver for receiver, _ in pairs]
            if not again:
                return

    def _is_left(self, signal: Signal, state: State, instance: object) -> bool:
        """Whether a receiver of this round has not taken it out, or taken its change back."""
        session = self.session
        if instance not in session:
            return False
        return (
            signal is not pre_save
            or state.key is None
            or session.is_modified(instance, include_collections=False)
        )

    def fix(self) -> None:
        """Decide what the signals after the flush are about."""
        session = self.session
        # Nothing but new instances, as often: of these the mappers tell all.
        if not (
            session.identity_map.check_modified()
            or session.deleted
            or any(map(may_orphan, session.new))
        ):
            return
        for state, _, named in self.saves(self.save_heard):
            if state.key is not None:
                self.modified.add(state)
            elif not named["created"]:
                self.switched.add(state)

    def saves(self, heard: Hearing) -> Changes:
        """What will be written, of the classes that are heard; in order, with its values."""
        session = self.session
        new, dirty = self._own(session.new), self._own(session.dirty)
        deleted = self._own(session.deleted)
        states = [_state(one) for one in new if heard[type(one)]]
        modified = [
            _state(one)
            for one in (*dirty, *deleted)  # of which the flush may save some: see _doomed
            if heard[type(one)] and session.is_modified(one, include_collections=False)
        ]
        if not states and not modified:
            return []
        doomed = self._doomed(new, dirty)
        gone = {state.key for state in doomed if state.key is not None}
        keys = keys_of(new, dirty) if gone else {}
        found: Changes = []
        for state in by_table(states + by_key(modified)):
            if state in doomed or is_let_go(state):
                continue
            # Deleting one and adding another with its key is one update.
            created = state.key is None and keys.get(state) not in gone
            found.append((state, state.obj(), {"created": created}))
        return found

    def deletes(self, heard: Hearing) -> Changes:
        """What will be deleted, orphans included; in order."""
        new, dirty = self._own(self.session.new), self._own(self.session.dirty)
        doomed = self._doomed(new, dirty)
        states = [
            state
            for state, instance in doomed.items()
            if state.key is not None and heard[type(instance)]
        ]
        if not states:
            return []
        added = set(keys_of(new, dirty).values())
        ordered = by_table(by_key(states), sign=-1)
        return [(state, doomed[state], {}) for state in ordered if state.key not in added]

    def _own(self, instances: Iterable[object]) -> Iterable[object]:
        only = self.only
        if only is None:
            return instances
        return [instance for instance in instances if id(instance) in only]

    def _doomed(self, new: Iterable[object], dirty: Iterable[object]) -> dict[State, object]:
        """What will be deleted, by the program or as an orphan; held, for no session does that.

        And what is new, without a key, and will not be inserted: a parent has let it go.
        """
        session = self.session
        asked_for = {_state(one): one for one in self._own(session.deleted)}
        found = dict(asked_for)
        for instance in dirty:
            if is_orphan(state := _state(instance)):
                found[state] = instance
        for instance in (*dirty, *new) if asked_for else ():
            if _state(instance) not in found:
                for _, child in taken_in(instance):
                    if child in asked_for:  # not for an orphan: what becomes of that is undecided
                        found.pop(child, None)
        parents = [*dirty, *new, *asked_for.values()]
        for parent in parents:  # which grows
            for state, instance in lost_by(parent, _state(parent) in found):
                # Else an earlier flush has deleted it, or it was taken out, or is spared.
                if state not in found and state not in asked_for and instance in session:
                    found[state] = instance
                    parents.append(instance)
        return found


# What the mappers tell. They do so for every session of the process.


def _after_insert(mapper: object, connection: object, state: State) -> None:
    if not _records or (flush := _flush_of(state)) is None:
        return
    instance = state.obj()
    if flush.save_heard[type(instance)]:
        flush.saved.append((instance, state not in flush.switched))


def _after_update(mapper: object, connection: object, state: State) -> None:
    if not _records or (flush := _flush_of(state)) is None:
        return
    # Without a key: a new one, in place of another that was deleted.
    if state in flush.modified or (state.key is None and flush.save_heard[type(state.obj())]):
        flush.saved.append((state.obj(), False))


def _after_delete(mapper: object, connection: object, state: State) -> None:
    if not _records or (flush := _flush_of(state)) is None:
        return
    if state.key is None:  # never inserted: SQLAlchemy tells of it all the same
        return
    flush.deleted.append(state.obj())


def _flush_of(state: State) -> Flush | None:
    reference = _records.get(state.session_id)  # type: ignore[arg-type]
    return None if reference is None else reference()


# retval: SQLAlchemy calls them without a function of its own in between; it ignores the value.
LISTENERS: tuple[tuple[object, str, Callable[..., None], dict[str, bool]], ...] = (
    (Mapper, "after_insert", _after_insert, {"raw": True, "retval": True}),
    (Mapper, "after_update", _after_update, {"raw": True, "retval": True}),
    (Mapper, "after_delete", _after_delete, {"raw": True, "retval": True}),
)
for _target, _event, _function, _arguments in LISTENERS:
    event.listen(_target, _event, _function, **_arguments)
