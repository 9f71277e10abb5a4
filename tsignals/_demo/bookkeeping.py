"""One run of the demo: its receivers, its sends, and the books of both."""

import enum
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tsignals import Deliveries, Failure, Outcomes, Signal, WorkerPool, receiver_failed

NOTIFY_SECONDS = 0.020
AUDIT_FAILS, NOTIFY_FAILS = 100, 250
"""Every which audit and notification is made to fail."""

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
        self.notices: list[tuple[int, Outcomes | Deliveries]] = []
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
