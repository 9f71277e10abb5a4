"""What a send to ten receivers costs while somebody observes, against the same send unobserved."""

from collections.abc import Iterator

import tsignals
from stress.bench.libraries import Sender, functions
from stress.bench.measure import Group, Scale, Statement, Subject
from tsignals.observing import Event, Observer, observe

COUNT = 10


class Sent(Observer):
    def sent(self, event: Event) -> None:
        pass


class All(Sent):
    started = ended = dropped = refused = retried = Sent.sent


class Observed(Statement):
    """A statement that is timed while ``observer`` observes."""

    observer: Observer

    def run(self, number: int) -> float:
        with observe(self.observer):
            super().run(50)  # plans are made anew, and calls compiled
            return super().run(number)


def subjects(scale: Scale) -> Iterator[Subject]:
    yield Subject("observed", [Group(f"observed, {COUNT}", lambda _stack: _observed())])


def _observed() -> Iterator[Statement]:
    signal, receivers = tsignals.Signal(), functions(COUNT)
    for receiver in receivers:
        signal.connect(receiver)
    source = "signal.send(sender, a=1)"
    names = {"signal": signal, "sender": Sender(), "kept": receivers}
    yield Statement("tsignals, nobody", source, **names)
    for name, observer in {"empty": Observer(), "sent": Sent(), "all": All()}.items():
        statement = Observed(f"tsignals, {name}", source, **names)
        statement.observer = observer
        yield statement
