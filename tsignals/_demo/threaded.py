"""A threaded web server on a free loopback port, with signals in its request handler.

Clients make the same requests twice. First the slow receiver runs inside the request, then
``send_async`` hands it to a worker pool. What happens is counted where it happens and again where
it is reported, and the run fails if the two differ.
"""

import enum
import logging
import math
import shutil
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tsignals import Failure, Outcomes, Signal, WorkerPool, receiver_failed

SUMMARY = (
    "a real threaded web server, with its slow receiver inside the request and in the background"
)
NOTIFY_SECONDS = 0.020
PAUSE_SECONDS = 0.010
"""Between two requests of a client. Without it the clients, which share the server's processor,
would wait for each other more than for the receivers."""
AUDIT_FAILS, NOTIFY_FAILS = 100, 250
"""Every which audit and notification is made to fail."""
PATIENCE = 10.0
"""Seconds without any progress after which what is missing counts as lost."""

request_started = Signal(["number"])
request_finished = Signal(["number"])


class Desk(enum.Enum):
    """The part of the server that speaks: each receiver listens to one of them, as a sender."""

    ACCESS = "access"
    AUDIT = "audit"
    MAIL = "mail"


class Refused(Exception):
    """A receiver could not do its work for the request of this number."""

    @property
    def number(self) -> int:
        return int(self.args[0])


