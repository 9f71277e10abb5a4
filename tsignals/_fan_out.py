"""One send's way through a pool, quickly: one entry in the queue for all of its deliveries.

That is for receivers that are called as they are, with no lane and no gate, in pools without
``around``. Whichever worker takes the entry puts it back for the next one, as long as there is more
than one delivery left, and then takes one delivery after the other. What these go through is what
``Workers.run`` does, written out: without a call but the receiver's, and counted in the worker's
own account (``_state``). What fails, or is waited for, is concluded the general way.

Nobody asks most deliveries anything while they wait or run. So they have no ``fate`` of their own:
whoever does ask (to cancel one, to run it, to be told of its end) makes it, in ``fates``, which
the first who asks appends to ``works``.

Invariants
    F1  A place leaves ``stack`` once, by ``pop``, and only a worker pops. Whoever has popped it
        runs the delivery, unless that is claimed, or the process was forked: it looks into
        ``fates`` afterwards. Whoever claims one enters its fate first and then looks whether its
        place is still in ``stack``; if so, the worker that pops it will find the fate, and the
        first mark there decides; if not, it is a worker's. Both look by an operation on ``stack``,
        which orders them with and without the GIL.
    F2  A worker that finds no fate stores the outcome, then the phase, and then looks for one
        again; who comes to be told enters and then looks at the phase. Between their two steps
        both change ``works``, which orders these, as in ``_future``.
    F3  A delivery stays in ``works`` until it is resolved and its callbacks have run, and a fan-out
        that was queued in ``unresolved`` as long as there is one. Of two who look whether any is
        left, the later sees what both have taken out: an operation on the list orders them.

As long as more than one is left, the entry is in the queue, or with a worker that has yet to put
it back. So none is left behind, also by a worker that stays in a slow receiver. No signal handler
runs in a worker, for these run in the main thread; in a child that a receiver has forked they may,
but there all futures are lost already.
"""

from collections.abc import Iterable
from contextvars import copy_context
from time import perf_counter
from types import FrameType
from typing import Any

from tsignals._call import BACKGROUND, Caller
from tsignals._critical import critical_while, foreign
from tsignals._delivery import Deliveries, Delivery, Message
from tsignals._engine import Engine
from tsignals._future import FINISHED, PENDING, RUNNING, Mark, Meeting
from tsignals._gate import enclosing
from tsignals._plan import Plan
from tsignals._receiver import Receiver
from tsignals._state import ADMITTED, FINISH, IDLE, START
from tsignals._work import Entry, Work

LEAVE_IDLE = START - IDLE
COMPLETE = FINISH["completed"]
COMPLETE_AND_IDLE = COMPLETE + IDLE


class PlainDelivery(Delivery):
    """One that shares what it can with the others of its send."""

    __slots__ = ("_place", "_taker")
    _sending: "FanOut"
    _place: int  # among them
    _taker: Mark  # the worker that has taken it without asking who else wants it

    # Filled in by fan_out, field by field: to have a constructor called takes longer than that.
    __init__ = object.__init__

    @property
    def _fate(self) -> list[Mark | Meeting]:
        sending = self._sending
        done = self.done()
        fate = None if done else sending.ask().setdefault(self._place, [])
        sending.works.extend(())  # F2
        if done and sending.fates is not None:  # nothing is decided there any more
            fate = sending.fates.get(self._place)
        return [] if fate is None else fate

    @_fate.setter
    def _fate(self, fate: list[Mark | Meeting]) -> None:
        self._sending.ask()[self._place] = fate

    @property
    def _owner(self) -> Mark | None:
        fates = self._sending.fates
        for entry in () if fates is None else fates.get(self._place, ()):
            if type(entry) is tuple:
                return entry
        taker: Mark | None = getattr(self, "_taker", None)
        return taker or (None if self._waits() else _SOMEBODY)

    def _waits(self) -> bool:
        """Whether no worker has taken it from the stack."""
        stack = self._sending.stack
        stack.extend(())  # F1
        first = stack[-1:]  # of those that are left
        return bool(first) and first[0] <= self._place

    def _claim(self, mark: Mark) -> bool:
        fate = self._fate
        if not self._waits():
            return False
        fate.append(mark)
        return fate[0] is mark or self._owner is mark

    def _contend(self, mark: Mark) -> bool:
        """Whether the worker that has taken it, and found a fate, owns it."""
        self._fate.append(mark)
        return self._owner is mark

    def _forget(self) -> None:
        self._sending.forget_if_last(self)

    def _leave(self, engine: Any) -> None:
        engine.unresolved.pop(self, None)
        sending, place = self._sending, self._place
        sending.works[place] = None
        fates, owner = sending.fates, self._owner
        if fates is not None and owner is not None and (meeting := self._met()) is not None:
            # It need not live as long as its siblings. Those who look through it see it to the end.
            if meeting.glances or meeting.waiters:
                meeting.callbacks.clear()
            else:
                fates[place] = [owner]
        sending.leave_if_over(engine)


