"""The executors that are compared, and what is done to all of them alike."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import tsignals
from stress.bench.libraries import Receiver, Sender
from stress.bench.measure import Statement
from stress.bench.together import PATIENCE

WORKERS = 4
OURS = {"tsignals": 10_000, "tsignals, unbounded": None, "tsignals, bounded": 1_000}


class RawQueue:
    """Threads behind a SimpleQueue, and nothing else: no futures, no errors, no bound."""

    def __init__(self, max_workers: int) -> None:
        self.queue: SimpleQueue[tuple[Callable[..., object], dict[str, Any]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"raw-{n}", daemon=True)
            for n in range(max_workers)
        ]

    def submit(self, function: Callable[..., object], **named: Any) -> None:
        self.queue.put((function, named))

    def _work(self) -> None:
        while (item := self.queue.get()) is not None:
            function, named = item
            function(**named)
            del item, function, named  # an idle thread holds on to nothing

    def __enter__(self) -> "RawQueue":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _ in self._threads:
            self.queue.put(None)
        for thread in self._threads:
            thread.join(PATIENCE)


class Arrivals:
    """Counts what has reached the receivers, the same way for every candidate."""

    def __init__(self) -> None:
        self._seen: list[None] = []
        self._expected = 0
        self._all = threading.Event()

    def expect(self, count: int) -> None:
        self._seen.clear()
        self._all.clear()
        self._expected = count

    def receivers(self, count: int) -> list[Callable[..., None]]:
        return [self._receiver() for _ in range(count)]

    def _receiver(self) -> Callable[..., None]:
        # Appending is atomic on every build, and the last one sees the full length.
        arrive, seen = self._seen.append, self._seen

        def receive(signal: object, sender: object, **named: object) -> None:
            arrive(None)
            if len(seen) >= self._expected:
                self._all.set()

        return receive

    def wait(self) -> None:
        if not self._all.wait(PATIENCE):
            raise TimeoutError(f"{len(self._seen)} of {self._expected} deliveries arrived")


@dataclass(frozen=True)
class FanOut:
    """One way to have the receivers called by other threads; ``{value}`` is what they get."""

    name: str
    executor: Any
    source: str
    names: Mapping[str, object]

    def statement(self, value: str = "1", **names: object) -> Statement:
        return Statement(self.name, self.source.format(value=value), **self.names, **names)


def fan_outs(
    stack: ExitStack, receivers: Sequence[Receiver], ours: Iterable[str] = OURS
) -> Iterator[FanOut]:
    """Every candidate over the same receivers, each with threads of its own."""
    peer = stack.enter_context(ThreadPoolExecutor(WORKERS))
    raw = stack.enter_context(RawQueue(WORKERS))
    common = {"receivers": receivers, "sender": Sender()}
    yield FanOut(
        "ThreadPoolExecutor",
        peer,
        "for r in receivers: submit(r, signal=signal, sender=sender, value={value})",
        {"submit": peer.submit, "signal": Sender(), **common},
    )
    yield FanOut(
        "SimpleQueue",
        raw,
        "for r in receivers: put((r, {{'signal': signal, 'sender': sender, 'value': {value}}}))",
        {"put": raw.queue.put, "signal": Sender(), **common},
    )
    for name in ours:
        pool = stack.enter_context(tsignals.WorkerPool(WORKERS, max_pending=OURS[name]))
        signal = tsignals.Signal(executor=pool)
        for receiver in receivers:
            signal.connect(receiver)
        source = "signal.send_async(sender, value={value})"
        yield FanOut(name, pool, source, {"signal": signal, **common})


@contextmanager
def held(executor: Any) -> Iterator[None]:
    """Keep every worker busy with nothing, so that what is sent meanwhile stays pending."""
    inside, let_go = threading.Barrier(WORKERS + 1), threading.Event()

    def wait() -> None:
        inside.wait(PATIENCE)
        let_go.wait(PATIENCE)

    for _ in range(WORKERS):
        executor.submit(wait)
    try:
        inside.wait(PATIENCE)
        yield
    finally:
        let_go.set()
