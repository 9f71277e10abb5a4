"""What the tests of the two middlewares share: a record of the signals of requests."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tsignals import Signal
from tsignals.http import got_request_exception, request_finished, request_started

SIGNALS = {
    "started": request_started,
    "exception": got_request_exception,
    "finished": request_finished,
}


class Heard(list[tuple[str, dict[str, Any]]]):
    """What was sent of requests, as (word, values), in the order in which it was heard."""

    def __call__(self, /, signal: Signal, **named: Any) -> None:
        [word] = [word for word, each in SIGNALS.items() if each is signal]
        self.append((word, named))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self]

    @property
    def outcomes(self) -> list[str]:
        return [named["outcome"] for word, named in self if word == "finished"]

    def one(self, word: str) -> dict[str, Any]:
        """The values of the one signal of that kind."""
        [named] = [named for each, named in self if each == word]
        return named


@contextlib.contextmanager
def hearing(sender: object = None, *words: str) -> Iterator[Heard]:
    """A record of what is sent meanwhile, of all three signals or of those named."""
    heard = Heard()
    with contextlib.ExitStack() as stack:
        for word in words or SIGNALS:
            stack.enter_context(SIGNALS[word].connect(heard, sender))
        yield heard


@contextlib.contextmanager
def executor_of_signals(executor: Any) -> Iterator[None]:
    """The signals of requests use ``executor`` meanwhile."""
    for signal in SIGNALS.values():
        signal.executor = executor
    try:
        yield
    finally:
        for signal in SIGNALS.values():
            signal.executor = None
