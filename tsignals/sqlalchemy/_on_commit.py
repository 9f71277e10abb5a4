"""``on_commit``: a receiver that waits for the commit of the session it was called about.

It is a ``background`` receiver but for one thing: what a plain send gives it is held back until the
commit. So names, methods and ``ordered`` are the same, and so is what ``send_async`` does with it,
which takes no session and none of its instances.
"""

import functools
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, overload

from sqlalchemy.orm import InstanceState, attributes

from tsignals import Retry, background
from tsignals.sqlalchemy._commit import reason_to_refuse, refuse_instances, sync_session
from tsignals.sqlalchemy._signals import MODEL_SIGNALS
from tsignals.sqlalchemy._waiting import hold

Function = Callable[..., object]
Ordered = bool | Callable[..., Hashable]

if TYPE_CHECKING:
    from tsignals import _Background

    Background = _Background[..., object]
else:
    Background = type(background(print))


@overload
def on_commit(
    function: Function,
    *,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "OnCommit": ...
@overload
def on_commit(
    function: None = None,
    *,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "Callable[[Function], OnCommit]": ...
def on_commit(
    function: Function | None = None,
    *,
    executor: Executor | None = None,
    ordered: Ordered = False,
    retry: Retry | None = None,
) -> "OnCommit | Callable[[Function], OnCommit]":
    """Make ``function`` a receiver that runs in a pool once the send's ``session=`` has committed.

    As ``background``, whose arguments these are; connect it to ``post_save`` and the others, or to
    any signal that is sent with ``session=``. Its response is the ``Delivery``, which resolves
    with ``DeliveryDropped`` if the transaction is rolled back: see ``after_commit``.

    In place of ``instance`` and ``session`` the function gets ``identity``, the identity key
    (``identity[1]`` is the primary key): load it in a session of its own. That of a new instance
    in ``pre_save`` is taken at the commit; ``None`` if it was never written.

    The send raises ``TypeError`` if there is no ``session=``, or if another value is a session or
    an instance of one; ``send_async`` and ``prepare``, which wait for no commit, if any is.

    Thread safety: as ``background``; it is called on the session's thread.
    """
    if function is None:  # else OnCommit checks them here and now
        background(executor=executor, ordered=ordered, retry=retry)
    make = functools.partial(OnCommit, executor=executor, ordered=ordered, retry=retry)
    return make if function is None else make(function)


class OnCommit(Background):
    """What ``on_commit`` makes of a function."""

    made_by = "on_commit"
    gives_identity = True  # in place of what must not leave the session's thread

    def deliver(
        self, receiver: Function, arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> "Future[object]":
        """Hold the call back until the commit; the future it will resolve."""
        if "session" not in keywords:
            raise TypeError(
                f"cannot call {self!r}: the send has no session= to wait for; send one, or use "
                "background"
            )
        session = sync_session(keywords["session"], f"session= for {self!r}")
        named = dict(keywords)
        del named["session"]
        signal, sender = named.pop("signal", None), named.pop("sender", None)
        state = None
        if any(signal is one for one in MODEL_SIGNALS) and "instance" in named:
            state = attributes.instance_state(named.pop("instance"))
            named["identity"] = state.key
            if state.key is not None:
                state = None  # it stands for that row, whatever becomes of the instance
        refuse_instances(signal, {"sender": sender, **named})
        for name, value in (("sender", sender), ("signal", signal)):
            if name in keywords:
                named[name] = value
        prepared = self.prepare_for(receiver, arguments, named)
        # ``named`` is what the receiver, and whoever is told of its failure, will be given.
        hold(session, prepared, functools.partial(_at_commit, signal, named, state))
        [(_, future)] = prepared.deliveries
        return future

    def refuse(self, verb: str, signal: object, sender: object, named: dict[str, object]) -> None:
        """Raise for what must not leave its thread: the function would run before the commit."""
        if "session" in named:
            raise TypeError(
                f"cannot {verb} {signal!r} with a session: {self!r} would run before the commit; "
                "use send, or after_commit(session, signal, sender, ...)"
            )
        refuse_instances(signal, {"sender": sender, **named})


def _at_commit(
    signal: object, named: dict[str, object], state: InstanceState[object] | None
) -> str | None:
    if state is not None:
        named["identity"] = state.key
    return reason_to_refuse(signal, named)
