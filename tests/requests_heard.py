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


def assert_told_in_full(heard: Heard, status: int, **values: Any) -> None:
    """A request that went well: started, then finished, both with these very ``values``."""
    assert heard.words == ["started", "finished"]
    for _, named in heard:
        for name, value in values.items():
            assert named[name] is value or (isinstance(value, str) and named[name] == value)
    finished = heard.one("finished")
    assert finished["status"] == status
    assert finished["outcome"] == "finished"
    assert finished["seconds"] >= 0
    assert finished.keys() - heard.one("started").keys() == {"status", "seconds", "outcome"}


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
