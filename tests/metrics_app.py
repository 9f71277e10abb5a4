"""A WSGI application with metrics; ``test_prometheus`` serves it from several processes."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, multiprocess

from tsignals import Signal, WorkerPool, receiver
from tsignals.prometheus import instrument

FILES = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])

pool = WorkerPool(1, thread_name_prefix="shop")
order_placed = Signal(name="order_placed", executor=pool)
instrument()


@receiver(order_placed)
def send_mail(hold: bool, **named: Any) -> None:
    if hold:
        while not FILES.joinpath("go").exists():
            time.sleep(0.01)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return [generate_latest(registry)]
    order_placed.send_async(None, hold=environ["PATH_INFO"] == "/hold")
    return [str(os.getpid()).encode()]
