"""One connection: what joins a receiver to a signal, and the handle a user gets for it."""

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

from tsignals._base.definition import for_signal, name_of
from tsignals._base.identity import SameWhenCopied, identity
from tsignals._base.retry import Retry
from tsignals._base.watches import Watch
from tsignals._calling.tracking import Gate
from tsignals._calling.types import Ordered, Receiver
from tsignals._calling.waits import check_wait, refuse_on_its_loop, wait_for
from tsignals._registry.once import Once
from tsignals._registry.references import Hold, SenderHold, Strong

Wait = bool | float
"""How long to wait: True for ever, a number that many seconds (also 0 and 1), False not at all."""


class Options:
    """What was agreed on at ``connect`` beyond the receiver; most connections share one."""

    __slots__ = (
        "dispatch_uid",
        "gate",
        "is_async",
        "on_loop",
        "once",
        "ordered",
        "priority",
        "retry",
        "sender",
        "sender_id",
        "wrapped",
    )

    def __init__(
        self,
        *,
        sender: SenderHold | None = None,
        sender_id: int = 0,
        dispatch_uid: Hashable = None,
        priority: int = 0,
        ordered: Ordered = False,
        once: Once | None = None,
        retry: Retry | None = None,
        is_async: bool = False,
        gate: Gate | None = None,
        on_loop: bool = False,
        wrapped: bool = False,
    ) -> None:
        self.sender: SenderHold | None = sender
        self.sender_id: int = sender_id
        self.dispatch_uid: Hashable = dispatch_uid
        self.priority: int = priority
        self.ordered: Ordered = ordered
        self.once: Once | None = once
        self.retry: Retry | None = retry
        self.is_async: bool = is_async
        self.gate: Gate | None = gate
        self.on_loop: bool = is_async or on_loop  # send_async runs it on the pool's event loop
        self.wrapped: bool = wrapped  # a worker calls what is in it

    def difference(self, other: "Options") -> str | None:
        """The first option that these have and ``other`` has not, as it is written."""
        if self.priority != other.priority:
            return f"priority={self.priority}"
        if identity(self.ordered) != identity(other.ordered):  # a key may be any object
            return f"ordered={name_of(self.ordered) if callable(self.ordered) else self.ordered}"
        if (self.once is None) != (other.once is None):
            return f"once={self.once is not None}"
        if self.retry != other.retry:
            return f"retry={self.retry}"
        if (self.gate is None) != (other.gate is None):
            return f"tracked={self.gate is not None}"
        return None


PLAIN = Options()


class Shows(Protocol):
    """Who is connected at one moment."""

    def shows(self, connection: "Connection") -> bool: ...


class Home(Protocol):
    """The registry of a signal, as its connections see it."""

    def signal(self) -> object: ...

    def current(self) -> Shows: ...

    def discard(self, key: Hashable) -> "Connection | None": ...


class Connection(SameWhenCopied):
    """A receiver's connection to a signal, as ``Signal.connect`` returns it.

    Dropping this handle does not disconnect. As a context manager it disconnects on exit.

    Thread safety: everything may be used from any thread.
    """

    # Few and small: there is one of these for each receiver.
    __slots__ = ("_hold", "_key", "_options", "_registry")

    _watch: Watch | None = None  # in place of a connection, a send that is observed has a Watch

    def __init__(
        self, registry: "Callable[[], Home | None]", key: Hashable, hold: Hold, options: Options
    ) -> None:
        self._registry = registry
        self._key = key
        self._hold = hold
        self._options = options

    @property
    def receiver(self) -> Receiver | None:
        """The receiver, or ``None`` once it is dead."""
        return self._hold()

    @property
    def sender(self) -> Any:
        """The sender it was connected to; ``None`` when it hears every sender, or once dead."""
        held = self._options.sender
        return None if held is None else held()

    @property
    def dispatch_uid(self) -> Any:
        """The ``dispatch_uid`` given to ``connect``, or ``None``."""
        return self._options.dispatch_uid

    @property
    def priority(self) -> int:
        """The ``priority`` given to ``connect``; higher is called first."""
        return self._options.priority

    @property
    def weak(self) -> bool:
        """Whether the receiver is held weakly."""
        return not isinstance(self._hold, Strong)

    @property
    def ordered(self) -> Ordered:
        """Whether ``send_async`` runs this receiver's deliveries one at a time, in send order.

        A function: those for which it gives the same value.
        """
        return self._options.ordered

    @property
    def once(self) -> bool:
        """Whether the receiver is called by one send only, which disconnects it first."""
        return self._options.once is not None

    @property
    def retry(self) -> Retry | None:
        """Which failures of a delivery are tried again, as given to ``connect``."""
        return self._options.retry

    @property
    def tracked(self) -> bool:
        """Whether ``disconnect(wait=...)`` can wait until the receiver no longer runs."""
        return self._options.gate is not None

    @property
    def connected(self) -> bool:
        """Whether a send that starts now would call the receiver."""
        registry = self._registry()
        if registry is None or not self._alive or not registry.current().shows(self):
            return False
        return self._options.once is None or self._options.once.claimed_by is None

    @property
    def _alive(self) -> bool:
        """Whether receiver and sender both are; says nothing about being connected."""
        held = self._options.sender
        return self._hold() is not None and (held is None or held() is not None)

    def _pin(self) -> tuple[object, object] | None:
        """Receiver and sender, which live as long as this is held; ``None`` if one is dead."""
        receiver, sender = self._hold(), self.sender
        if receiver is None or (sender is None and self._options.sender is not None):
            return None
        return receiver, sender

    def disconnect(self, wait: Wait = False) -> bool:
        """Remove this connection; return whether this call did it.

        It acts on this connection only: if its key was connected anew, the new one stays.

        Sends that start after it has returned do not call the receiver. A send under way, and
        deliveries that are queued already, still may. Where the connection is ``tracked`` they do
        not: the send skips the receiver, and the deliveries are cancelled.

        wait: ``tracked=True`` connections only: then wait until the receiver no longer runs in
            any thread. ``True``: for ever; a number: so many seconds. Calls that could only end
            after this wait, its own above all, are left out.

        Raises, before anything changes: ``ValueError`` for ``wait`` on an untracked connection
        or below zero; ``TypeError`` for what is no number; ``RuntimeError`` on a thread whose
        event loop runs a call to wait for, and in a finalizer or signal handler that has
        interrupted tsignals. Raises ``TimeoutError`` when the time is up; the connection is gone.
        """
        gate = self._options.gate
        check_wait(wait, tracked=gate is not None)
        if gate is not None and wait is not False:
            refuse_on_its_loop(gate)
        registry = self._registry()
        pin = self._pin()  # what is alive now is so when it is removed
        removed = registry.discard(self._key) if registry is not None else None
        was_live = removed is not None and pin is not None
        del pin
        if gate is not None:
            gate.close()
            if wait is not False:
                wait_for([gate], wait)
        return was_live

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disconnect()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {self!r}: connect the receiver where it is to be called")

    def __repr__(self) -> str:
        receiver, registry = self.receiver, self._registry()
        what = "a dead receiver" if receiver is None else name_of(receiver)
        signal = None if registry is None else registry.signal()
        where = " for a dead signal" if signal is None else for_signal(signal)
        state = "connected" if self.connected else "disconnected"
        return f"<Connection of {what}{where}, {state}>"
