"""The one door through which tests reach into the inside. When a room moves, this file changes.

First what tests ask of a pool, a delivery or a signal; then the places where they step in, as a
collector, a handler or another thread would; then the pure changes of a pool's state.
"""

import dataclasses
import functools
import importlib
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from tsignals import Connection, Signal, WorkerPool

if TYPE_CHECKING:
    import pytest


def module(name: str) -> ModuleType:
    """A module of ours; for what has no name below."""
    return importlib.import_module(f"tsignals.{name}")


def file_of(name: str) -> str:
    """The file of a module of ours."""
    return str(module(name).__file__)


def new_inbox() -> Any:
    """What a thread sleeps on."""
    return module("_base.inbox").Inbox()


# -- A pool --


def core_of(pool: WorkerPool) -> Any:
    return pool._core


def atomic_state_of(pool: WorkerPool) -> Any:
    """What holds the state, and the interrupts that wait to be raised."""
    return core_of(pool).state


def state_of(pool: WorkerPool) -> Any:
    return atomic_state_of(pool).value


def blocked_senders(pool: WorkerPool) -> Any:
    return state_of(pool).blocked


def waiting_for_quiet(pool: WorkerPool) -> Any:
    """Who drains the pool, or shuts it down."""
    return state_of(pool).quiescence_waiters


def interrupts_of(pool: WorkerPool) -> Any:
    """Those that wait to be raised."""
    return atomic_state_of(pool).interrupts


def defer(pool: WorkerPool, interrupt: BaseException) -> None:
    """Have an interrupt wait until this thread can raise it."""
    atomic_state_of(pool).defer(interrupt)


def replace_counters(pool: WorkerPool, by: list[int]) -> None:
    """Put another list in the place of the one in which each worker counts."""
    atomic_state_of(pool).stripes = by


def unresolved(pool: WorkerPool) -> Any:
    """What the pool knows that has not ended."""
    return core_of(pool).backlog.unresolved


def replace_unresolved(pool: WorkerPool, kind: Any) -> Any:
    """Put a dictionary of another kind in its place, with the same in it."""
    core_of(pool).backlog.unresolved = by = kind(unresolved(pool))
    return by


def lanes_of(pool: WorkerPool) -> Any:
    return core_of(pool).backlog.lanes


def lane_ids_of(pool: WorkerPool) -> Any:
    return core_of(pool).backlog.lane_ids


def values_in_use(pool: WorkerPool) -> list[Any]:
    """Those for which the pool knows a lane."""
    buckets = list(lane_ids_of(pool).values())
    ids = [known() for bucket in buckets for known in bucket.ids.get()]
    return [None if lane_id is None else lane_id.value for lane_id in ids]


def loops_of(pool: WorkerPool) -> Any:
    return core_of(pool).backlog.loops


def queued(pool: WorkerPool) -> int:
    """How much is kept in the queue, for workers to take."""
    backlog = core_of(pool).backlog
    return max(len(backlog.line), backlog.tokens.qsize())


def tokens_of(pool: WorkerPool) -> Any:
    """What workers sleep on."""
    return core_of(pool).backlog.tokens


def prepared_of(pool: WorkerPool) -> Any:
    """The prepared sends that the pool waits for."""
    return core_of(pool).prepared


def timers_of(pool: WorkerPool) -> Any:
    """The threads that know when deliveries are run again that have failed."""
    return core_of(pool).timer.threads


def pauses_of(pool: WorkerPool) -> int:
    """How many deliveries the timer knows that wait for their next attempt."""
    timer = core_of(pool).timer
    return len(timer._heap) + int(timer._inbox.qsize())


def wake_timer(pool: WorkerPool) -> None:
    """Have the timer look at its clock."""
    core_of(pool).timer.look()


def workers_of(pool: WorkerPool) -> Any:
    return core_of(pool).crew.threads


def idents_of(pool: WorkerPool) -> Any:
    """The threads that run something of this pool now, by number."""
    return core_of(pool).crew.idents


def threads_of(pool: WorkerPool) -> Any:
    """The workers, and the threads of event loops."""
    return core_of(pool).all_threads()


def wait_without_timeout(pool: WorkerPool) -> None:
    """From now on, have senders wait for room as long as it takes."""
    core = core_of(pool)
    core.config = dataclasses.replace(core.config, block_timeout=None)


def contest_next_log_of_drops(pool: WorkerPool, successors: list[Any]) -> None:
    """Have who would log them next enter into this list that they do."""
    core_of(pool).drops.logged_at.latest.successors = successors


