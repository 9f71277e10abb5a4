"""All models."""

from stress.models import (
    batch,
    deadlines,
    default,
    helping,
    lanes,
    once,
    pool,
    prepared,
    registry,
    retry,
)

MODELS = (
    *registry.MODELS,
    *once.MODELS,
    *default.MODELS,
    *pool.MODELS,
    *helping.MODELS,
    *prepared.MODELS,
    *batch.MODELS,
    *deadlines.MODELS,
    *retry.MODELS,
    *lanes.MODELS,
)
