"""Views that save an order and tell of it: one async, one inside a transaction."""

import threading
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.db.models.signals import post_save
from django.http import HttpRequest, JsonResponse
from django.utils import translation

from tsignals import Signal, get_default_executor
from tsignals.django import after_commit, on_commit

from .models import Mail, Order

placed = Signal(["name"], name="placed")
reported = Signal(["name"], name="reported")
HEARD: list[str] = []


def mail(name: str, **named: Any) -> tuple[int, int]:
    """A sync receiver of ``asend``: its thread, and how many orders its connection sees."""
    Mail.objects.create(order=name)
    return threading.get_ident(), Order.objects.filter(name=name).count()


async def count(name: str, **named: Any) -> int:
    return await Mail.objects.filter(order=name).acount()


@on_commit
def index(instance: Order, **named: Any) -> None:
    assert Order.objects.filter(pk=instance.pk).exists()
    HEARD.append(f"index {instance.name} {translation.get_language()}")


def report(name: str, **named: Any) -> None:
    HEARD.append(f"report {name} {translation.get_language()}")


placed.connect(mail)
placed.connect(count)
reported.connect(report)
post_save.connect(index, sender=Order)


async def place_async(request: HttpRequest) -> JsonResponse:
    name = request.GET["name"]
    await Order.objects.acreate(name=name)
    (_, (thread, seen)), (_, mails) = await placed.asend(None, name=name)
    here = await sync_to_async(threading.get_ident)()
    return JsonResponse({"same thread": thread == here, "seen": seen, "mails": mails})


def place(request: HttpRequest) -> JsonResponse:
    """Everything in one transaction, which is rolled back for ``?fail=1``."""
    name = request.GET["name"]
    answer = {}
    try:
        with transaction.atomic(), translation.override(request.GET.get("language", "en")):
            Order.objects.create(name=name)
            after_commit(reported, None, name=name)
            (_, (thread, seen)), (_, mails) = async_to_sync(placed.asend)(None, name=name)
            answer = {"same thread": thread == threading.get_ident(), "seen": seen, "mails": mails}
            if "fail" in request.GET:
                raise LookupError
    except LookupError:
        answer["left"] = Mail.objects.filter(order=name).count()
    return JsonResponse(answer)


def heard(request: HttpRequest) -> JsonResponse:
    """What was heard in the background, once that is at rest."""
    pool = get_default_executor()
    return JsonResponse(
        {"quiet": pool.drain(60), "heard": sorted(HEARD), "dropped": pool.stats().dropped}
    )
