"""All models."""

from stress.models import registry

MODELS = registry.MODELS
