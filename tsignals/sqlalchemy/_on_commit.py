"""``on_commit``: a receiver that waits for the commit of the session it was called about.

It is a ``background`` receiver but for one thing: what a plain send gives it is held back until the
commit. So names, methods, ``ordered``, and what ``send_async`` does with it, are the same.
"""

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, overload

from sqlalchemy.orm import InstanceState, attributes

from tsignals import background
from tsignals.sqlalchemy._commit import hold, refuse_instances, sync_session
from tsignals.sqlalchemy._signals import MODEL_SIGNALS

_Background: Any = type(background(print))


@overload
def on_commit(
    function: Callable[..., Any],
    *,
    executor: Executor | None = None,
    ordered: bool = False,
    retry: Any = None,
) -> "OnCommit": ...
@overload
def on_commit(
    function: None = None,
    *,
    executor: Executor | None = None,
    ordered: bool = False,
    retry: Any = None,
) -> "Callable[[Callable[..., Any]], OnCommit]": ...
def on_commit(
    function: Callable[..., Any] | None = None,
    *,
    executor: Executor | None = None,
    ordered: bool = False,
    retry: Any = None,
) -> "OnCommit | Callable[[Callable[..., Any]], OnCommit]":
    """Make ``function`` a receiver that runs in a pool once the send's ``session=`` has committed.

    As ``background``, whose arguments these are; connect it to ``post_save`` and the others, or to
    any signal that is sent with ``session=``. Its response is the ``Delivery``, which resolves
    with ``DeliveryDropped`` if the transaction is rolled back: see ``after_commit``.

    In place of ``instance`` and ``session`` the function gets ``identity``, the identity key
    (``identity[1]`` is the primary key): load it in a session of its own. That of a new instance
    in ``pre_save`` is taken at the commit; ``None`` if it was never written.

    The send raises ``TypeError`` if there is no ``session=``, or if another value is a session or
    an instance of one.
    """
    make = functools.partial(OnCommit, executor=executor, ordered=ordered, retry=retry)
    return make if function is None else make(function)


class OnCommit(_Background):  # type: ignore[misc]
    """What ``on_commit`` makes of a function."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        executor: Executor | None = None,
        ordered: bool = False,
        retry: Any = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"on_commit needs a callable, not {type(function).__name__!r}")
        more = {}
        if retry is not None:
            if "retry" not in inspect.signature(background).parameters:
                raise TypeError("on_commit cannot retry: background() of this version has none")
            more["retry"] = retry
        super().__init__(function, executor=executor, ordered=ordered, **more)
        self._more = more

    def deliver(
        self, receiver: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> "Future[Any]":
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
        late = None
        if any(signal is one for one in MODEL_SIGNALS) and "instance" in named:
            state = attributes.instance_state(named.pop("instance"))
            named["identity"] = state.key
            if state.key is None:
                # ``named`` is what the receiver, and whoever is told of its failure, will be given.
                late = functools.partial(_take_identity, state, named)
        refuse_instances(signal, {"sender": sender, **named})
        for name, value in (("sender", sender), ("signal", signal)):
            if name in keywords:
                named[name] = value
        prepared = self.prepare_for(receiver, arguments, named)
        hold(session, prepared, late)
        [(_, future)] = prepared.deliveries
        return future  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<on_commit {self.__qualname__}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        found = super().__reduce__()
        if isinstance(found, str):
            return found
        make = functools.partial(
            OnCommit, executor=self.executor, ordered=self.ordered, **self._more
        )
        return make, (self.__wrapped__,)


def _take_identity(state: InstanceState[Any], named: dict[str, Any]) -> None:
    named["identity"] = state.key