def interrupt_next_send(pool: WorkerPool, interrupted: Any) -> None:
    """Call ``interrupted`` when the next send has queued something, which may then raise."""
    core = core_of(pool)
    kind = type(core)
    fail_pending = kind.fail_pending

    def once(core: Any) -> None:
        core.terminal_error = None
        kind.fail_pending = fail_pending
        interrupted()

    # Who has queued something looks whether anybody will run it.
    kind.fail_pending, core.terminal_error = once, lambda: None


def pools() -> set[Any]:
    """All that a fork or the exit would find."""
    return set(module("_pool.lifecycle").cores())


def fork_is_noticed() -> bool:
    """Whether this process knows that it is none in which all was a fork ago."""
    return bool(module("_base.process").page[0])


def add_loop_that_has_ended(pool: WorkerPool, ident: int) -> None:
    """Have the pool know a thread of an event loop that has ended, and had this number."""
    core = core_of(pool)
    ended = module("_delivery.event_loop").LoopThread(core)
    ended.thread.join(60)
    core.backlog.loops.append(ended)
    ended.thread._ident = ident


# -- A delivery --


def is_waited_for(future: Any) -> bool:
    """Whether somebody sleeps until it is done."""
    waiters = future._find_waiters()
    return waiters is not None and bool(waiters.parked or waiters.installed)


def parked_at(future: Any) -> int:
    """How many are woken at its end, or when it may be run again."""
    return len(future._find_waiters().parked)


def before_it_is_awaited(monkeypatch: Any, future: Any, function: Any) -> None:
    """Have ``function`` called when somebody is about to be told of its end."""
    kind = type(future)
    for name, before in [(each, getattr(kind, each)) for each in ("add_done_callback", "_park")]:

        def told(*arguments: Any, before: Any = before) -> None:
            function()
            before(*arguments)

        monkeypatch.setattr(kind, name, told)


def has_callbacks(future: Any) -> bool:
    """Whether anybody is called back at its end."""
    return bool(future._find_waiters().callbacks)


def install(future: Any, waiter: Any) -> None:
    """Have ``waiter`` told of its end, as one of ``concurrent.futures`` is."""
    future._waiters.append(waiter)


def complete_as_cancelled(future: Any) -> None:
    """Resolve it, which nobody does any more."""
    future._complete(None, None, "CANCELLED_AND_NOTIFIED")


def listeners_of(future: Any) -> int:
    """How many of ``concurrent.futures``'s waits would be told."""
    waiters = future._find_waiters()  # None: nobody has come yet
    return 0 if waiters is None else len(waiters.installed)


def is_paused(future: Any) -> bool:
    """Whether it waits for its next attempt, which is not due."""
    return bool(future._paused)


def claims_of(future: Any) -> Any:
    return future._claims


def replace_claims(future: Any, kind: Any) -> None:
    """Put a list of another kind in the place of what says who has claimed it."""
    future._claims = kind(future._claims)


def cancel_unstarted(future: Any) -> bool:
    return bool(future._cancel_unstarted())


def replace_siblings(future: Any, kind: Any) -> Any:
    """Put a list of another kind in the place of its send's deliveries."""
    future._send.deliveries = by = kind(future._send.deliveries)
    return by


def replace_untaken(future: Any, kind: Any) -> None:
    """Put a list of another kind in the place of what no worker has taken of its send."""
    future._batch._stack = kind(future._batch._stack)


def queue_once_more(future: Any) -> None:
    """Queue it, as an interrupted sender does that cannot know how far it had come."""
    recover, withdraw = module("_pool.admission")._recover, module("_pool.state").withdraw
    recover(future._core, [future._entry], module("_pool.state").ADMITTED, withdraw)


def workers_waiting() -> int:
    """How many workers of all pools wait for what others run."""
    return len(module("_pool.cycles").waiting)


def awaited_by(delivery: Any) -> Any:
    """What an async delivery awaits."""
    return module("_pool.cycles").awaited_by(delivery)


# -- A signal, and its connections --


def registry_of(signal: Signal) -> Any:
    return signal._registry


def registries_alive() -> Any:
    """Those of all signals."""
    return module("_registry.everywhere").registries.living()


def registries_kept() -> int:
    """How many are kept in mind, dead or alive."""
    return len(module("_registry.everywhere").registries._found)


def observers_now() -> Any:
    """Who observes."""
    return module("_base.observers").active


def observed_alone() -> Any:
    """The signals that somebody observes alone, by their ids."""
    return module("_base.observers").own


