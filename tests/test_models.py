"""Every interleaving of two calls that meet, for the pairs that are quickly gone through.

``python -m stress models`` goes through all of them.
"""

import argparse
import dataclasses
import faulthandler
import threading
from pathlib import Path

import pytest

from stress.models import why_not
from tsignals import Signal

REASON = why_not()
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(600),
    pytest.mark.unmeasured,
    # A schedule that has got stuck is ended wherever its threads are, in a finalizer, too.
    pytest.mark.filterwarnings(
        "ignore:(?s)Exception ignored.*_Abort:pytest.PytestUnraisableExceptionWarning"
    ),
]

QUICK = (
    "connect/connect",
    "connect/disconnect",
    "disconnect/disconnect/death",
    "once/disconnect",
    "batch: wait/complete",
)


@pytest.mark.parametrize("name", QUICK)
def test_model_holds_in_every_interleaving_and_fails_without_its_protection(name: str) -> None:
    from stress.models.every import MODELS
    from stress.models.explore import explore, kill

    (model,) = (model for model in MODELS if model.name == name)

    explored = explore(model)

    assert explored.failure is None, explored.failure
    assert explored.schedules > 100
    assert model.mutants
    for mutant in model.mutants:
        assert kill(model, mutant), f"{mutant.name!r} survived"


def test_every_model_can_be_played() -> None:
    """They reach into the library, and are gone through more seldom than that is changed."""
    from stress.models.every import MODELS
    from stress.models.explore import rehearse

    failures = {model.name: failure for model in MODELS if (failure := rehearse(model))}

    assert not failures, failures


def test_names_of_models_are_told_apart() -> None:
    from stress.models.every import MODELS

    names = [model.name for model in MODELS]

    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)


def test_mutants_replace_methods_and_never_source_text() -> None:
    """Text that is replaced ties a mutant to how a line is written, and not to what it does."""
    for path in (Path(__file__).parent.parent / "stress" / "models").glob("*.py"):
        assert "getsource" not in path.read_text("utf-8"), path


def test_search_goes_through_the_schedules_that_the_explorers_own_goes_through() -> None:
    """Ours only skips questions whose answer is known."""
    import interleave_test

    from stress.models.strategy import FewPreemptions

    def played(ends: list[tuple[int, ...]]) -> None:
        total, order = [0], list[int]()
        lock = threading.Lock()

        def add(number: int) -> None:
            before = total[0]
            with lock:
                order.append(number)
            total[0] = before + number

        with interleave_test.no_interleave():
            tasks = [interleave_test.spawn(add, number) for number in (1, 2, 4)]
            for task in tasks:
                task.join()
        ends.append((total[0], *order))

    def ends_of(strategy: object) -> list[tuple[int, ...]]:
        ends = list[tuple[int, ...]]()
        result = interleave_test.explore(
            lambda: played(ends),
            iterations=100_000,
            strategy=strategy,
            granularity="opcode",
            max_preemptions=1,
            include=[__file__],
        )
        assert result.exhausted
        assert len(ends) == result.schedules_run
        return sorted(ends)

    ours = ends_of(FewPreemptions(1, lambda file: file == __file__))

    assert len(set(ours)) > 10
    assert ours == ends_of("dfs")


def test_model_that_never_ends_in_a_way_it_states_has_failed() -> None:
    from stress.models.explore import Model, at_once, explore

    def play() -> str:
        signal = Signal()
        at_once(signal.has_listeners, lambda: signal.send(None))
        return "one way"

    explored = explore(Model("small", play, (), ("one way", "neither")))

    assert explored.failure is not None
    assert "neither" in explored.failure


def test_failure_of_a_model_is_reported_with_the_decisions_that_led_there() -> None:
    from stress.models.every import MODELS
    from stress.models.explore import explore

    (model,) = (model for model in MODELS if model.name == "connect/disconnect")
    (mutant,) = model.mutants

    with mutant.applied():
        explored = explore(model)

    assert explored.failure is not None
    assert "Broken" in explored.failure
    assert "last 25 of" in explored.failure


def test_mutant_that_fails_uninterrupted_is_none() -> None:
    from stress.models.every import MODELS
    from stress.models.explore import kill

    (model,) = (model for model in MODELS if model.name == "drain/complete")
    (mutant,) = (mutant for mutant in model.mutants if not mutant.races)

    assert kill(model, mutant)
    with pytest.raises(RuntimeError, match="fails uninterrupted"):
        kill(model, dataclasses.replace(mutant, races=True))


def test_model_that_takes_long_is_not_taken_for_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its runs counts as progress, though for what runs in it the clock stands still."""
    from stress import models

    armed = list[object]()
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *a, **k: armed.append(a))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: None)
    arguments = argparse.Namespace(only="connect/disconnect", mutants=False, hang=0.1, json=None)

    assert models.run(arguments) == 0

    assert len(armed) > 10
