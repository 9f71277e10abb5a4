"""A threaded web server on a free loopback port, with signals in its request handler.

Clients make the same requests twice. First the slow receiver runs inside the request, then
``send_async`` hands it to a worker pool. What happens is counted where it happens and again where
it is reported, and the run fails if the two differ.
"""

import signal
import sys
import time

from tsignals import WorkerPool
from tsignals._demo.bookkeeping import AUDIT_FAILS, NOTIFY_FAILS, NOTIFY_SECONDS, Run
from tsignals._demo.screen import Progress, table
from tsignals._demo.web import PATIENCE, PAUSE_SECONDS, make_requests

SUMMARY = (
    "a real threaded web server, with its slow receiver inside the request and in the background"
)


def parameters(requests: int, threads: int, workers: int) -> str:
    """What is going to be measured, before it is."""
    pause, slow = 1000 * PAUSE_SECONDS, 1000 * NOTIFY_SECONDS
    rate = workers / NOTIFY_SECONDS
    return f"""\
A web server on 127.0.0.1, with a thread for each connection, gets the same requests twice.
  requests    {requests:,}, by {threads} clients; each waits {pause:.0f} ms after an answer
  receivers   an access log, an audit, and a notification that takes {slow:.0f} ms
  inline      the notification runs inside the request
  background  it runs in a pool; workers: {workers}, which can do {rate:,.0f} in a second
  on purpose  every {AUDIT_FAILS}th audit and every {NOTIFY_FAILS}th notification fails
"""


def drain(run: Run, pool: WorkerPool, progress: Progress) -> None:
    """Wait until every notification has ended, or nothing has moved for ``PATIENCE`` seconds."""
    ended, since = -1, time.monotonic()
    while not pool.drain(timeout=0.1):
        stats = pool.stats()
        if stats.completed + stats.failed != ended:
            ended, since = stats.completed + stats.failed, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            return
        progress.show(run, "notifications ended", ended, stats.submitted)
    run.drained = True


def run(requests: int, threads: int, workers: int) -> int:
    """Run the demo and return the exit status: 0, 1 when something was lost, 130 after Ctrl-C."""
    runs: list[Run] = []
    progress = Progress()
    interrupted = False

    def stop(*_: object) -> None:
        # No exception, but a flag: clients finish their request, and the pool is drained.
        nonlocal interrupted
        interrupted = True
        for each in runs:
            each.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second one is for real

    former = signal.signal(signal.SIGINT, stop)
    pool = WorkerPool(workers, thread_name_prefix="demo-worker")
    try:
        print(parameters(requests, threads, workers), flush=True)
        for name, executor in (("inline", None), ("background", pool)):
            if interrupted:
                break
            current = Run(name, requests, executor)
            runs.append(current)
            current.stopping = interrupted  # it may have come in between
            with current.connected():
                make_requests(current, threads, progress)
                if executor is not None:
                    drain(current, executor, progress)
            current.settle()
            progress.end()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # what is left was given up, or cut off
        signal.signal(signal.SIGINT, former)
    print(f"\n{table(runs)}\n")
    losses = [loss for each in runs for loss in each.losses()]
    if losses:
        print("It does not add up:", *losses, sep="\n  ", file=sys.stderr)
        return 1
    if interrupted:
        print("Interrupted. What was sent adds up.")
        return 130
    print("Everything that was sent adds up.")
    return 0
