"""Several threads let go at the same moment."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PATIENCE = 120.0  # seconds after which a wait is taken for a hang


@dataclass(frozen=True)
class Span:
    """When the first of the threads began and when the last one ended, in seconds."""

    began: float
    ended: float


def together(jobs: Sequence[Callable[[], object]]) -> Span:
    """Run each job in a thread of its own, all from the same moment on."""
    start = threading.Barrier(len(jobs))
    spans: list[Span] = []

    def run(job: Callable[[], object]) -> None:
        start.wait(PATIENCE)
        began = time.perf_counter()
        job()
        spans.append(Span(began, time.perf_counter()))

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if len(spans) < len(jobs):
        raise RuntimeError("a thread of the benchmark failed or hangs")
    return Span(min(span.began for span in spans), max(span.ended for span in spans))
