"""Which send calls the receiver of a ``once`` connection: the first that claims it.

Everybody who would have the connection gone enters a claim, which is one step: a send right before
it calls the receiver, a send into an executor before it hands that anything, a disconnect right
after it has removed the connection. The first claim counts. A send that comes later leaves the
receiver out, and a disconnect that comes later has not removed it. What is claimed is not
connected, for all who ask.

Invariants
    O1  A claim comes first in one list, or nowhere; the first in a list counts until it is given
        back, and then the list ``rest`` of that claim takes over. So whoever walks the lists finds
        the same one, and a claim that was given back never counts again.
    O2  What becomes of a claim is decided in its ``decided``, where the first entry counts too.
        ``OVER``: claimed for good, and called or disconnected here. ``SPENT``: claimed for good,
        and a delivery calls it. ``BACK``: it was not called, because the executor took nothing, or
        the send was interrupted before.
    O3  Whoever finds a connection that is claimed for good removes it: who has claimed it may be in
        the receiver, or interrupted. Until then it keeps its place among the connections, so one
        that is given back is called where it was.
    O4  A connection under the same key finds what is claimed and undecided, decides that it is
        ``SPENT``, removes it, and takes its place: so the old one never comes back beside it. A
        disconnect removes what is claimed: given back, it is not there.

Interrupted before the receiver is called, a send gives it back; from the receiver's first bytecode
on, where CPython looks for signals, it was called. A handler that sends in the middle comes first
or comes too late, like any thread.

Who asks for several connections at once reads their claims twice. If no claim is another, and no
snapshot has come meanwhile, all of that held at the moment between (``unclaimed``).

In a forked child nobody goes on with the undecided claim of a thread that is not there: it is given
back by whoever finds it. If that is the very thread that has forked, its deliveries are lost there.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol, TypeVar

from tsignals._base.atomic import comes_first
from tsignals._base.errors import SKIPPED
from tsignals._base.identity import IdentityKey
from tsignals._base.process import here, notice, page
from tsignals._calling.tracking import Gate

OVER, SPENT, BACK = "over", "spent", "back"


class Removes(Protocol):
    """The registry of a connection, as what is claimed there sees it."""

    def remove(self, key: IdentityKey) -> object:
        """Remove it."""


class OnceClaim:
    """Who wants to be the one send that calls a receiver, or to disconnect it."""

    __slots__ = ("decided", "process", "rest")

    def __init__(self, *decided: str) -> None:
        if not page[0]:
            notice()
        self.process: object = here[0]
        self.decided: list[object] = [*decided]  # O2
        self.rest: list[OnceClaim] = []  # O1

    def is_given_back(self) -> bool:
        if not page[0]:
            notice()
        if not self.decided and self.process is not here[0]:
            self.decided.append(BACK)  # who was to decide is in the parent
        return self.decided[:1] == [BACK]


class Once:
    """The claims on one connection."""

    __slots__ = ("_claims", "_key", "_registry")

    def __init__(self, registry: Callable[[], Removes | None], key: IdentityKey) -> None:
        self._registry = registry
        self._key = key
        self._claims: list[OnceClaim] = []  # O1; those before are all given back

    @property
    def claimed_by(self) -> OnceClaim | None:
        """The claim that counts now."""
        claims = self._counting()
        return claims[0] if claims else None

    def _counting(self) -> list[OnceClaim]:
        claims = self._claims
        while claims and claims[0].is_given_back():
            claims = claims[0].rest
        return claims

    def enter(self, claim: OnceClaim) -> bool:
        """Whether ``claim`` comes first; what is already claimed for good goes (O3)."""
        first = comes_first(self._counting(), claim)
        if not first:
            self.clear()
        return first

    def call(
        self, gate: Gate | None, function: Callable[..., object], /, **keywords: object
    ) -> object:
        """What ``function(**keywords)`` gives; ``SKIPPED`` where somebody has claimed it before.

        gate: that of the connection, if ``function`` gives it a delivery that passes it later.
        """
        claim, how = OnceClaim(), OVER if gate is None else SPENT
        begun = False
        try:
            if not self.enter(claim):
                return SKIPPED
            # Stores, after which CPython looks for no signals before the call has begun.
            claim.decided = [how]
            begun = True
            return function(**keywords)
        finally:
            try:
                self._leave(claim, begun)
            finally:
                if begun and gate is not None:
                    try:
                        gate.close_after_last()
                    finally:
                        gate.close_after_last()  # once more: that may have been interrupted

    async def call_async(self, function: Callable[[], Coroutine[object, object, object]]) -> object:
        """What ``await function()`` gives; ``SKIPPED`` where somebody has claimed it before."""
        claim = OnceClaim()
        begun = False
        try:
            if not self.enter(claim):
                return SKIPPED
            claim.decided = [OVER]
            begun = True
            return await function()
        finally:
            self._leave(claim, begun)

    def _leave(self, claim: OnceClaim, begun: bool) -> None:
        if begun:
            self.clear()
            return
        try:
            self.give_back(claim)
        finally:
            self.give_back(claim)  # once more: that may have been interrupted

    def end(self) -> bool:
        """A disconnect has removed it: whether no send has claimed it before."""
        return comes_first(self._counting(), OnceClaim(OVER))

    def spend(self, claim: OnceClaim) -> bool:
        """Decide for good, and remove it; False where ``claim`` never counted, or is given back."""
        counts = comes_first(claim.decided, SPENT) and self.claimed_by is claim
        self.clear()
        return counts

    def give_back(self, claim: OnceClaim) -> None:
        """Let it be as if ``claim`` had never been entered; not if that is decided otherwise."""
        if comes_first(claim.decided, BACK) and self._claims[:1] == [claim]:
            self._claims = claim.rest  # or the lists would become a long way
        self.clear()

    def settle_if_claimed(self) -> bool:
        """Whether it is claimed, and from now on for good (O4)."""
        claim = self.claimed_by
        return claim is not None and (
            comes_first(claim.decided, SPENT) or not claim.is_given_back()
        )

    def clear_if_over(self) -> bool:
        """Whether it was called here, or disconnected: no delivery is to call it."""
        claim = self.claimed_by
        over = claim is not None and claim.decided[:1] == [OVER]
        if over:
            self.clear()  # once its gate is closed, no other send finds it here (O3)
        return over

    def clear(self) -> None:
        """Remove it if it is claimed for good (O3); its gate closes when the call has ended."""
        claim, registry = self.claimed_by, self._registry()
        # Looked at once more: it may have been given back meanwhile.
        if claim is not None and claim.decided[:1] not in ([], [BACK]) and registry is not None:
            registry.remove(self._key)


class Claimable(Protocol):
    """What was agreed on for a connection, as far as it says who may call it."""

    @property
    def once(self) -> Once | None: ...


class MayBeClaimed(Protocol):
    """A connection, as those see it who ask whether it is claimed."""

    @property
    def _options(self) -> Claimable: ...


class Shown(Protocol):
    """A registry, as those see it who ask which of its connections are claimed."""

    @property
    def snapshot(self) -> object: ...

    def current(self) -> object: ...


C = TypeVar("C", bound=MayBeClaimed)


def unclaimed(registry: Shown, look: Callable[[], list[C]]) -> list[C]:
    """What ``look()`` finds and nobody has claimed, at one moment of this call.

    It looks again only where something has changed meanwhile.
    """
    while True:
        snapshot = registry.current()
        found = look()
        once = [each._options.once for each in found]
        if not any(once):
            return found
        claims = _claims_on(once)
        if registry.snapshot is snapshot and claims == _claims_on(once):
            return [each for each, claim in zip(found, claims, strict=True) if claim is None]


def _claims_on(once: Iterable[Once | None]) -> list[OnceClaim | None]:
    return [None if each is None else each.claimed_by for each in once]
