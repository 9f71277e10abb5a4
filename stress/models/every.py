"""All models."""

from stress.models import fan_out, pool, registry

MODELS = (*registry.MODELS, *pool.MODELS, *fan_out.MODELS)
