"""One send's way through a pool, quickly: one entry in the queue for all of its deliveries.

Whichever worker takes the entry puts it back for the next one, as long as there is more than one
delivery left, and then runs one after the other. What a delivery goes through there is what
``Workers.run`` does, written out: without a call but the receiver's, and counted in the worker's
own account (``_state``). That is for deliveries without a lane or a gate, in pools without
``around``, and as long as all goes well; what fails, or is waited for, is concluded the
general way.

Thread safety: who takes a delivery from the list is entitled to nothing; it still has to claim
the future (E1). As long as more than one is left, the entry is in the queue, or with a worker that
has yet to put it back; who finds one takes it. So none is left behind, also by a worker that
stays in a slow receiver. No signal handler runs in here, for these run in the main thread; in a
child that a receiver has forked they may, but there all futures are lost already.
"""

from time import perf_counter
from types import FunctionType
from typing import Any

from tsignals._delivery import Deliveries, Delivery, Sending
from tsignals._engine import Engine
from tsignals._future import FINISHED, PENDING, RUNNING
from tsignals._receiver import Receiver, direct
from tsignals._state import ADMITTED, FINISH, IDLE, START, withdraw
from tsignals._work import Entry

_new = Delivery.__new__

LEAVE_IDLE = START - IDLE
COMPLETE = FINISH["completed"]
COMPLETE_AND_IDLE = COMPLETE + IDLE


def fan_out(engine: Engine, receivers: list[Receiver], sending: Sending) -> Deliveries:
    """Have ``engine``, which has no ``around``, call plain receivers: all of them, or none."""
    works = []
    deliveries = Deliveries()
    signal, sender = sending.signal, sending.sender
    for receiver in receivers:
        # As Delivery.__init__ does: to have that called takes as long as what it does.
        work = _new(Delivery)
        work._phase = PENDING
        work._fate = []
        work._result = work._exception = None
        work._pool = engine
        work.signal = signal
        work.sender = sender
        work.receiver = receiver
        work.sending = sending
        works.append(work)
        deliveries.append((receiver, work))
    entry = FanOut(works)
    entry.reverse()
    admitted = len(works) * ADMITTED
    engine.take(works, admitted, engine.find_room, withdraw, entry)
    return deliveries


class FanOut(list[Delivery], Entry):
    """The deliveries of one send that no worker has taken yet, the last one first.

    Knows nothing of the send: it may stay in the queue for some time after all have ended.
    """

    __slots__ = ()

    def mark_queued(self, now: float) -> None:
        sending = self[0].sending
        if sending is not None:
            sending.queued_at = now

    def remains(self, engine: Engine) -> bool:
        # One that a worker takes meanwhile is put in again, which does no harm (E1).
        self[:] = [work for work in self if work.owner is None]
        return bool(self)

    def work_off(self, worker: Any) -> None:
        engine, cell, mark = worker.engine, worker.cell, worker.mark
        me, accounts = worker.thread, worker.accounts
        account = accounts[me]
        unresolved = engine.unresolved
        work: Delivery | None = None
        fate: Any = None
        sending = receiver = error = node = None
        idle, step = IDLE, _NONE  # whether the account has the worker as idle; how far ``work`` is
        try:
            if shared := len(self) > 1:
                engine.queue.put(self)
            while self:
                try:
                    work = self.pop()
                except IndexError:  # another worker has taken the last
                    break
                step = _TAKEN
                fate = work._fate
                if fate and work.owner is not None:
                    continue
                fate.append(mark)
                if fate[0] is not mark and work.owner is not mark:
                    continue

                account += LEAVE_IDLE if idle else START
                accounts[me] = account
                idle, step = 0, _STARTED
                node = cell.node
                if node[3] or not node[2]:  # somebody may wait for the room
                    engine.usher(cell)
                node = None  # to which all that come after are tied

                sending = work.sending
                if sending is None:  # a finalizer has forked: the parent runs it
                    break
                work._phase = RUNNING
                receiver = work.receiver
                if type(receiver) is not FunctionType:
                    receiver = direct(receiver)
                began = perf_counter()
                try:
                    work._result = sending.context.copy().run(receiver, **sending.keywords)
                except BaseException as raised:
                    error = raised
                    work.fail(sending, raised, began)
                if work._fate is not fate:  # the receiver has forked: the future is the parent's
                    break

                receiver = sending = None  # let go of before it is done
                last = not self
                if error is not None or len(fate) > 1:
                    step = _NONE
                    idle = IDLE if last else 0
                    engine.conclude(work, mark, int(last), cell, work._result, error)
                    error = None
                    continue
                work.sending = None
                if last:  # before it is done: see Workers.conclude
                    idle = IDLE
                account += COMPLETE_AND_IDLE if last else COMPLETE
                accounts[me] = account
                step = _COUNTED
                if last and ((node := cell.node)[3] or not node[2]):
                    engine.usher(cell)
                node = None
                work._phase = FINISHED
                fate.append(mark)  # and then the look, in one list: see _future
                if len(fate) > 2:
                    if idle and work.calls_back():  # come since it was counted, and may take long
                        idle = 0
                        account -= IDLE
                        accounts[me] = account
                        engine.staff()  # for what was left to this worker meanwhile
                    work.settle(work._result, None)
                unresolved.pop(work, None)
                step = _NONE
            if shared:
                work = None
                engine.tidy()  # it is still in the queue, for nothing
        except BaseException as raised:  # not a receiver: memory has run out, say
            if self:
                engine.queue.put(self)
            if work is not None:
                self._make_good(work, step, raised, worker)
            raise
        finally:
            if not idle:
                accounts[me] = account + IDLE
                engine.usher(cell)
            # See drop_frame; and this frame may live as long as what a receiver has raised.
            del self, work, fate, sending, receiver, error, node

    def _make_good(self, work: Delivery, step: int, error: BaseException, worker: Any) -> None:
        """Bring to an end, or leave to others, what a worker was interrupted in (E2)."""
        engine, cell, mark = worker.engine, worker.cell, worker.mark
        if work.owner is None:
            engine.queue.put(work)
        elif step == _COUNTED:
            work.settle(work._result, None)
            engine.release(work)
            engine.usher(cell)  # perhaps it was that which was interrupted
        elif step != _NONE and work.owner is mark and not work.done():
            if step == _TAKEN:
                engine.count(START, cell)
            engine.conclude(work, mark, 0, cell, None, error)


_NONE, _TAKEN, _STARTED, _COUNTED = range(4)
"""How far a worker has come with a delivery: counted in its account as running, as ended."""
