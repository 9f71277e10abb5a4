"""The app of the project: its name, and the label of its tables."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "django_project"
    label = "shop"
