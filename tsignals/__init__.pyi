# What type checkers are told. A signal is generic in the sender it is sent by and in the values it
# carries, as `Signal.declare` reads them off a function; any other is sent by any, with any values.
#
# A receiver may take the sender first, or the signal and then the sender, or the sender and then
# the signal, or neither; and values by name in any order. One that takes the sender by name only,
# or after a value, cannot be told from a wrong one, and is refused for a declared signal.

from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Any, Concatenate, Generic, Protocol, Self, TypeAlias, overload

from typing_extensions import ParamSpec, TypeVar

from tsignals._base.errors import DeliveryDropped as DeliveryDropped
from tsignals._base.errors import DeliveryLost as DeliveryLost
from tsignals._base.errors import PoolClosed as PoolClosed
from tsignals._base.errors import QueueFull as QueueFull
from tsignals._base.errors import TsignalsError as TsignalsError
from tsignals._base.retry import Retry as Retry
from tsignals._calling.outcomes import Failure as Failure
from tsignals._calling.outcomes import Outcomes as Outcomes
from tsignals._calling.runners import set_sync_runner as set_sync_runner
from tsignals._decorator import HasConnect
from tsignals._default import get_default_executor as get_default_executor
from tsignals._default import set_default_executor as set_default_executor
from tsignals._delivery.deliveries import Deliveries as Deliveries
from tsignals._delivery.delivery import Delivery as Delivery
from tsignals._delivery.prepared import Prepared as Prepared
from tsignals._pool.pool import WorkerPool as WorkerPool
from tsignals._pool.stats import PoolStats as PoolStats
from tsignals._registry.connection import Connection as Connection

__version__: str

_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_F = TypeVar("_F", bound=Callable[..., Any])
_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_I = TypeVar("_I")
_Sender = TypeVar("_Sender")
_SenderIn = TypeVar("_SenderIn", contravariant=True)
_Values = ParamSpec("_Values")
_Of = TypeVar("_Of", default=Any, contravariant=True)
_Named = ParamSpec("_Named", default=...)

# By name, for by name they are called.
class _HearsSender(Protocol[_SenderIn, _Values]):
    def __call__(
        self, sender: _SenderIn, *args: _Values.args, **named: _Values.kwargs
    ) -> object: ...

class _HearsSignal(Protocol[_SenderIn, _Values]):
    def __call__(
        self, signal: Any, sender: _SenderIn, *args: _Values.args, **named: _Values.kwargs
    ) -> object: ...

class _HearsNoSender(Protocol[_Values]):
    def __call__(self, signal: Any, *args: _Values.args, **named: _Values.kwargs) -> object: ...

class _HearsBoth(Protocol[_SenderIn, _Values]):
    def __call__(
        self, sender: _SenderIn, signal: Any, *args: _Values.args, **named: _Values.kwargs
    ) -> object: ...

_Fits: TypeAlias = (
    _HearsSender[_Sender, _Values]
    | _HearsSignal[_Sender, _Values]
    | _HearsBoth[_Sender, _Values]
    | _HearsNoSender[_Values]
    | Callable[_Values, object]
)
_Pairs: TypeAlias = list[tuple[Callable[..., Any], Any]]
_Ordered: TypeAlias = bool | Callable[..., Hashable]

class _Sends(Generic[_Of, _Named]):  # what a signal and its views have in common
    providing_args: tuple[str, ...]
    use_caching: bool
    name: str | None
    def connect(
        self,
        receiver: _Fits[_Of, _Named],
        sender: object = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        *,
        priority: int = 0,
        ordered: _Ordered = False,
        tracked: bool = False,
        once: bool = False,
        retry: Retry | None = None,
    ) -> Connection: ...
    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object = None,
        dispatch_uid: Hashable = None,
        *,
        wait: bool | float = False,
    ) -> bool: ...
    def has_listeners(self, sender: object = None) -> bool: ...
    @property
    def receivers(self) -> list[Connection]: ...
    def send(self, /, sender: _Of, *args: _Named.args, **named: _Named.kwargs) -> _Pairs: ...
    def send_robust(
        self, /, sender: _Of, *args: _Named.args, **named: _Named.kwargs
    ) -> Outcomes: ...
    def send_async(
        self, /, sender: _Of, *args: _Named.args, **named: _Named.kwargs
    ) -> Deliveries: ...
    def prepare(self, /, sender: _Of, *args: _Named.args, **named: _Named.kwargs) -> Prepared: ...
    async def asend(self, /, sender: _Of, *args: _Named.args, **named: _Named.kwargs) -> _Pairs: ...
    async def asend_robust(
        self, /, sender: _Of, *args: _Named.args, **named: _Named.kwargs
    ) -> Outcomes: ...
    def via(self, executor: Executor | None) -> _View[_Of, _Named]: ...
    @property
    def here(self) -> _View[_Of, _Named]: ...

