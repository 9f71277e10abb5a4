"""What is recorded for a trace, and how it knows what belongs to it.

``here`` says in each context which traces go on there, and in which call it is. A send copies
the context into the pool, so what a delivery sends finds its trace and its parent there.

The async receivers of one ``send`` or ``asend`` share a context; each of these is a task, by which
it is known (``_in_tasks``).
"""

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter_ns

from tsignals import Connection, Signal
from tsignals._base.event_loops import current_task
from tsignals._base.events import IN_EXECUTORS
from tsignals._base.identity import identity
from tsignals.inspecting._entries import code_of, full_name, sender_name, where_is
from tsignals.observing import Event, Observer
from tsignals.tracing._records import Book, Call, Here, NotCalled, Send

here: ContextVar[Here] = ContextVar("tsignals.tracing", default=((), 0, 0))
_in_tasks: dict[int, tuple[int, int, Here]] = {}
"""By the id of a task that is an async receiver: which call that is, and where it began."""


class Recording(Observer):
    """Takes down what belongs to the trace of a number.

    Called by many threads at once: each step on what it keeps is one of a dictionary or a list.
    over: called when the block has ended, and with it all that it caused; twice does no harm.
    """

    def __init__(self, number: int, over: Callable[[], object]) -> None:
        self._number = number
        self._over = over
        self._book = Book()
        self._left_out: dict[tuple[Connection, ...], tuple[NotCalled, ...]] = {}
        self.sends: dict[int, Send] = {}
        self.under_way: dict[tuple[int, int], bool] = {}  # calls: the send, and the place in it
        self.exited = False

    def exit(self) -> None:
        """The block has ended: only what belongs to what is recorded still counts."""
        self.exited = True
        self._end_if_over()

    def forget(self) -> None:
        """Nothing more will be heard."""
        self.exited = True
        self._left_out.clear()
        for task, (of, _, _) in list(_in_tasks.items()):
            if of in self.sends:
                _in_tasks.pop(task, None)

    def _end_if_over(self) -> None:
        # By an operation on it, after the store: of the two who end, one sees the other's step.
        if self.exited and not self.under_way.copy():
            self._over()

    # -- A send --

    def sent(self, event: Event) -> None:
        now = here.get()
        if self._number not in now[0]:
            return
        task = _task_here()
        of, place = now[1:]
        in_task = _in_tasks.get(task)
        if in_task is not None and in_task[2] == now:
            of, place, _ = in_task
        above = self.sends.get(of)
        if above is None and self.exited:
            return  # another block of the same context
        parent = None if above is None else above.calls[place]
        send = self._send(event, parent, now, task)
        self.sends[event.send] = send
        if parent is not None:
            self._book.nested.setdefault((of, place), []).append(send)
        send.started_ns = perf_counter_ns()  # what was done here is not its time

    def _send(self, event: Event, parent: Call | None, now: Here, task: int) -> Send:
        book = self._book
        sender, _ = event.contents()
        name = None if sender is None else book.once(sender_name(sender) or "")
        send = Send(book, event, name, parent, now, task)
        for n, receiver in enumerate(event.receivers):
            send.calls.append(Call(send, n, book.once(full_name(receiver)), code_of(receiver)))
            if event.mode in IN_EXECUTORS:
                self.under_way[event.send, n] = True
        if event.mode != "background" and isinstance(event.signal, Signal):
            send.not_called = self._not_called(event, sender)
        return send

    def _not_called(self, event: Event, sender: object) -> tuple[NotCalled, ...]:
        connections = event.signal.receivers
        if len(connections) == len(event.receivers):
            return ()
        called = Counter(identity(receiver) for receiver in event.receivers)
        left_out = []
        for connection in connections:
            hears = connection.sender is None or connection.sender is sender
            who = identity(connection.receiver)
            if hears and called[who]:
                called[who] -= 1
            else:
                left_out.append(connection)
        key = tuple(left_out)
        if key not in self._left_out:
            self._left_out[key] = tuple(_say_why(each) for each in left_out)
        return self._left_out[key]

    # -- A call --

    def started(self, event: Event) -> None:
        place = event.place or 0
        send = self.sends.get(event.send)
        if send is None:
            return
        task = _task_here()
        call = send.calls[place]
        call.is_async = task != 0 and (task, event.thread_id) != (send._task, send.thread_id)
        call.attempts, call.queued_seconds = event.attempts, event.queued_seconds
        call.thread_name, call.thread_id = event.thread_name, event.thread_id
        self.under_way[event.send, place] = True
        if call.is_async and send.mode not in IN_EXECUTORS:
            _in_tasks[task] = event.send, place, here.get()
        else:
            here.set((here.get()[0], event.send, place))
        call.started_ns = perf_counter_ns()

    def ended(self, event: Event) -> None:
        now_ns = perf_counter_ns()
        send = self.sends.get(event.send)
        if send is None:
            return
        call = send.calls[event.place or 0]
        now = here.get()
        if call.is_async and send.mode not in IN_EXECUTORS:
            _in_tasks.pop(_task_here(), None)
        elif now[1:] == (event.send, event.place):
            # The same object as before, where that can be: asend compares by identity. A trace
            # that a receiver has begun or ended stays so.
            before = send._here
            here.set(before if before[0] == now[0] else (now[0], *before[1:]))
        self._end(event, call, now_ns)

    def dropped(self, event: Event) -> None:
        now_ns = perf_counter_ns()
        send = self.sends.get(event.send)
        if send is not None:
            call = send.calls[event.place or 0]
            call.queued_seconds = event.queued_seconds
            call.started_ns = None  # of an attempt that has failed, and was to be followed by more
            self._end(event, call, now_ns)

    refused = dropped

    def _end(self, event: Event, call: Call, now_ns: int) -> None:
        call.ended_ns = now_ns
        call.outcome = event.outcome
        call.attempts = event.attempts
        if event.exception is not None:
            call.error = _in_a_line(event.exception)
        self.under_way.pop((event.send, call.place), None)
        self._end_if_over()


def _say_why(connection: Connection) -> NotCalled:
    receiver = connection.receiver
    hears = sender_name(connection.sender)
    why = "it was connected meanwhile, or muted" if hears is None else f"it hears {hears}"
    return NotCalled(full_name(receiver), where_is(code_of(receiver)), why)


def _in_a_line(error: BaseException) -> str:
    try:
        said = " ".join(str(error).split())
    except Exception:
        said = ""
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__


def _task_here() -> int:
    """The id of the task that runs, or 0."""
    task = current_task()
    return 0 if task is None else id(task)


def forget_tasks() -> None:
    """After a fork: they run in the parent."""
    _in_tasks.clear()