_SOMEBODY: Mark = ("run", 0)
"""In place of the mark of a worker that has only just taken a delivery."""

_TAKING = object()
"""In place of a delivery, while a worker takes one."""


def taking(frame: FrameType) -> bool:
    """Whether a worker in ``_work_off`` has, perhaps, taken a delivery and not yet said so."""
    work = frame.f_locals.get("work")
    return work is _TAKING or (isinstance(work, Work) and work._owner is _SOMEBODY)


class Fates(dict[int, "list[Mark | Meeting]"]):
    """What has been asked about the deliveries of a fan-out, by place (F1, F2)."""

    __slots__ = ("last",)
    last: int  # no delivery of a later place is left

    def __bool__(self) -> bool:
        return False  # among the works it is none that is left


class FanOut(Message, Entry):
    """The deliveries of one send."""

    __slots__ = (
        "__weakref__",
        "call",
        "context",
        "fates",
        "named",
        "queued_at",
        "stack",
        "tell",
        "works",
    )
    call: Caller  # calls one receiver with what was sent; see _call.BACKGROUND
    fates: Fates | None  # None: nobody has asked
    stack: list[int]  # the places of those that no worker has taken, the first one last
    works: list[PlainDelivery | Fates | None]  # F3; by place

    __init__ = object.__init__  # as above

    def _mark_queued(self, now: float) -> None:
        self.queued_at = now

    def ask(self) -> Fates:
        """What somebody has asked about its deliveries, or may enter now."""
        fates = self.fates
        if fates is None:
            fates = Fates()
            fates.last = len(self.works)
            self.works.append(fates)
            # That of the first: all agree on it.
            fates = self.fates = next(w for w in self.works.copy() if isinstance(w, Fates))
        return fates

    def _futures(self) -> list[Work]:
        return [work for work in self.works.copy() if isinstance(work, Work)]

    def _oldest(self) -> Work | None:
        works: Iterable[Any] = filter(None, self.works)
        return next((work for work in works if work._owner is None), None)

    def _remains(self, engine: Engine) -> bool:
        # What nobody has asked about can only have been taken by a worker.
        return bool(self.stack) and (self.fates is None or self._oldest() is not None)

    def forget_if_last(self, last: PlainDelivery) -> None:
        """Where all others have ended, let go of what was sent: now the last one will."""
        if not self.stack and all(work is last or work.done() for work in self._futures()):
            self.let_go()

    def leave_if_over(self, engine: Engine) -> None:
        """Once all have ended, know nothing of the send: the entry may yet stay in the queue."""
        works, fates = self.works, self.fates
        works.extend(())  # F3
        if fates is not None:
            # Not all of them each time one ends: those behind this place have ended for ever.
            place = min(fates.last, len(works) - 1)
            while place >= 0 and not works[place]:
                place -= 1
            fates.last = place
            if place >= 0:
                return
        elif any(reversed(works)):  # these often end in their order
            return
        self.let_go()
        engine.unresolved.pop(self, None)

    @foreign
    def let_go(self) -> None:
        """Drop what was sent; its finalizers may call anything, also what waits."""
        self.named = self.context = None  # type: ignore[assignment]

    @critical_while(taking)
    def _work_off(self, worker: Any) -> None:
        engine, cell, accounts, mine, mark = worker
        account = accounts[mine]
        stack, works, call = self.stack, self.works, self.call
        work: Any = None
        result = error = node = fates = context = named = None
        idle = IDLE  # what the account has the worker as: idle, or not
        try:
            if shared := len(stack) > 1:
                engine.queue.put(self)
            while stack:
                work = _TAKING
                try:
                    place = stack.pop()
                except IndexError:  # another worker has taken the last
                    break
                work = works[place]
                if work is None:  # it has ended without having run
                    continue
                if (fates := self.fates) is None or place not in fates:
                    work._taker = mark
                elif not work._contend(mark):
                    continue

                account += LEAVE_IDLE if idle else START
                accounts[mine] = account  # from here on RUNNING says that it is counted so
                work._phase = RUNNING
                idle = 0
                node = cell.node
                if node[3] or not node[2]:  # somebody may wait for the room
                    engine.usher(cell)
                node = None  # to which all that come after are tied

                if engine.cell is not cell:  # a finalizer has forked: the parent runs it
                    break
                began = perf_counter()
                try:
                    context, named = self.context.copy(), self.named
                    result = call(context, named, work.receiver, work.signal, work.sender)
                except BaseException as raised:
                    error = raised
                    work._fail(self, began, raised, context, named)
                context = named = None
                if engine.cell is not cell:  # the receiver has forked: the future is the parent's
                    break

                fates = self.fates
                if last := not stack:  # let go of what was sent before it is done
                    if fates is not None:
                        self.forget_if_last(work)
                    elif works.count(None) == len(works) - 1:
                        self.let_go()
                if error is not None or (fates is not None and place in fates):
                    idle = IDLE if last else 0
                    engine.conclude(work, mark, int(last), cell, result, error)
                    error = result = None
                    continue
                work._result = result
                work._exception = result = None
                if last:
                    account += COMPLETE_AND_IDLE  # before it is done: see Workers.conclude
                    idle = IDLE
                else:
                    account += COMPLETE
                accounts[mine] = account
                work._phase = FINISHED  # which says, too, that it is counted
                if last and ((node := cell.node)[3] or not node[2]):
                    engine.usher(cell)
                node = None
                works[place] = work  # as it was; and then the look (F2)
                if (fates := self.fates) is not None and place in fates:
                    meeting = work._resolve(work._result, None)
                    if meeting is not None and meeting.callbacks:
                        if not last and (cell.node[3] or not cell.node[2]):
                            engine.usher(cell)  # it may be the last now
                        if idle:  # they have come since it was counted, and may take long
                            idle = 0
                            account -= IDLE
                            accounts[mine] = account
                            engine.staff()  # for what was left to this worker meanwhile
                        meeting.call_back(work)
                    meeting = None
                    work._leave(engine)
                works[place] = work = None
            work = None
            if not idle:  # the last has ended otherwise
                account += IDLE
                accounts[mine] = account
                idle = IDLE
                engine.usher(cell)
            if len(works) > 1:
                self.leave_if_over(engine)
            elif works[0] is None:
                engine.unresolved.pop(self, None)
            if shared:
                engine.tidy()  # it is still in the queue, for nothing
        except BaseException as raised:  # not a receiver: memory has run out, say
            if stack:
                engine.queue.put(self)
            if work is not None and work is not _TAKING:
                self._make_good(work, raised, worker)
            work = result = error = node = context = named = None
            raise
        finally:
            if not idle:
                accounts[mine] = account + IDLE
                engine.usher(cell)
            # See drop_frame; and this frame may live as long as what a receiver has raised.
            del self, works, stack, fates

    def _make_good(self, work: Any, error: BaseException, worker: Any) -> None:
        """Bring to an end what a worker was interrupted in (E2)."""
        engine, cell, _, _, mark = worker
        if work._owner is _SOMEBODY:  # taken by this worker, and it has come no further
            work._taker = mark
        if work._owner is not mark:
            return
        if work.done():
            work._settle(work._result, work._exception)
            engine.release(work)
            engine.usher(cell)  # perhaps it was that which was interrupted
        else:
            if work._phase is PENDING:
                engine.count(START, cell)
            engine.conclude(work, mark, 0, cell, None, error)