class Run:
    """All requests once, and the books: each list is written at the place it speaks of.

    Many threads append to the lists; every append is one atomic step.
    """

    def __init__(self, name: str, requests: int, pool: WorkerPool | None) -> None:
        self.name = name
        self.requests = requests
        self.pool = pool  # None: the slow receiver runs inside the request
        self.seconds = 0.0
        self.answered_at = self.ended_at = 0.0  # the last request; the last notification
        self.drained = False
        self.stopping = False
        # The clients:
        self.todo = deque(range(1, requests + 1))
        self.asked: list[int] = []
        self.latencies: list[float] = []
        self.unanswered: list[str] = []
        # The receivers:
        self.logged: list[int] = []
        self.audited: list[int] = []
        self.audits_refused: list[int] = []
        self.notified: list[int] = []
        self.notices_refused: list[int] = []
        # The senders, and what tsignals tells of failures:
        self.audits: list[tuple[int, Outcomes]] = []
        self.notices: list[tuple[int, Any]] = []
        self.told: list[int] = []
        self.log_records: list[logging.LogRecord] = []
        self.backlogs: list[int] = []  # after each send, and last when all requests were answered
        # Filled in at the end, from ``audits`` and ``notices``:
        self.audit_errors: list[int] = []
        self.done: list[int] = []
        self.failed: list[int] = []

    # --- receivers

    def write_access_log(self, number: int, **_: object) -> None:
        self.logged.append(number)

    def audit(self, number: int, **_: object) -> None:
        """Fails now and then."""
        if number % AUDIT_FAILS == 0:
            self.audits_refused.append(number)
            raise Refused(number, "the auditor is out")
        self.audited.append(number)

    def notify(self, number: int, **_: object) -> None:
        """Slow, and fails now and then."""
        time.sleep(NOTIFY_SECONDS)
        self.ended_at = time.perf_counter()
        if number % NOTIFY_FAILS == 0:
            self.notices_refused.append(number)
            raise Refused(number, "the mailbox is full")
        self.notified.append(number)

    def hear_of_failure(self, failure: Failure, **_: object) -> None:
        if isinstance(failure.exception, Refused):
            self.told.append(failure.exception.number)

    # --- the three ways to send

    def handle(self, number: int) -> None:
        """What the server does for one request."""
        request_started.send(Desk.ACCESS, number=number)
        self.audits.append((number, request_finished.send_robust(Desk.AUDIT, number=number)))
        if self.pool is not None:
            self.notices.append((number, request_finished.send_async(Desk.MAIL, number=number)))
            self.note_backlog()
        else:
            self.notices.append((number, request_finished.send_robust(Desk.MAIL, number=number)))

    def note_backlog(self) -> None:
        """How many notifications have been sent and not ended."""
        ended = len(self.notified) + len(self.notices_refused)  # first: it only grows
        self.backlogs.append(len(self.notices) - ended)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect the receivers, and keep what logger ``tsignals`` says."""

        def keep(record: logging.LogRecord) -> bool:
            self.log_records.append(record)
            return False  # the tracebacks of failures made on purpose would hide the table

        logger = logging.getLogger("tsignals")
        with ExitStack() as stack:
            for connection in (
                request_started.connect(self.write_access_log, Desk.ACCESS),
                request_finished.connect(self.audit, Desk.AUDIT),
                request_finished.connect(self.notify, Desk.MAIL),
                receiver_failed.connect(self.hear_of_failure, request_finished),
            ):
                stack.enter_context(connection)
            request_finished.executor = self.pool
            stack.callback(setattr, request_finished, "executor", None)
            logger.addFilter(keep)
            stack.callback(logger.removeFilter, keep)
            yield

    # --- at the end

    def settle(self) -> None:
        """Sort what was sent into done and failed; what is neither shows up in ``losses``."""
        for number, outcomes in self.audits:
            self.audit_errors.extend(number for _ in outcomes.errors)
        for number, notices in self.notices:
            if isinstance(notices, Outcomes):
                failed = len(notices.errors)
                done = len(notices) - failed
            else:
                ended = [delivery for _, delivery in notices if delivery.done()]
                failed = sum(d.cancelled() or d.exception() is not None for d in ended)
                done = len(ended) - failed
            self.done.extend([number] * done)
            self.failed.extend([number] * failed)

    def losses(self) -> list[str]:
        """What does not add up, in words; empty when nothing was lost."""
        asked = self.asked
        found = [f"{self.name}: a request failed: {error}" for error in self.unanswered[:3]]
        for what, ought, is_ in (
            ("answers", len(asked), len(self.latencies)),
            ("access log entries", asked, self.logged),
            ("audits", asked, self.audited + self.audits_refused),
            ("audit errors collected", self.audits_refused, self.audit_errors),
            ("notifications sent", asked, [number for number, _ in self.notices]),
            ("notifications done or failed", asked, self.done + self.failed),
            ("notifications done", self.notified, self.done),
            ("notifications failed", self.notices_refused, self.failed),
            ("failures told", self.audits_refused + self.notices_refused, self.told),
            ("failures logged", len(self.told), len(self.log_records)),
        ):
            if difference := differ(ought, is_):
                found.append(f"{self.name}: {what}: {difference}")
        if self.pool is not None:
            stats = self.pool.stats()
            counted = (stats.submitted, stats.completed, stats.failed)
            if counted != (len(asked), len(self.done), len(self.failed)):
                found.append(f"{self.name}: the pool counted otherwise: {stats}")
        return found


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for its handlers
    request_queue_size = 128
    demo_run: Run


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    timeout = PATIENCE
    server: Server

    def do_GET(self) -> None:
        self.server.demo_run.handle(int(self.path.rpartition("/")[2]))
        body = b"thank you\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the access log is a receiver."""


def client(run: Run, port: int) -> None:
    """Make requests on one connection, one after the other, until none is left to make."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        while not run.stopping:
            try:
                number = run.todo.popleft()
            except IndexError:
                return
            run.asked.append(number)
            started = time.perf_counter()
            connection.request("GET", f"/order/{number}")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise HTTPException(f"status {response.status}")
            run.latencies.append(time.perf_counter() - started)
            time.sleep(PAUSE_SECONDS)
    except (OSError, HTTPException) as error:
        run.unanswered.append(f"request {number}: {error!r}")
    finally:
        connection.close()


class Progress:
    """One live line on a terminal; elsewhere a plain line for each quarter of the way."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.quarter = -1

    def show(self, run: Run, what: str, count: int, of: int, more: str = "") -> None:
        quarter = 4 * count // max(of, 1)
        if self.live:
            bar = "#" * (20 * count // max(of, 1))
            line = f"{run.name:<10} [{bar:.<20}] {count:,} of {of:,} {what} {more}"
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="", flush=True)
        elif quarter != self.quarter:
            print(f"{run.name}: {count:,} of {of:,} {what} {more}".rstrip(), flush=True)
        self.quarter = quarter

    def end(self) -> None:
        self.quarter = -1
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{'':<{width}}\r", end="", flush=True)


