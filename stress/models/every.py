"""All models."""

from stress.models import pool, registry

MODELS = (*registry.MODELS, *pool.MODELS)
