"""What a send costs in the thread that sends, against a loop that only calls the receivers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FunctionType

from stress.bench.libraries import Library, Receiver, Sender, functions, installed, methods
from stress.bench.measure import Case, Group, Scale, Statement, Subject

COUNTS = (1, 10, 100)
CONNECTED = (10, 1_000, 10_000)
ONE = "a=1"
FIVE = "a=1, b=2, c=3, d=4, e=5"
OTHERS = 100

COMPREHENSION = "[(r, r(signal=signal, sender=sender, {named})) for r in receivers]"
LOOP = """
responses = []
for r in receivers:
    responses.append((r, r(signal=signal, sender=sender, {named})))
"""
CATCHING_LOOP = """
responses = []
for r in receivers:
    try:
        response = r(signal=signal, sender=sender, {named})
    except Exception as error:
        response = error
    responses.append((r, response))
"""


def subjects(scale: Scale) -> Iterator[Subject]:
    yield Subject("send", list(_send_groups()))
    yield Subject(
        "connect",
        [_group(f"connect + disconnect, {n:,}", _change, scale=scale, count=n) for n in CONNECTED],
    )


def _send_groups() -> Iterator[Group]:
    yield _group("nobody connected", _to_nobody)
    yield _group("sender miss", _to_nobody, others=OTHERS)
    for n in COUNTS:
        for make in (functions, methods):
            for held in ("weak", "strong"):
                name = f"{held} {make.__name__}, {n}"
                yield _group(name, _to_receivers, count=n, make=make, weak=held == "weak")
        yield _group(f"sender hit, {n}", _to_receivers, count=n, others=OTHERS)
        yield _group(f"five keyword arguments, {n}", _to_receivers, count=n, named=FIVE)
        yield _group(f"send_robust, {n}", _robustly, count=n)
    yield _group("send_robust, 1 of 10 raises", _robustly, count=10, raising=1)
    yield _group("alternating keywords, 1", _alternating)
    yield _group("ten signals in turn, 10 each", _in_turn)


def _group(name: str, build: Callable[..., Iterable[Case]], **how: object) -> Group:
    return Group(name, lambda _stack: build(**how))


def _to_nobody(others: int = 0) -> Iterator[Statement]:
    sender = Sender()
    yield Statement("empty send", f"empty.send(sender, {ONE})", empty=Sender(), sender=sender)
    for library in installed():
        if others and not library.filters_senders:
            continue
        signal = library.signal()
        kept = _connect_others(library, signal, others)
        yield _send(library, signal, sender, ONE, kept)


def _to_receivers(
    count: int,
    make: Callable[..., tuple[Receiver, ...]] = functions,
    weak: bool = True,
    named: str = ONE,
    others: int = 0,
) -> Iterator[Statement]:
    sender = Sender()
    yield from _floor(make(count), sender, named)
    for library in installed():
        if not library.can_hold(methods=make is methods, weak=weak):
            continue
        if (others and not library.filters_senders) or (named != ONE and not library.any_keywords):
            continue
        signal = library.signal()
        receivers = make(count, library.shape)
        for receiver in receivers:
            if others:
                library.connect(signal, receiver, weak=weak, sender=sender)
            else:
                library.connect(signal, receiver, weak=weak)
        kept = receivers, _connect_others(library, signal, others)
        yield _send(library, signal, sender, named, kept)


def _floor(receivers: Sequence[Receiver], sender: object, *shapes: str) -> Iterator[Statement]:
    for name, source in (("comprehension", COMPREHENSION), ("loop", LOOP)):
        yield Statement(
            name,
            "\n".join(source.format(named=named) for named in shapes),
            len(shapes),
            receivers=tuple(receivers),
            signal=Sender(),
            sender=sender,
        )


def _send(library: Library, signal: object, sender: object, named: str, kept: object) -> Statement:
    """``kept`` lives as long as the statement: nobody else holds what is connected weakly."""
    source = library.send.format(named=named)
    return Statement(library.name, source, signal=signal, sender=sender, kept=kept, **library.names)


def _connect_others(library: Library, signal: object, count: int) -> object:
    """Connect as many receivers to a sender of its own each."""
    senders = [Sender() for _ in range(count)]
    receivers = functions(count, library.shape)
    for sender, receiver in zip(senders, receivers, strict=True):
        library.connect(signal, receiver, sender=sender)
    return senders, receivers


def _alternating() -> Iterator[Statement]:
    """Sends in turn with other names: a call made for one shape is of no use to the next."""
    shapes = ONE, "b=1, c=2"
    sender = Sender()
    yield from _floor(functions(1), sender, *shapes)
    for library in installed():
        if library.any_keywords and library.can_hold(methods=False, weak=True):
            signal = library.signal()
            receivers = functions(1, library.shape)
            library.connect(signal, receivers[0])
            yield Statement(
                library.name,
                "\n".join(library.send.format(named=named) for named in shapes),
                len(shapes),
                signal=signal,
                sender=sender,
                kept=receivers,
                **library.names,
            )


def _in_turn() -> Iterator[Statement]:
    """Signals of all sorts share the library's code: functions and methods, weak and strong."""
    sender = Sender()
    kinds = [(make, weak) for make in (functions, methods) for weak in (True, False)]
    sorts = [kinds[n % len(kinds)] for n in range(10)]
    tuples = [make(10) for make, _ in sorts]
    for name, source in (("comprehension", COMPREHENSION), ("loop", LOOP)):
        inner = source.format(named=ONE).replace("\n", "\n    ")
        yield Statement(
            name,
            f"for receivers in tuples:\n    {inner}",
            len(sorts),
            tuples=tuples,
            signal=Sender(),
            sender=sender,
        )
    for library in installed():
        if not all(library.can_hold(methods=make is methods, weak=weak) for make, weak in sorts):
            continue
        signals = [library.signal() for _ in sorts]
        kept = [make(10, library.shape) for make, _ in sorts]
        for signal, receivers, (_, weak) in zip(signals, kept, sorts, strict=True):
            for receiver in receivers:
                library.connect(signal, receiver, weak=weak)
        yield Statement(
            library.name,
            f"for signal in signals:\n    {library.send.format(named=ONE)}",
            len(sorts),
            signals=signals,
            sender=sender,
            kept=kept,
            **library.names,
        )