def let_a_watchdog_speak_late(monkeypatch: "pytest.MonkeyPatch") -> None:
    """One that ends says that it looks no more right before the one after it sleeps."""
    watchdog = module("_base.watchdog")
    sleep = watchdog.Watchdog._sleep

    def sleep_after_that(self: Any, *arguments: Any) -> None:
        self.wake_at = watchdog.NEVER
        sleep(self, *arguments)

    monkeypatch.setattr(watchdog.Watchdog, "_sleep", sleep_after_that)


def watched_calls() -> Any:
    """The calls that the watchdog looks at."""
    return module("_base.watchdog")._watchdog.calls


def tell_of_slow_ones_again_after(seconds: float, monkeypatch: "pytest.MonkeyPatch") -> None:
    monkeypatch.setattr(module("_base.watchdog"), "AGAIN", seconds)


def replace_registry(signal: Signal, by: Any) -> None:
    signal._registry = by


def gates_of(signal: Signal) -> Any:
    return registry_of(signal).gates


def rows_of(signal: Signal) -> Any:
    """The connections, by key."""
    return registry_of(signal)._connections


def claims_on(connection: Connection) -> Any:
    """Those on one that is called once, but for what was given back."""
    return connection._options.once._claims  # type: ignore[union-attr]


def plans_of(signal: Signal) -> Any:
    return registry_of(signal).current().plans


def begun_send(signal: Signal) -> Any:
    """A ``send`` that has looked at its signal, and goes on once it is called."""
    snapshot = registry_of(signal).snapshot
    return functools.partial(snapshot.call, snapshot, signal, None, {})


def pause_before_observers_are_asked_for(pause: Any, monkeypatch: "pytest.MonkeyPatch") -> None:
    """Call ``pause`` in each send that has read the connections and comes to who observes."""
    registry = module("_registry.registry")
    who_observes = registry.who_observes

    def paused(signal: Any) -> Any:
        pause()
        return who_observes(signal)

    monkeypatch.setattr(registry, "who_observes", paused)


def look_at(signal: Signal) -> None:
    """Have the signal make what its next send goes by."""
    registry_of(signal).current()


def connect_reference(signal: Signal, reference: Any) -> None:
    """Connect what a weak reference, or what stands for one, refers to."""
    plain = module("_registry.connection").PLAIN
    registry = registry_of(signal)
    registry.add(Connection(registry.ref, "reference", reference, plain))


def let_nobody_hold(connection: Connection, meanwhile: Any) -> None:
    """Call ``meanwhile`` whenever the connection's receiver is looked for."""
    hold: Any = connection._hold

    def holds() -> Any:
        meanwhile()
        return hold()

    connection._hold = holds


def label_of(signal: Signal) -> str:
    return signal._label


def is_made(signal: Signal) -> bool:
    """Whether its ``__init__`` has come to its end."""
    return hasattr(signal, "_address")


def waits_for_receivers() -> Any:
    """Who waits in a ``disconnect``."""
    return module("_calling.waits").going_on


def compiled_functions() -> int:
    return len(module("_calling.compiled")._compiled)


def names_counted() -> int:
    """How many names are known of which it is counted how often they are sent."""
    return len(module("_calling.compiled")._seen)


def compiled_after() -> int:
    """How often names are sent before a function is compiled for them."""
    return int(module("_calling.compiled").OFTEN)


def longest_compiled_name() -> int:
    return int(module("_calling.compiled").MOST_LETTERS)


def when_steps_find(then: Any, monkeypatch: "pytest.MonkeyPatch") -> None:
    """Call ``then()`` once a thread has found what it is about to run."""
    steps = module("testing._steps").Steps
    find = steps._find

    def find_and_then(self: Any, which: Any) -> Any:
        found = find(self, which)
        then()
        return found

    monkeypatch.setattr(steps, "_find", find_and_then)


def when_steps_take(then: Any, monkeypatch: "pytest.MonkeyPatch") -> None:
    """Call ``then()`` when they have looked whether they are closed."""
    steps = module("testing._steps")
    make = steps.LocalDelivery

    def make_then(*arguments: Any) -> Any:
        then()
        return make(*arguments)

    monkeypatch.setattr(steps, "LocalDelivery", make_then)


def when_a_taker_is_looked_at(block: Any, then: Any, monkeypatch: "pytest.MonkeyPatch") -> None:
    """Call ``then()`` each time after somebody has looked what takes deliveries in that block."""
    scope, of = block._scope, vars(block._scope)

    def look(self: Any) -> Any:
        found = of.get("taker")
        then()
        return found

    def change(self: Any, taker: Any) -> None:
        of["taker"] = taker

    kind = type("Looked", (type(scope),), {"taker": property(look, change)})
    monkeypatch.setattr(scope, "__class__", kind)