def make_requests(run: Run, threads: int, progress: Progress) -> None:
    """Start the server and the clients, and wait for the last answer."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.demo_run = run
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), name="demo-server")
        serving.start()
        try:
            started = time.perf_counter()
            clients = [
                threading.Thread(
                    target=client, args=(run, server.server_port), name=f"demo-client-{n}"
                )
                for n in range(threads)
            ]
            for each in clients:
                each.start()
            for each in clients:
                while each.is_alive():
                    each.join(0.1)
                    run.seconds = time.perf_counter() - started
                    answers = len(run.latencies)
                    rate = f"({answers / run.seconds:,.0f}/s)"
                    progress.show(run, "requests answered", answers, run.requests, rate)
            run.note_backlog()
            run.answered_at = time.perf_counter()
        finally:
            run.stopping = True
            server.shutdown()
            serving.join()


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


def percentile(seconds: list[float], percent: int) -> str:
    """The nearest rank, in milliseconds."""
    ranked = sorted(seconds)
    return f"{1000 * ranked[math.ceil(len(ranked) * percent / 100) - 1]:.1f} ms" if ranked else "-"


def differ(ought: int | list[int], is_: int | list[int]) -> str:
    """How two counts, or two collections of request numbers, differ; empty when they do not."""
    if isinstance(ought, int) or isinstance(is_, int):
        return "" if ought == is_ else f"{ought:,} expected, {is_:,} found"
    lost, extra = Counter(ought) - Counter(is_), Counter(is_) - Counter(ought)
    return ", ".join(
        f"{counted.total():,} {what} (request {', '.join(map(str, sorted(counted)[:5]))})"
        for what, counted in (("lost", lost), ("too many", extra))
        if counted
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


def backlog(run: Run, count: Callable[[list[int]], int]) -> str:
    return f"{count(run.backlogs):,}" if run.pool is not None else "-"


def drain_time(run: Run) -> str:
    """From the last answer to the end of the last notification."""
    if not run.drained:
        return "-"
    return f"{max(0.0, run.ended_at - run.answered_at):.2f} s"


def table(runs: list[Run]) -> str:
    """The figures of all runs, a column each."""
    rows: list[tuple[str, list[str]]] = [
        ("", [run.name for run in runs]),
        ("requests", [f"{len(run.asked):,}" for run in runs]),
        ("requests/s", [f"{len(run.latencies) / (run.seconds or 1):,.0f}" for run in runs]),
        ("response time p50", [percentile(run.latencies, 50) for run in runs]),
        ("response time p99", [percentile(run.latencies, 99) for run in runs]),
        ("notifications sent", [f"{len(run.notices):,}" for run in runs]),
        ("  = done", [f"{len(run.done):,}" for run in runs]),
        (
            f"  + failed (made to fail: every {NOTIFY_FAILS}th)",
            [f"{len(run.failed):,}" for run in runs],
        ),
        (
            f"audit errors (made to fail: every {AUDIT_FAILS}th)",
            [f"{len(run.audit_errors):,}" for run in runs],
        ),
        ("backlog of notifications, highest", [backlog(run, max) for run in runs]),
        ("  at the last answer", [backlog(run, lambda counts: counts[-1]) for run in runs]),
        ("  time to drain it", [drain_time(run) for run in runs]),
    ]
    return "\n".join(
        f"{name:<40}" + "".join(f"{value:>14}" for value in values) for name, values in rows
    )


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
