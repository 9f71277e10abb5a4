"""The changes of a pool's state, each from one value to the next; no thread is needed to see them.

What must hold is said where they stand, as S1 to S5. Each row below names what it is about.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import inside
import pytest
from inside import Blocked, Mode, State, changes, counters_of, open_counter, units, wake
from inside import atomic_state as atomic
from pools import held

from tsignals import WorkerPool

OPEN, CLOSING, CLOSED, BROKEN = Mode.OPEN, Mode.CLOSING, Mode.CLOSED, Mode.BROKEN
ONE = units.ADMITTED


def quietly() -> None:
    """Whom nobody hears."""


def sender(count: int = 1, admitted: int = ONE) -> Any:
    return Blocked(count * admitted, quietly)


A, B, WIDE, ON_LOOP = sender(), sender(), sender(3), sender(1, ONE + units.FOR_LOOP)


def state(
    pending: int = 0,
    running: int = 0,
    workers: int = 0,
    idle: int = 0,
    mode: Any = OPEN,
    blocked: tuple[Any, ...] = (),
    quiescence_waiters: tuple[Any, ...] = (),
    completed: int = 0,
    cancelled: int = 0,
    dropped: int = 0,
    on_loop: int = 0,
    refused: int = 0,
) -> Any:
    """A state in which these are the numbers; ``on_loop`` more run there, and keep their room."""
    numbers = (pending + running + completed) * ONE + running * units.START
    numbers += completed * (units.START + units.FINISH["completed"])
    numbers += cancelled * (ONE + units.RESOLVE["cancelled"])
    numbers += dropped * (ONE + units.RESOLVE["dropped"])
    numbers += refused * units.REFUSED
    numbers += on_loop * (ONE + units.FOR_LOOP + units.START_ON_LOOP)
    return State(numbers + idle * units.IDLE, workers, mode, blocked, quiescence_waiters)


class Row(NamedTuple):
    promise: str
    before: Any
    change: Callable[..., Any]
    arguments: tuple[Any, ...]
    after: Any
    """``None``: the change does not apply."""


START, FINISH = units.START, units.FINISH["completed"]
DROP = units.SUBMITTED + units.DROPPED

ROWS = {
    # S1: what is submitted is somewhere
    "a pending one starts": Row(
        "S1", state(pending=1), changes.shift, (START, 1), state(running=1)
    ),
    "a running one ends": Row(
        "S1", state(running=1), changes.shift, (FINISH, 1), state(completed=1)
    ),
    "a pending one is cancelled": Row(
        "S1",
        state(pending=2),
        changes.shift,
        (units.RESOLVE["cancelled"], 2),
        state(pending=1, cancelled=1),
    ),
    "what is refused was never submitted": Row(
        "S1",
        state(pending=1),
        changes.shift,
        (2 * units.REFUSED, 1),
        state(pending=1, refused=2),
    ),
    "what comes is dropped": Row(
        "S1", state(pending=1), changes.shift, (2 * DROP, 1), state(pending=1, dropped=2)
    ),
    "what was admitted is taken back": Row(
        "S1", state(pending=2), changes.withdraw, (ONE, 2), state(pending=1)
    ),
    "one starts where it is sent": Row("S1", state(), changes.start_here, (2,), state(running=2)),
    # S2: room
    "what was to run where it was sent waits after all, over the limit": Row(
        "S2", state(pending=1, running=1), changes.put_back, (ONE,), state(pending=2)
    ),
    "what was put back runs where it was sent": Row(
        "S2", state(pending=2), changes.take_up, (ONE, 1), state(pending=1, running=1)
    ),
    "what starts on the loop keeps its room": Row(
        "S2",
        State(ONE + units.FOR_LOOP, blocked=(A,)),
        changes.shift,
        (units.START_ON_LOOP, 1),
        state(on_loop=1, blocked=(A,)),
    ),
    "what is about to end on the loop gives its room": Row(
        "S2",
        state(on_loop=1, blocked=(A,)),
        changes.shift,
        (units.LEAVE_LOOP, 1),
        state(pending=1, running=1),
    ),
    "more than the limit enters where nothing else waits": Row(
        "S2", state(running=1, blocked=(WIDE,)), changes.enter, (2,), state(pending=3, running=1)
    ),
    "and not where something does": Row(
        "S2", state(pending=1, blocked=(WIDE,)), changes.enter, (2,), None
    ),
    # S3: in line
    "who finds room does not get in line": Row("S3", state(), changes.block, (A, 1), None),
    "who finds none does": Row(
        "S3", state(pending=1), changes.block, (A, 1), state(pending=1, blocked=(A,))
    ),
    "who finds room, and others in line, does": Row(
        "S3", state(blocked=(A,)), changes.block, (B, 1), state(blocked=(A, B))
    ),
    "room lets the first of them in": Row(
        "S3",
        state(pending=1, blocked=(A, B)),
        changes.shift,
        (START, 1),
        state(pending=1, running=1, blocked=(B,)),
    ),
    "and nobody past one that needs more": Row(
        "S3",
        state(pending=2, blocked=(WIDE, A)),
        changes.shift,
        (START, 3),
        state(pending=1, running=1, blocked=(WIDE, A)),
    ),
    "who leaves lets those behind in": Row(
        "S3",
        state(pending=1, blocked=(WIDE, A)),
        changes.unblock,
        (WIDE, 2),
        state(pending=2),
    ),
    "who was admitted cannot leave": Row("S3", state(pending=1), changes.unblock, (A, 1), None),
    "one for the loop makes nobody want a worker": Row(
        "S3", state(blocked=(ON_LOOP,)), changes.enter, (1,), State(ONE + units.FOR_LOOP)
    ),
    # S4: the mode only grows
    "a pool that is busy closes": Row(
        "S4",
        state(pending=1, workers=1),
        changes.advance_mode,
        (CLOSING,),
        state(pending=1, workers=1, mode=CLOSING),
    ),
    "a pool at rest is closed at once": Row(
        "S4", state(), changes.advance_mode, (CLOSING,), state(mode=CLOSED)
    ),
    "a pool with a worker is not": Row(
        "S4",
        state(workers=1, idle=1),
        changes.advance_mode,
        (CLOSING,),
        state(workers=1, idle=1, mode=CLOSING),
    ),
    "it does not open again": Row("S4", state(mode=CLOSED), changes.advance_mode, (CLOSING,), None),
    "what is broken stays so": Row("S4", state(mode=BROKEN), changes.advance_mode, (CLOSED,), None),
    "its last delivery closes it": Row(
        "S4",
        state(running=1, mode=CLOSING),
        changes.shift,
        (FINISH, 1),
        state(completed=1, mode=CLOSED),
    ),
    "its last worker closes it": Row(
        "S4", state(workers=1, idle=1, mode=CLOSING), changes.exit_worker, (), state(mode=CLOSED)
    ),
    "nobody gets in line once it closes": Row(
        "S4", state(pending=1, mode=CLOSING), changes.block, (A, 1), None
    ),
    "nobody enters any more": Row(
        "S4", state(blocked=(A,), mode=CLOSING), changes.enter, (1,), None
    ),
    "nothing starts where it is sent any more": Row(
        "S4", state(mode=CLOSING), changes.start_here, (1,), None
    ),
    # Workers
    "work is wanted: a worker comes": Row(
        "S1", state(pending=1), changes.reserve, (1,), state(pending=1, workers=1, idle=1)
    ),
    "one that is idle will do": Row(
        "S1", state(pending=1, workers=1, idle=1), changes.reserve, (2,), None
    ),
    "no more than allowed": Row(
        "S1", state(pending=1, running=1, workers=1), changes.reserve, (1,), None
    ),
    "none for what waits for the loop": Row(
        "S1", State(ONE + units.FOR_LOOP), changes.reserve, (1,), None
    ),
    "a pool that closes may need one yet": Row(
        "S4",
        state(pending=1, mode=CLOSING),
        changes.reserve,
        (1,),
        state(pending=1, workers=1, idle=1, mode=CLOSING),
    ),
    "one that is closed does not": Row(
        "S4", state(pending=1, mode=BROKEN), changes.reserve, (1,), None
    ),
    "a worker that could not start is gone": Row(
        "S1",
        state(pending=1, workers=1, idle=1),
        changes.unreserve,
        (),
        state(pending=1),
    ),
    "an idle worker stays while the pool is open": Row(
        "S4", state(workers=1, idle=1), changes.exit_worker, (), None
    ),
    "and while something is left": Row(
        "S4", state(pending=1, workers=1, idle=1, mode=CLOSING), changes.exit_worker, (), None
    ),
    # Quiet
    "who waits for quiet where it is quiet need not": Row(
        "S1", state(completed=1), changes.await_quiet, (quietly,), None
    ),
    "who has to wait is told": Row(
        "S1",
        state(running=1),
        changes.await_quiet,
        (quietly,),
        state(running=1, quiescence_waiters=(quietly,)),
    ),
    "and once": Row(
        "S1",
        state(running=1, quiescence_waiters=(quietly,)),
        changes.await_quiet,
        (quietly,),
        state(running=1, quiescence_waiters=(quietly,)),
    ),
    "who no longer waits is forgotten": Row(
        "S1",
        state(running=1, quiescence_waiters=(quietly,)),
        changes.await_quiet_no_more,
        (quietly,),
        state(running=1),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_change(name: str) -> None:
    promise, before, change, arguments, after = ROWS[name]
    assert change(before, *arguments) == after, promise
    assert broken(before) == [], "the row itself"


def test_every_change_has_a_row() -> None:
    lone = {changes.let_in, changes.close_if_over}  # parts of others
    assert {row.change for row in ROWS.values()} == set(vars(changes).values()) - lone


# -- Any sequence of them --


def broken(at: Any, limit: int | None = None) -> list[str]:
    """Which promises the numbers of a state break; its excess over the limit is told elsewhere."""
    ended = [
        at.number(unit) for unit in (units.COMPLETED, units.FAILED, units.CANCELLED, units.DROPPED)
    ]
    problems = []
    if at.number(units.SUBMITTED) != at.pending + at.running + sum(ended):
        problems.append("S1: it does not add up")
    if not at.pending <= at.room_used <= at.pending + at.running:
        problems.append("S2: room is not what is pending, and runs on the loop")
    if at.quiet != (not at.pending and not at.running):
        problems.append("S1: quiet is when nothing is pending or running")
    if at.idle > at.workers:
        problems.append("S1: more are idle than there are")
    if at.blocked and at.mode is OPEN and at.fits(at.blocked[0].count, limit) and limit:
        problems.append("S3: the first in line has room and stands there")
    return problems


def is_over(at: Any) -> bool:
    """Whether a pool that closes has nothing left to do, and nobody to do it."""
    return at.mode is CLOSING and at.quiet and not at.workers


LIMIT = 2
# These take something back, and whoever does it looks by itself whether the pool is over.
LEFT_CLOSING = {"withdraw", "a worker is gone"}


class Move(NamedTuple):
    """A change as the pool makes it: where it may come, and whether it may exceed the limit."""

    name: str
    change: Callable[..., Any]
    arguments: tuple[Any, ...]
    may: Callable[[Any], bool] = lambda at: True
    exceeds: bool = False


def waits(at: Any) -> bool:
    return bool(at.pending)


def waits_for_worker(at: Any) -> bool:
    """Whether one of those that are pending waits for a worker and not for the loop."""
    return bool(at.pending) and at.numbers // units.WANTED + at.idle > 0


def waits_for_loop(at: Any) -> bool:
    return at.pending > at.numbers // units.WANTED + at.idle


def runs_on_loop(at: Any) -> bool:
    return bool(at.room_used > at.pending)


def runs_elsewhere(at: Any) -> bool:
    return bool(at.running > at.room_used - at.pending)


def admit(at: Any, admitted: int, count: int) -> Any:
    """As the pool admits what finds room."""
    if at.mode or at.blocked or not at.fits(count, LIMIT):
        return None
    return at.plus(admitted)


MOVES = [
    Move("admit", admit, (ONE, 1)),
    Move("admit three", admit, (3 * ONE, 3), exceeds=True),
    Move("admit for the loop", admit, (ONE + units.FOR_LOOP, 1)),
    Move("start here", changes.start_here, (1,)),
    Move("put back", changes.put_back, (ONE,), runs_elsewhere, exceeds=True),
    Move("take up", changes.take_up, (ONE, LIMIT), waits_for_worker),
    Move("drop what comes", changes.shift, (DROP, LIMIT)),
    Move("withdraw", changes.withdraw, (ONE, LIMIT), waits_for_worker),
    Move("start", changes.shift, (units.START, LIMIT), waits_for_worker),
    Move("start on the loop", changes.shift, (units.START_ON_LOOP, LIMIT), waits_for_loop),
    Move("leave the loop", changes.shift, (units.LEAVE_LOOP, LIMIT), runs_on_loop),
    Move("complete", changes.shift, (units.FINISH["completed"], LIMIT), runs_elsewhere),
    Move("fail", changes.shift, (units.FINISH["failed"], LIMIT), runs_elsewhere),
    Move("cancel", changes.shift, (units.RESOLVE["cancelled"], LIMIT), waits_for_worker),
    Move("drop the oldest", changes.shift, (units.RESOLVE["dropped"], LIMIT), waits_for_worker),
    Move("block", changes.block, (A, LIMIT), lambda at: A not in at.blocked),
    Move("block another", changes.block, (WIDE, LIMIT), lambda at: WIDE not in at.blocked, True),
    Move("unblock", changes.unblock, (A, LIMIT)),
    Move("unblock another", changes.unblock, (WIDE, LIMIT)),
    Move("enter", changes.enter, (LIMIT,)),
    Move("add a worker", changes.reserve, (2,)),
    Move("a worker is gone", changes.unreserve, (), lambda at: bool(at.idle)),
    Move("a worker goes", changes.exit_worker, (), lambda at: bool(at.idle)),
    Move("close", changes.advance_mode, (CLOSING,)),
    Move("break", changes.advance_mode, (BROKEN,)),
    Move("wait for quiet", changes.await_quiet, (quietly,)),
    Move("wait no longer", changes.await_quiet_no_more, (quietly,)),
]
LENGTH = 5


class Walk(NamedTuple):
    path: tuple[str, ...]
    at: Any
    excess: int
    """How many more than the limit may wait, as what came before was let in over it."""


def steps(walk: Walk) -> Iterator[Walk]:
    """Where each move leads."""
    for move in MOVES:
        if move.may(walk.at):
            after = move.change(walk.at, *move.arguments)
            if after is not None:
                over = max(0, after.room_used - LIMIT)
                path = (*walk.path, move.name)
                wide = WIDE in walk.at.blocked and WIDE not in after.blocked
                allowed = over if move.exceeds or wide else min(walk.excess, over)
                yield Walk(path, after, allowed)
                assert over <= allowed, f"S2: {over} over the limit after {path}"


def test_promises_hold_after_any_few_changes() -> None:
    """Each state that can be reached is looked at once, whichever way led there first."""
    seen = {State(): 0}
    front = [Walk((), State(), 0)]
    for _ in range(LENGTH):
        following = list[Walk]()
        for walk, after in itertools.chain.from_iterable(
            ((walk, after) for after in steps(walk)) for walk in front
        ):
            assert broken(after.at, LIMIT) == [], after.path
            assert after.at.mode >= walk.at.mode, f"S4: {after.path}"
            over = is_over(after.at) and not is_over(walk.at)
            assert not over or after.path[-1] in LEFT_CLOSING, f"S4: not closed: {after.path}"
            check_line(walk.at, after)
            if seen.get(after.at, -1) < after.excess:
                seen[after.at] = after.excess
                following.append(after)
        front = following
    assert len(seen) > 2000


def check_line(before: Any, after: Walk) -> None:
    """S3: who has left the line stood at its head, or was the one who left."""
    gone = [each for each in before.blocked if each not in after.at.blocked]
    if after.path[-1].startswith("unblock"):
        left = {"unblock": A, "unblock another": WIDE}[after.path[-1]]
        gone.remove(left)
        line = [each for each in before.blocked if each is not left]
    else:
        line = list(before.blocked)
    assert gone == line[: len(gone)], f"S3: {after.path}"
    stays = [each for each in line if each not in gone]
    new = [each for each in after.at.blocked if each not in before.blocked]
    assert list(after.at.blocked) == stays + new, f"S3: {after.path}"


@pytest.mark.parametrize(
    ("before", "change", "arguments", "woken"),
    [
        (state(pending=1, blocked=(A, B)), changes.shift, (START, 1), "A"),
        (state(pending=1, blocked=(A, B)), changes.advance_mode, (CLOSING,), "AB"),
        (state(running=1), changes.shift, (FINISH, 1), ""),
        (state(pending=1, blocked=(A, B)), changes.unblock, (A, 1), "A"),
    ],
)
def test_whom_a_change_lets_go_on_is_woken(
    before: Any, change: Any, arguments: Any, woken: str
) -> None:
    told = list[str]()
    hear = {
        A: Blocked(A.admitted, lambda: told.append("A")),
        B: Blocked(B.admitted, lambda: told.append("B")),
    }
    before = before._replace(blocked=tuple(hear[each] for each in before.blocked))
    after = change(before, *(hear.get(each, each) for each in arguments))
    wake(before, after)
    assert "".join(told) == woken


@pytest.mark.parametrize("busy", [0, 1])
def test_who_waits_for_quiet_is_woken_when_it_is(busy: int) -> None:
    told = list[None]()
    before = state(running=1 + busy, quiescence_waiters=(lambda: told.append(None),))
    wake(before, changes.shift(before, FINISH, None))
    assert len(told) == (not busy)


# -- S5: what workers count by themselves only gives room back --


@pytest.mark.parametrize("by", ["end", "start"])
def test_room_that_a_worker_gave_is_found_and_never_too_much(by: str) -> None:
    cell = atomic(1)
    counter = open_counter(cell)
    assert cell.admit(ONE, 1)
    assert not cell.admit(ONE, 1)
    counters_of(cell)[counter] += START + (FINISH if by == "end" else 0)
    assert cell.admit(ONE, 1), "S5: it went by what was given before, and looked no more"
    assert not cell.admit(ONE, 1), "S5: too much"
    assert cell.value.room_used == 1
    assert broken(cell.value, 1) == []


CHANGES: dict[str, Callable[[WorkerPool, Any], object]] = {
    "submit": lambda pool, waiting: pool.submit(int),
    "cancel": lambda pool, waiting: waiting.cancel(),
    "shutdown": lambda pool, waiting: pool.shutdown(wait=False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_that_another_has_overtaken_is_made_on_top_of_that(change: str) -> None:
    with WorkerPool(1) as pool, held(pool):
        waiting = pool.submit(int)
        before = pool.stats()
        inside.let_another_come_first(pool)
        CHANGES[change](pool, waiting)
        stats = pool.stats()
        assert stats.dropped == before.dropped + 1, "what came first was overwritten"
        grown = stats.submitted - before.submitted
        assert grown == 1 + (change == "submit"), "this change was lost"
        assert stats.cancelled == (change == "cancel"), "this change was lost"
        assert inside.state_of(pool).mode == (change == "shutdown"), "this change was lost"
