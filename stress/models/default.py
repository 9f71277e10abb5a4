"""Models of the default executor: who asks for it, and who sets another, at once."""

from concurrent.futures import Executor
from typing import Any

from stress.models.explore import Model, Mutant, at_once, require
from stress.models.registry import wrong
from tsignals import WorkerPool, _default, get_default_executor, set_default_executor


def get_set() -> str:
    """Who asks gets what is the default then; each former one is returned by one call."""
    before = set_default_executor(None)
    mine, got, former = WorkerPool(1), list[Any](), list[Executor | None]()
    try:
        at_once(
            lambda: got.append(get_default_executor()),
            lambda: former.append(set_default_executor(mine)),
        )
        require(got[0] in (former[0], mine), "it got what was never the default")
        require(set_default_executor(None) is mine, "what was set is not the default")
        return "made" if former[0] is not None else "set"
    finally:
        set_default_executor(before)


def get_get() -> str:
    """Two who ask first get the same."""
    before = set_default_executor(None)
    got: dict[str, Any] = {}
    try:
        at_once(
            lambda: got.update(first=get_default_executor()),
            lambda: got.update(second=get_default_executor()),
        )
        require(got["first"] is got["second"], "they have got two")
        require(set_default_executor(None) is got["first"], "and that is not the default")
        return "same"
    finally:
        set_default_executor(before)


# -- Mutants --


def make_and_return() -> Executor:
    """Make a pool and return it, whoever came first."""
    if (executor := _default._default.get()) is None:
        executor = WorkerPool()
        _default._default.compare_and_set(None, executor)
    return executor


RETURN = Mutant("return what it made", wrong(_default, "default_executor", make_and_return))

MODELS = (
    Model("default: get/set", get_set, (RETURN,), ("made", "set")),
    Model("default: get/get", get_get, (RETURN,), ("same",)),
)
