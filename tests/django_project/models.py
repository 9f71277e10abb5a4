"""What is saved: an order, and what a receiver writes about it."""

from django.db import models


class Order(models.Model):
    name = models.CharField(max_length=40)


class Mail(models.Model):
    """What a receiver writes: that it has heard of an order."""

    order = models.CharField(max_length=40)