def end_idle_threads_soon(seconds: float) -> None:
    """Let threads of ours that wait for more work, and are no pool's, not do so longer."""
    module("_calling.thread_cache").PATIENCE = seconds
    module("_base.watchdog").PATIENCE = seconds


def run_in_cached_thread(function: Any, then: Any) -> None:
    module("_calling.thread_cache").run(function, then)


def flushes_kept() -> Any:
    return module("sqlalchemy._flush")._records


# -- Where tests step in --


class Seam(NamedTuple):
    """A function, or a value, in whose place a test may put another."""

    module: str
    path: str

    @property
    def owner(self) -> Any:
        owner: Any = module(self.module)
        for name in self.path.split(".")[:-1]:
            owner = getattr(owner, name)
        return owner

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def now(self) -> Any:
        return getattr(self.owner, self.name)

    def put(self, by: Any) -> None:
        setattr(self.owner, self.name, by)

    def patch(self, monkeypatch: "pytest.MonkeyPatch", by: Any) -> None:
        monkeypatch.setattr(self.owner, self.name, by)


QUEUE_IT = Seam("_pool.admission", "_publish")
"""What is admitted goes into the queue."""
AWAIT_ROOM = Seam("_pool.overflow", "await_room")
DROP_OLDEST = Seam("_pool.overflow", "drop_oldest")
MOMENTS = Seam("_pool.overflow", "_MOMENTS")
"""How long a sender waits for another thread to finish its step."""
FIND_OLDEST = Seam("_pool.backlog", "Backlog.oldest")
RUN_HERE = Seam("_pool.overflow", "run_here")
PUT_BACK = Seam("_pool.overflow", "put_back")
"""What was to run where it was sent waits after all."""
COUNT = Seam("_pool.core", "Core.count")
"""A worker counts a start or an end for all to see."""
WAKE_WAITERS = Seam("_pool.core", "Core.recheck")
DRAIN = Seam("_pool.draining", "drain")
LEFT_UNTIL = Seam("_pool.overflow", "left_until")
TIME_OF_SEND = Seam("_pool.admission", "perf_counter")
CLOCK_OF_TIMER = Seam("_pool.timer", "perf_counter")
RESUME = Seam("_pool.timer", "resume")
"""The timer has found that a delivery is due."""
BEGIN_PAUSE = Seam("_pool.pauses", "release")
"""Whoever has run a delivery that failed makes it nobody's."""
BEGIN_PAUSE_OF_DELIVERY = Seam("_delivery.retrying", "release")
ENTER_GATE = Seam("_calling.tracking", "Gate.enter")
LOSE = Seam("_pool.core", "Core.lose")
CLOCK_OF_DROPS = Seam("_pool.drops", "time")
CLOCK_OF_EXIT = Seam("_pool.lifecycle", "time")
FINISH_AT_EXIT = Seam("_pool.lifecycle", "finish")
PATIENCE_OF_WORKERS = Seam("_pool.worker", "PATIENCE")
SHIFT = Seam("_pool.core", "shift")
WORKER_LEAVES = Seam("_pool.worker", "exit_worker")
TELL_THOSE_WHO_WAIT = Seam("_pool.waiters", "Waiters.announce")
CLAIM = Seam("_pool.future", "PoolFuture._claim")
COMPLETE = Seam("_pool.future", "PoolFuture._complete")
PARK = Seam("_pool.future", "PoolFuture._park")
"""Somebody is about to sleep until a future is done."""
JOIN_LANE = Seam("_pool.lanes", "join")
CLOSE_LANE = Seam("_pool.lanes", "Lane.close")
LIST_OF_DELIVERIES = Seam("_delivery.dispatch", "Deliveries")
PERFORM = Seam("_delivery.plain", "PlainDelivery._perform")
"""A worker has taken a delivery, and is about to call the receiver."""
FINISH = Seam("_pool.worker", "Worker.finish")
"""A worker has called the receiver, knows whether it was the last, and has yet to count it."""
HAVE_IT_RUN = Seam("_delivery.async_delivery", "AsyncDelivery._have_it_run")
QUEUE_OF_CALLER = Seam("_delivery.async_delivery", "queue")
"""The module with the queue on which a caller waits for what the loop runs."""
RELEASE_HOLD = Seam("_delivery.held_in_pool", "_release_all")
"""A prepared send is queued, and workers that wait for it may run it."""
RECOVER_SUBMITTED = Seam("_delivery.held_in_pool", "apply_to_all")
"""A prepared send was submitted, which has failed; what follows from that is about to be done."""
NOTIFY_LOOP = Seam("_calling.sync_receivers", "notify")
IDLE_THREADS = Seam("_calling.thread_cache", "_idle")
PATIENCE_OF_THREADS = Seam("_calling.thread_cache", "PATIENCE")
PATIENCE_OF_WATCHDOG = Seam("_base.watchdog", "PATIENCE")
MOST_COMPILED = Seam("_calling.compiled", "LIMIT")
SAFE_LOG = Seam("_calling.failures", "log_safely")
CHECK_WAIT = Seam("_registry.connecting", "check_wait")
SWEEP = Seam("_registry.registry", "_Sweeper.__call__")
SNAPSHOT = Seam("_registry.registry", "Registry.snapshot")
WALK_FOR_NAMES = Seam("_registry.naming", "_walk")
IN_CHILD = Seam("_base.process", "in_child")
"""Takes what is to be called in the child of a fork."""
ROOMS_OF_SENDS = {
    file_of(name)
    for name in ("_registry.connection", "_calling.general", "_calling.tracking", "_signal")
}
REGISTRY = file_of("_registry.registry")
TELLING = {
    "log": Seam("_calling.failures", "write_log"),
    "send": Seam("_calling.failures", "send"),
    "failure": Seam("_calling.failures", "Failure"),
}


