"""Every interleaving of two calls that meet, for the pairs that are quickly gone through.

``python -m stress models`` goes through all of them.
"""

import pytest

from stress.models import why_not

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(600),
    pytest.mark.unmeasured,
]

QUICK = ("connect/connect", "connect/disconnect", "disconnect/disconnect/death", "cancel/run")


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


def test_names_of_models_are_told_apart() -> None:
    from stress.models.every import MODELS

    names = [model.name for model in MODELS]

    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)
