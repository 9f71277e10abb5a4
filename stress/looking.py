"""What looking costs: the map of a Django project, and a trace of 100,000 sends.

Each is measured in a process of its own. Bars: a map with 300 receivers takes two seconds after
the import; a trace takes 200 MB, and five seconds of a processor to be written.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stress._run import add_json, measured_alone, python, write_report
from stress.memory import resident_bytes
from tsignals import Signal, WorkerPool
from tsignals.inspecting import connections
from tsignals.tracing import trace

RECEIVERS = 300
SENDS = 100_000
Figures = dict[str, float]


def django_map(sends: int) -> Figures:
    """Django with its own apps, and receivers for each of their models' signals."""
    import django
    from django.apps import apps
    from django.conf import settings
    from django.db.models import signals

    names = "admin auth contenttypes sessions messages staticfiles".split()
    settings.configure(INSTALLED_APPS=[f"django.contrib.{name}" for name in names])
    django.setup()
    models = apps.get_models()
    kinds = (signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete)

    def make(n: int) -> Callable[..., None]:
        def receive(**named: object) -> None: ...

        receive.__qualname__ = f"receive_{n}"
        return receive

    for n in range(RECEIVERS):
        sender = models[n % len(models)]
        kinds[n % len(kinds)].connect(make(n), sender=sender, weak=False)
    began = time.perf_counter()
    found = connections("django.db.models.signals")
    seconds = time.perf_counter() - began
    count = sum(len(each["receivers"]) for each in found)
    if count < RECEIVERS:
        raise RuntimeError(f"the map shows {count} of {RECEIVERS} receivers")
    return {"receivers": count, "modules": len(sys.modules), "seconds": seconds}


def hear(**named: object) -> None: ...


def traced(sends: int, send: Callable[[int], object], wait: Callable[[], object]) -> Figures:
    def record(count: int) -> Any:
        with trace() as found:
            for n in range(count):
                send(n)
        wait()
        return found

    record(100)
    gc.collect()
    before = resident_bytes()
    began = time.perf_counter()
    found = record(sends)
    recorded = time.perf_counter() - began
    gc.collect()
    size = resident_bytes() - before
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        began, began_cpu = time.perf_counter(), time.process_time()
        found.to_chrome(path)
        written, written_cpu = time.perf_counter() - began, time.process_time() - began_cpu
        file_size = path.stat().st_size
    if len(found.sends) != sends or any(not each.calls[0].outcome for each in found.sends):
        raise RuntimeError("the trace is not whole")
    return {
        "megabytes": size / 1e6,
        "record_seconds": recorded,
        "write_seconds": written,
        "write_cpu_seconds": written_cpu,
        "file_megabytes": file_size / 1e6,
    }


def trace_of_sends(sends: int) -> Figures:
    signal = Signal(name="sent")
    signal.connect(hear)
    return traced(sends, lambda n: signal.send(None, n=n), lambda: None)


def trace_of_deliveries(sends: int) -> Figures:
    with WorkerPool(2, max_pending=1_000) as pool:
        signal = Signal(name="sent", executor=pool)
        signal.connect(hear)
        return traced(sends, lambda n: signal.send_async(None, n=n), pool.drain)


MEASURED = {each.__name__: each for each in (django_map, trace_of_sends, trace_of_deliveries)}
BARS = {"seconds": 2.0, "megabytes": 200.0, "write_cpu_seconds": 5.0}


def run(arguments: argparse.Namespace) -> int:
    if arguments.only:
        print(json.dumps(MEASURED[arguments.only](arguments.sends)))
        return 0
    print(f"looking: {python()}", flush=True)
    report = {}
    missed = 0
    for name in MEASURED:
        figures = measured_alone("looking", name, "--sends", str(arguments.sends))
        report[name] = figures
        over = [key for key, bar in BARS.items() if figures.get(key, 0) > bar]
        missed += len(over)
        said = ", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in figures.items())
        print(
            f"{name:<20} {said}{'  OVER THE BAR: ' + ', '.join(over) if over else ''}", flush=True
        )
    write_report(arguments.json, {"python": python(), **report, "missed": missed})
    return 1 if missed else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("looking", help="what a map and a trace cost")
    parser.add_argument("--only", choices=MEASURED, help="one of them, in this process, as JSON")
    parser.add_argument("--sends", type=int, default=SENDS, help="in a trace (%(default)s)")
    add_json(parser)
    parser.set_defaults(run=run)