def _raises(signal: object, sender: object, **named: object) -> None:
    raise ValueError("this receiver always raises")


def _robustly(count: int, raising: int = 0) -> Iterator[Statement]:
    def receivers() -> tuple[Receiver, ...]:
        bad = (FunctionType(_raises.__code__, globals()) for _ in range(raising))
        return (*functions(count - raising), *bad)

    sender = Sender()
    if raising:
        source = CATCHING_LOOP.format(named=ONE)
        yield Statement("floor", source, receivers=receivers(), signal=Sender(), sender=sender)
    else:
        yield from _floor(receivers(), sender, ONE)
    for library in installed():
        if library.send_robust is None:
            continue
        signal = library.signal()
        kept = receivers()
        for receiver in kept:
            library.connect(signal, receiver)
        source = library.send_robust.format(named=ONE)
        yield Statement(library.name, source, signal=signal, sender=sender, kept=kept)


def _change(scale: Scale, count: int) -> Iterator[Statement]:
    """Connect one receiver more, and disconnect it again."""
    for library in installed():
        if count == CONNECTED[-1] and library.slow_to_fill and not scale.slow_peers:
            continue
        signal = library.signal()
        *kept, receiver = functions(count + 1, library.shape)
        for other in kept:
            library.connect(signal, other)
        yield Statement(
            library.name,
            library.change,
            signal=signal,
            receiver=receiver,
            kept=kept,
            **library.names,
        )
