"""What a model is, and how it is explored."""

import contextlib
import gc
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import interleave_test

import tsignals
from stress.models import strategy
from stress.models.strategy import Deviations, FewPreemptions
from tsignals._base import inbox
from tsignals._calling import compiled as _call
from tsignals._pool import crew as _workers
from tsignals._pool import lifecycle

LIBRARY = os.path.dirname(os.path.realpath(tsignals.__file__))
# Where threads may be interrupted: in the library, in the wrong versions of it, and in models.
INTERRUPTIBLE = (LIBRARY, os.path.dirname(os.path.realpath(__file__)))
EXPLORERS = tuple(os.path.realpath(file) for file in (__file__, strategy.__file__))
WARM_UP = 10
MOST_SCHEDULES = 200_000


class Broken(AssertionError):
    """A model saw what must never be."""


def require(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


@dataclass(frozen=True)
class Mutant:
    """The library with one protection taken out; entered around an exploration.

    It must fail where threads are interrupted, and nowhere else: a library that cannot do the work
    at all says nothing of protection. ``races=False``: so it is with this one, all the same.
    """

    name: str
    applied: Callable[[], AbstractContextManager[Any]]
    races: bool = True


@dataclass(frozen=True)
class Model:
    """Sets up, runs threads that meet, and requires; deterministic but for their order.

    ``play`` may say in which way it has ended; then ``ways`` are all that there are, and each must
    be met. So no model holds only because its calls never came between each other.
    """

    name: str
    play: Callable[[], object]
    mutants: tuple[Mutant, ...]
    ways: tuple[object, ...] = (None,)


@dataclass(frozen=True)
class Explored:
    schedules: int
    failure: str | None


def at_once(*functions: Callable[[], object]) -> None:
    """Run these in threads that may be interrupted; return when all have ended."""
    with interleave_test.no_interleave():
        tasks = [interleave_test.spawn(function) for function in functions]
        for task in tasks:
            task.join()


def explore(model: Model, preemptions: int = 1) -> Explored:
    """Every schedule with so many preemptions; it is an error if there are too many."""
    ways: set[object] = set()
    with _prepared():
        result, deviations = _explore(lambda: ways.add(model.play()), preemptions, ways.clear)
        if result.failure is not None and deviations is not None:
            # Once more, with all decisions seen, so that they can be reported.
            again = _search(model.play, _few(0, deviations), 1)
            result.failure = again.failure or result.failure
    failure = None if result.failure is None else result.failure.format()
    if failure is None and not result.exhausted:
        failure = f"not exhausted after {result.schedules_run} schedules"
    if failure is None and ways != set(model.ways):
        failure = f"it ended in these ways: {ways}, and not in these: {model.ways}"
    return Explored(result.schedules_run, failure)


def rehearse(model: Model) -> str | None:
    """Play it with nobody interrupted: what has failed, if anything has."""
    with _prepared():
        failure = _uninterrupted(model)
    return None if failure is None else str(failure.format())


def kill(model: Model, mutant: Mutant) -> bool:
    """Whether the model fails under the mutant, in the way that models fail."""
    with mutant.applied(), _prepared():
        if mutant.races:
            if (failure := _uninterrupted(model)) is not None:
                raise _NoMutant(mutant, "fails uninterrupted", failure)
        result, _ = _explore(model.play, 1, lambda: None)
    failure = result.failure
    if failure is None:
        return False
    if failure.kind == "exception" and not isinstance(failure.exception, Broken):
        raise _NoMutant(mutant, "raises", failure)
    return True


class _NoMutant(RuntimeError):
    def __init__(self, mutant: Mutant, what: str, failure: Any) -> None:
        super().__init__(f"mutant {mutant.name!r} {what}:\n{failure.format()}")


def _uninterrupted(model: Model) -> Any:
    """What fails where no thread is interrupted."""
    return _search(model.play, _few(0), MOST_SCHEDULES).failure


def _explore(
    play: Callable[[], object], preemptions: int, warmed_up: Callable[[], None]
) -> tuple[Any, Deviations | None]:
    """What the search has found, and where the schedule that failed deviates."""
    # Caches fill up in the first runs, which would make them unlike later ones.
    warmed = _search(play, "random", WARM_UP)
    if warmed.failure is not None:
        return warmed, None
    warmed_up()
    few = _few(preemptions)
    result = _search(play, few, MOST_SCHEDULES)
    if few.diverged:
        raise RuntimeError(f"a run could not be repeated: {few.deviations}")
    return result, few.deviations


def _few(preemptions: int, only: Deviations | None = None) -> FewPreemptions:
    return FewPreemptions(preemptions, _interruptible, only)


def _interruptible(file: str) -> bool:
    path = os.path.realpath(file)
    return path.startswith(INTERRUPTIBLE) and path not in EXPLORERS


def _search(play: Callable[[], object], strategy: Any, schedules: int) -> Any:
    def played() -> None:
        with interleave_test.no_interleave():
            play()

    return interleave_test.explore(
        played,
        iterations=schedules,
        seed=0,
        strategy=strategy,
        granularity="opcode",
        include=INTERRUPTIBLE,
        exclude=EXPLORERS,
        raise_on_failure=False,
    )


@contextlib.contextmanager
def _prepared() -> Iterator[None]:
    """Keep out what would make runs differ, or outlive them."""
    gc.collect()
    gc.disable()
    gc.freeze()  # what is collected now and then is small
    unraisable = sys.unraisablehook
    sys.unraisablehook = lambda info: None  # threads of a failed run are torn down anywhere
    try:
        with (
            replaced(threading, "current_thread", _current_thread),
            replaced(interleave_test.Thread, "run", _run),
            replaced(_workers, "empty_context", dict),  # explored threads take none
            # Pools of a failed run are left as they are; at exit nobody must wait for them.
            replaced(lifecycle, "register", lambda engine: None),
            replaced(logging.getLogger("tsignals"), "disabled", True),
            _inboxes_explored(),
            _generated_code_shown(),
        ):
            yield
    finally:
        sys.unraisablehook = unraisable
        gc.unfreeze()
        gc.enable()
        gc.collect()


@contextlib.contextmanager
def _inboxes_explored() -> Iterator[None]:
    """The explorer stands in for a ``SimpleQueue`` that is looked up as it is made: look it up."""
    kind = inbox.Inbox
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("tsignals.") and vars(module).get("Inbox") is kind:
                stack.enter_context(replaced(module, "Inbox", lambda: queue.SimpleQueue()))
        yield


@contextlib.contextmanager
def _generated_code_shown() -> Iterator[None]:
    """Generated code has no file, and code without one is not interrupted: give it one."""

    def compiled(text: str, name: str, mode: str) -> Any:
        return compile(text, os.path.join(LIBRARY, "generated.py"), mode)

    tables: list[_call.Table[Any]] = [_call.BACKGROUND]
    tables += [*_call.TABLES.values(), *_call.TABLES_ROBUST.values()]
    for table in tables:
        table.callers.clear()
    often, _call.OFTEN = _call.OFTEN, 1  # all runs are to be alike
    _call.__dict__["compile"] = compiled
    try:
        yield
    finally:
        del _call.__dict__["compile"]
        _call.OFTEN = often
        for table in tables:
            table.callers.clear()


_here = threading.local()
_real_run = interleave_test.Thread.run


def _run(thread: Any) -> None:
    _here.thread = thread
    _real_run(thread)


class _Spawned:
    name = "spawned"


def _current_thread() -> Any:
    """A worker finds itself; the standard library knows nothing of explored threads."""
    return getattr(_here, "thread", _Spawned)


@contextlib.contextmanager
def replaced(owner: Any, name: str, by: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        setattr(owner, name, before)