class _View(_Sends[_Of, _Named]):
    @property
    def executor(self) -> Executor | None: ...
    def __getattr__(self, name: str) -> Any: ...  # what a subclass of the signal has besides

class Signal(_Sends[_Of, _Named]):
    executor: Executor | None
    def __init__(
        self,
        providing_args: Iterable[str] | None = None,
        use_caching: bool = False,
        *,
        name: str | None = None,
        executor: Executor | None = None,
        slow_after: float | None = None,
    ) -> None: ...
    @classmethod
    def declare(
        cls,
        stub: Callable[Concatenate[_Sender, _Values], None],
    ) -> _Declared[_Sender, _Values]: ...

# What `receiver` knows of: only there it matters whether a signal was declared. Nothing is both,
# by a method that they have otherwise: or mypy could not say what `receiver` gives.
class _IsNotDeclared(HasConnect, Protocol):
    def __sizeof__(self) -> int: ...

class _Declared(Signal[_Of, _Named]):
    def __sizeof__(self, declared: None) -> int: ...  # type: ignore[override]

class _Connects(Generic[_Sender, _Values]):
    def __call__(self, function: _Fits[_Sender, _Values], /) -> Callable[..., Any]: ...

@overload
def receiver(
    signal: _Declared[_Sender, _Values],
    *,
    sender: object = None,
    weak: bool = True,
    dispatch_uid: Hashable = None,
    priority: int = 0,
    ordered: _Ordered = False,
    tracked: bool = False,
    once: bool = False,
    retry: Retry | None = None,
) -> _Connects[_Sender, _Values]: ...
@overload
def receiver(
    signal: _IsNotDeclared | Iterable[HasConnect], **connect_arguments: object
) -> Callable[[_F], _F]: ...

class _Background(Generic[_P, _R_co]):
    ordered: _Ordered
    retry: Retry | None
    executor: Executor | None
    __qualname__: str
    __wrapped__: Callable[..., object]
    def __init__(
        self,
        function: Callable[_P, _R_co],
        *,
        executor: Executor | None = None,
        ordered: _Ordered = False,
        retry: Retry | None = None,
    ) -> None: ...
    def __call__(self, *args: _P.args, **named: _P.kwargs) -> Future[_R_co]: ...
    def prepare(self, *args: _P.args, **named: _P.kwargs) -> Prepared: ...
    def prepare_for(
        self,
        receiver: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, Any],
    ) -> Prepared: ...
    def deliver(
        self,
        receiver: Callable[..., object],
        arguments: tuple[object, ...],
        keywords: dict[str, Any],
    ) -> Future[_R_co]: ...
    def refuse(self, verb: str, signal: object, sender: object, named: dict[str, Any]) -> None: ...
    def options(self) -> dict[str, Any]: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: _Background[Concatenate[_I, _Q], _R], instance: _I, owner: type | None = None
    ) -> _Background[_Q, _R]: ...

class _MakesBackground(Protocol):
    @overload
    def __call__(
        self, function: Callable[_P, Coroutine[Any, Any, _R]], /
    ) -> _Background[_P, _R]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> _Background[_P, _R]: ...

@overload
def background(
    function: Callable[_P, Coroutine[Any, Any, _R]],
    *,
    executor: Executor | None = None,
    ordered: _Ordered = False,
    retry: Retry | None = None,
) -> _Background[_P, _R]: ...
@overload
def background(
    function: Callable[_P, _R],
    *,
    executor: Executor | None = None,
    ordered: _Ordered = False,
    retry: Retry | None = None,
) -> _Background[_P, _R]: ...
@overload
def background(
    function: None = None,
    *,
    executor: Executor | None = None,
    ordered: _Ordered = False,
    retry: Retry | None = None,
) -> _MakesBackground: ...

class Namespace(Mapping[str, Signal[Any, ...]]):
    def __init__(self) -> None: ...
    def signal(
        self,
        name: str,
        *,
        providing_args: Iterable[str] | None = None,
        use_caching: bool = False,
        executor: Executor | None = None,
        slow_after: float | None = None,
    ) -> Signal[Any, ...]: ...
    def __getitem__(self, name: str) -> Signal[Any, ...]: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

receiver_failed: Signal[Any, ...]
