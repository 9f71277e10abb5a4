"""What cosmic-ray does: the mutants of a module, each put in its place and tested."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.tools.filters.operators_filter import OperatorsFilter
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import WorkerOutcome

from stress.mutation.sample import choose
from stress.mutation.tested import HERE, Tested, command_of, require_copy_is_tested, seconds_of

TIMES = 5  # as long as without a mutant, and it counts as killed


class Found(NamedTuple):
    """A mutant that was tried."""

    module: str
    line: int
    operator: str
    killed: bool
    diff: str


def try_some(tested: Tested, share: float, least: int, seed: int) -> list[Found]:
    """Try mutants of a module: with few tests, then those that survive with more."""
    require_copy_is_tested(tested)
    session = f"{tested.module.replace('/', '.')}.sqlite"
    with use_db(session) as database:
        init([tested.path], database, {})
    OperatorsFilter().main([session, str(HERE / "cosmic-ray.toml")])
    with use_db(session) as database:
        choose(database, share, least, seed)
        test_each(database, database.pending_work_items, tested.first)
        if tested.then:
            test_each(database, survivors(database), tested.then)
        found = sorted(results(tested.module, database))
    killed = sum(each.killed for each in found)
    print(f"{tested.module}: {killed} of {len(found)} killed", flush=True)
    return found


def test_each(database: Any, items: Iterable[Any], tests: str) -> None:
    items = list(items)
    timeout = TIMES * seconds_of(tests) if items else 0
    for item in items:
        result = mutate_and_test(item.mutations, command_of(tests), timeout)
        database.set_result(item.job_id, result)


def survivors(database: Any) -> Iterator[Any]:
    for item, result in database.completed_work_items:
        if result.worker_outcome == WorkerOutcome.NORMAL and not result.is_killed:
            yield item


def results(module: str, database: Any) -> Iterator[Found]:
    for item, result in database.completed_work_items:
        if result.worker_outcome != WorkerOutcome.SKIPPED:
            [change] = item.mutations
            line, _ = change.start_pos
            yield Found(module, line, change.operator_name, result.is_killed, result.diff)