def registry_that_tells(signal: Signal, put: Any) -> Any:
    """A registry that calls ``put(stale)`` where a snapshot is put in place."""
    room = module("_registry.registry")
    place = SNAPSHOT.now

    def puts(self: Any, snapshot: Any) -> None:
        place.__set__(self, snapshot)
        put(snapshot is room.STALE)

    told = {"__slots__": (), "snapshot": property(place.__get__, puts)}
    return type("Told", (room.Registry,), told)(signal)


# -- The pure changes of a pool's state --

_state = module("_pool.state")
_atomic = module("_pool.atomic_state")
State, Mode, Blocked, AtomicState = _state.State, _state.Mode, _state.Blocked, _atomic.AtomicState
wake = _atomic.wake_waiters
changes = SimpleNamespace(
    put_back=_state.put_back,
    take_up=_state.take_up,
    start_here=_state.start_here,
    block=_state.block,
    unblock=_state.unblock,
    enter=_state.enter,
    let_in=_state.let_in,
    shift=_state.shift,
    withdraw=_state.withdraw,
    reserve=_state.reserve,
    unreserve=_state.unreserve,
    exit_worker=_state.exit_worker,
    advance_mode=_state.advance_mode,
    close_if_over=_state.close_if_over,
    await_quiet=_state.await_quiet,
    await_quiet_no_more=_state.await_quiet_no_more,
)
units = SimpleNamespace(
    ADMITTED=_state.ADMITTED,
    FOR_LOOP=_state.FOR_LOOP,
    WANTED=_state.WANTED,
    IDLE=_state.IDLE,
    START=_state.START,
    START_ON_LOOP=_state.START_ON_LOOP,
    LEAVE_LOOP=_state.LEAVE_LOOP,
    FINISH=_state.FINISH,
    RESOLVE=_state.RESOLVE,
    SUBMITTED=_state.SUBMITTED,
    COMPLETED=_state.COMPLETED,
    FAILED=_state.FAILED,
    CANCELLED=_state.CANCELLED,
    DROPPED=_state.DROPPED,
    REFUSED=_state.REFUSED,
)


def atomic_state(limit: int | None = None) -> Any:
    """One that nobody has changed yet, of a pool in which so many may wait."""
    return AtomicState(State(), limit)


def counters_of(atomic: Any) -> Any:
    return atomic.stripes


def open_counter(atomic: Any) -> Any:
    return atomic.open_stripe()


def code_that_looks() -> list[Any]:
    """The code that sums up the counters of all workers."""
    return [AtomicState._look.__code__, AtomicState.value.fget.__code__]


def let_another_come_first(pool: WorkerPool, interrupt: type[BaseException] | None = None) -> None:
    """The next change finds that another delivery was dropped meanwhile; it may be interrupted."""
    atomic = atomic_state_of(pool)
    version, _ = atomic._look()
    numbers, rest, plain, _ = version
    dropped = units.SUBMITTED + units.DROPPED

    class Contested(list[Any]):
        def __iadd__(self, successors: Any) -> Any:
            self.extend([(numbers + dropped, rest, plain, []), *successors])
            if interrupt is not None:
                raise interrupt
            return self

    atomic.version = (numbers, rest, plain, Contested())