def fan_out(
    engine: Engine,
    plan: Plan,
    receivers: list[Receiver],
    signal: Any,
    sender: Any,
    named: dict[str, Any],
    tell: Any,
) -> Deliveries:
    """Have ``engine``, which has no ``around``, call plain receivers: all of them, or none."""
    sending = FanOut()
    names, only, call = plan.background
    # A list takes long to make and to compare, for the one name that is sent most often.
    if names != [*named] if only is None else len(named) != 1 or only not in named:
        call = BACKGROUND.find(tuple(named))
        # Or it would keep names of any kind.
        if names is None and call is not BACKGROUND.general and {*map(type, named)} <= {str}:
            names = [*named]
            plan.background = names, names[0] if len(names) == 1 else None, call
    sending.call = call
    sending.named = named
    sending.tell = tell
    context = sending.context = copy_context()
    if enclosing in context and enclosing.get():  # to get what is not set takes long
        # As in Sending.
        context.run(enclosing.set, ())
    works: list[Any] = []
    deliveries = Deliveries()
    place = 0
    for receiver in receivers:
        work = PlainDelivery()
        work._phase = PENDING
        work._pool = engine
        work.signal = signal
        work.sender = sender
        work.receiver = receiver
        work._sending = sending
        work._place = place
        place += 1
        works.append(work)
        deliveries.append((receiver, work))
    if place == 1:
        works = [work]  # one that has grown keeps room for more
        sending.stack, admitted = [0], ADMITTED
    else:
        sending.stack, admitted = [*range(place - 1, -1, -1)], place * ADMITTED
    sending.fates = None
    sending.works = works  # this last: until here, an interrupt leaves no cycle
    try:
        engine.take(works, admitted, sending)
    except BaseException:
        known, left = engine.unresolved, sending._futures()
        # In this order, as in make_good: between the looks they may be run, and leave.
        if (
            len(left) == place
            and sending not in known
            and all(work not in known and work._owner is None for work in left)
        ):
            works.clear()  # none was accepted: they and it would be a cycle
        raise
    if engine.drops:
        engine.note_drops()
    return deliveries
