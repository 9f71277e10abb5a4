"""What a pool was made with."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from tsignals._base.around import Around
from tsignals._base.definition import is_async
from tsignals._base.process import in_main_interpreter
from tsignals._base.timeouts import no_less_than_zero

Policy = Literal["block", "raise", "drop_newest", "drop_oldest", "caller_runs"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a pool, which outlive a fork; ``WorkerPool`` documents them."""

    max_workers: int
    max_pending: int | None
    overflow: Policy
    block_timeout: float | None
    name: str  # thread_name_prefix
    initializer: Callable[..., object] | None
    initargs: tuple[object, ...]
    around: Around | None
    idle: Callable[[], object] | None


def checked(
    name: str,
    max_workers: int | None = None,
    max_pending: int | None = None,
    overflow: Policy = "block",
    block_timeout: float | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[object, ...] = (),
    around: Around | None = None,
    idle: Callable[[], object] | None = None,
) -> Config:
    """The settings, as ``WorkerPool`` takes them; by default any number may wait.

    Raises ``TypeError`` and ``ValueError`` for what cannot be one, and ``RuntimeError`` where no
    pool can be.
    """
    if not in_main_interpreter():
        raise RuntimeError(
            f"cannot make pool {name!r} in a subinterpreter, whose end would "
            "abort the process with a worker thread still there; use send() there, or another "
            "executor"
        )
    for what, number in (("max_workers", max_workers), ("max_pending", max_pending)):
        if number is not None:
            _check(what, number, isinstance(number, int), "an int or None")
    if max_workers is None:
        max_workers = min(32, (os.cpu_count() or 1) + 4)
    if max_workers < 1:
        raise ValueError("max_workers must be greater than 0")  # as ThreadPoolExecutor
    if max_pending is not None and max_pending < 1:
        raise ValueError(f"max_pending must be at least 1 or None, not {max_pending!r}")
    if overflow not in POLICIES:
        raise ValueError(f"overflow must be one of {', '.join(POLICIES)}, not {overflow!r}")
    for what, function in (("initializer", initializer), ("around", around), ("idle", idle)):
        _check_call(what, function)
    _check("thread_name_prefix", name, isinstance(name, str), "a str")
    _check("initargs", initargs, isinstance(initargs, Iterable), "a tuple")
    return Config(
        max_workers=max_workers,
        max_pending=max_pending,
        overflow=overflow,
        block_timeout=no_less_than_zero(block_timeout, "block_timeout"),
        name=str.__str__(name),  # a member of an enum would be shown as that
        initializer=initializer,
        initargs=tuple(initargs),  # every thread gets them
        around=around,
        idle=idle,
    )


def _check_call(what: str, function: object) -> None:
    if function is not None:
        is_around = what == "around"
        needed = "a function that gives a context manager" if is_around else "callable"
        _check(what, function, callable(function), needed)
        if is_async(function):
            raise TypeError(f"{what} must not be async: nobody would await it")


def _check(what: str, value: object, is_one: bool, needed: str) -> None:
    if not is_one:
        raise TypeError(f"{what} must be {needed}, not {type(value).__name__!r}")
