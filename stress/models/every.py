"""All models."""

from stress.models import fan_out, pool, prepared, registry

MODELS = (*registry.MODELS, *pool.MODELS, *prepared.MODELS, *fan_out.MODELS)
