"""All models."""

from stress.models import batch, deadlines, default, lanes, once, pool, prepared, registry, retry

MODELS = (
    *registry.MODELS,
    *once.MODELS,
    *default.MODELS,
    *pool.MODELS,
    *prepared.MODELS,
    *batch.MODELS,
    *deadlines.MODELS,
    *retry.MODELS,
    *lanes.MODELS,
)
